"""The loss increase of the pruned network relative to the Fisher ranking's at the same budget."""

from __future__ import annotations

import numpy as np

from prunepolicy.envs.shaping.registry import Outcomes, Rewards, shaping

SMALLEST = 1e-12


@shaping("quality", "loss_rise", "reference_rise")
def quality(outcomes: Outcomes) -> Rewards:
    """Return -log of the loss increase over the reference's; 0 is as good, 0.7 half its increase."""
    # The ratio gives networks and budgets the same scale; its logarithm makes twice and half weigh the same.
    ratios = np.maximum(outcomes["loss_rise"], SMALLEST) / np.maximum(outcomes["reference_rise"], SMALLEST)
    return 0.0 - np.log(np.maximum(ratios, SMALLEST))
