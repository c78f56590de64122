"""A cut inside a loss: what group norms would keep, as masks that gradients pass."""

from __future__ import annotations

from torch import Tensor

from prunepolicy.agents.algorithms.gradient_gates import straight_through
from prunepolicy.agents.recovery.sparsity import group_squares
from prunepolicy.metanet.weight_graph.graph import Weights
from prunepolicy.policy.base import Instruments
from prunepolicy.policy.spending import searched_groups, spend, task_for
from prunepolicy.pruning.plan import Budget
from prunepolicy.pruning.units import Keep, UnitGraph, UnitGroup

TEMPERATURE = 0.5
"""Width of the sigmoid around the threshold between what stays and what goes, in logarithms of scores."""
SMALLEST = 1e-12


def scores_of(group: UnitGroup, weights: Weights) -> Tensor:
    """Return the criterion `group_norm` as a function of weights that gradients pass, shape (units,)."""
    squares = group_squares(group, weights)
    return squares / squares.max().clamp(min=SMALLEST)


def kept_by_norm(graph: UnitGraph, weights: Weights, keep: float) -> Keep:
    """Return what stays when a network is cut to a share of its operations, ranked over all groups."""
    budget = Budget(keep, "flops", uniform=False, multiple_of=1)
    scores = {
        group.name: scores_of(group, weights).detach().cpu() for group in searched_groups(graph, budget)
    }
    task = task_for(graph, scores, budget, Instruments(), comparable=True)
    return spend(task, "global_score", exact=False)


def masks(graph: UnitGraph, weights: Weights, keep: Keep) -> dict[str, Tensor]:
    """Return 1 for units that stay and 0 for others, with the gradient of a sigmoid of the scores."""
    logits = {name: scores_of(graph[name], weights).clamp(min=SMALLEST).log() for name in keep}
    return {name: straight_through(logits[name], units, TEMPERATURE) for name, units in keep.items()}
