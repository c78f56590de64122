"""One file per learning algorithm: what improves a policy, step by step."""

from prunepolicy.agents.algorithms.registry import (
    Assignment,
    Learner,
    LearnerState,
    SteppedLearner,
    algorithms,
)

__all__ = ["Assignment", "Learner", "LearnerState", "SteppedLearner", "algorithms"]
