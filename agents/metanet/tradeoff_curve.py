"""Accuracy by reduction of FLOPs right after cuts, with nothing but norm statistics measured again."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean

from torch import Tensor, nn

from prunepolicy.agents.metanet.pipeline import ranking
from prunepolicy.agents.metanet.recipe import PipelineRecipe
from prunepolicy.agents.recovery.norm_statistics import remeasure_norms
from prunepolicy.agents.recovery.stored import cut_network, load_network, save_network
from prunepolicy.agents.recovery.task import LearningTask, Part
from prunepolicy.policy.kinds.heuristic import Heuristic
from prunepolicy.pruning.io.temporary import temporary_folder

Curve = dict[float, float]
"""How many times less is left, to score."""
Outcomes = dict[float, Tensor]
"""The same to the outcomes on every sample, whose mean is the score."""


def outcomes_of(
    model: nn.Module,
    task: LearningTask,
    recipe: PipelineRecipe,
    speedups: Sequence[float],
    part: Part = "validation",
    policy: Heuristic | None = None,
) -> Outcomes:
    """Return the outcomes of `model` after cuts by `speedups`, by `policy` or as the recipe ranks."""
    outcomes: Outcomes = {}
    with temporary_folder() as folder:
        whole, cut = folder / "whole", folder / "cut"
        save_network(model, whole)
        device = next(model.parameters()).device
        for speedup in speedups:
            cut_network(whole, cut, policy or ranking(recipe), recipe.cut.budget(1 / speedup))
            pruned = remeasure_norms(load_network(cut).to(device), task)
            outcomes[speedup] = task.outcomes(pruned, part)
    return outcomes


def curve_of(outcomes: Outcomes) -> Curve:
    """Return the scores."""
    return {speedup: float(each.mean()) for speedup, each in outcomes.items()}


def height(curve: Curve) -> float:
    """Return the mean score, which equals the area under a curve of evenly spaced reductions."""
    return mean(curve.values())
