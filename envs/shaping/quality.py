"""How well the smaller network still predicts, beside what the Fisher ranking makes of the same budget."""

from __future__ import annotations

import numpy as np

from prunepolicy.envs.shaping.registry import Outcomes, Rewards, shaping

SMALLEST = 1e-12


@shaping("quality", "loss_rise", "reference_rise")
def quality(outcomes: Outcomes) -> Rewards:
    """Return -log of the rise of the loss over the reference's; 0 is as good, 0.7 half its rise.

    The ratio makes networks and budgets of all sizes equally important.
    """
    ratios = np.maximum(outcomes["loss_rise"], SMALLEST) / np.maximum(outcomes["reference_rise"], SMALLEST)
    return 0.0 - np.log(np.maximum(ratios, SMALLEST))
