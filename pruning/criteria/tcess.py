"""Task-conditioned expected selection score: the router's logits where it is sure of an expert.

Source: "PreMoe: Lightening MoEs on Constrained Memory by Expert Pruning and Retrieval". A token's chosen
experts count where their softmax, among the chosen ones, is at least 0.1; the score is the mean of their
logits over all tokens of the calibration data, which is to be of the task.
"""

from __future__ import annotations

from torch import Tensor

from prunepolicy.pruning.criteria.registry import criterion
from prunepolicy.pruning.statistics.stats import Stats
from prunepolicy.pruning.units import UnitGraph, UnitGroup


@criterion("activations", kinds=("expert",))
def tcess(graph: UnitGraph, group: UnitGroup, stats: Stats) -> Tensor:
    """Return the mean of an expert's sure logits over all tokens."""
    return stats.get("sure_logit", group.name)
