"""One file per criterion: how much a unit matters, from statistics alone."""

from prunepolicy.pruning.criteria.registry import Criterion, Need, Scores, criteria, criterion

__all__ = ["Criterion", "Need", "Scores", "criteria", "criterion"]
