"""Controls: is a pruned network better than one of its shape trained from random weights?"""

from __future__ import annotations

from prunepolicy.agents.recovery.fit import FitRecipe


def from_scratch(dense: FitRecipe, speedup: float = 1.0) -> FitRecipe:
    """Return how the pruned shape is trained from nothing: as the dense network was, or for as long.

    Source: Liu et al., "Rethinking the Value of Network Pruning", section 3: Scratch-E has the dense
    network's epochs, Scratch-B its FLOPs.

    Args:
        speedup: 1 for Scratch-E; FLOPs of the dense network over those of the pruned one for Scratch-B.
    """
    return dense.model_copy(update={"epochs": round(dense.epochs * speedup)})
