"""A cut inside a loss: what scores would keep at a budget, as masks that gradients pass."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from prunepolicy.agents.learned_pruning.gradient_gates import straight_through
from prunepolicy.agents.recovery.sparsity import group_squares
from prunepolicy.metanet.weight_network.weight_graph.graph import Weights
from prunepolicy.policy.base import Instruments
from prunepolicy.policy.budgeting import searched_groups, spend, task_for
from prunepolicy.pruning.plan import Budget
from prunepolicy.pruning.units import Keep, UnitGraph, UnitGroup

TEMPERATURE = 0.5
"""Width of the sigmoid around the threshold between what stays and what goes, in logarithms of scores."""
SMALLEST = 1e-12
FAINT = 1e-4
"""What is left of a unit that goes: behind a mask of 0, a ReLU passes no gradient that asks for it back."""


def budget_of(keep: float) -> Budget:
    """Return the budget of a share of all FLOPs, with any widths."""
    return Budget(keep, "flops", uniform=False, multiple_of=1)


def groups_of(graph: UnitGraph) -> tuple[UnitGroup, ...]:
    """Return the groups that a cut may take from."""
    return searched_groups(graph, budget_of(1.0))


def norm_logits(graph: UnitGraph, weights: Weights) -> dict[str, Tensor]:
    """Return the logarithm of the criterion `group_norm` as a function of weights that gradients pass."""
    squares = {group.name: group_squares(group, weights) for group in groups_of(graph)}
    return {name: (s / s.max().clamp(min=SMALLEST)).clamp(min=SMALLEST).log() for name, s in squares.items()}


def kept(graph: UnitGraph, logits: Mapping[str, Tensor], keep: float) -> Keep:
    """Return what stays of a network at a share of its FLOPs, ranked over all groups."""
    scores = {name: values.detach().cpu().exp() for name, values in logits.items()}
    task = task_for(graph, scores, budget_of(keep), Instruments(), comparable=True)
    return spend(task, "global_score")


def masks(logits: Mapping[str, Tensor], keep: Keep) -> dict[str, Tensor]:
    """Return 1 for units that stay and `FAINT` for others, with the gradient of a sigmoid of their logits."""
    hard = {name: straight_through(logits[name], units, TEMPERATURE) for name, units in keep.items()}
    return {name: mask + FAINT * (1 - mask.detach()) for name, mask in hard.items()}
