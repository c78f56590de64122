"""A ternary reward: stopping early is worth more than ruining the network.

Source: the reward of TruthRL (+1 right, 0 abstained, -1 wrong), with pruning in the place of answers.
"""

from __future__ import annotations

import numpy as np

from prunepolicy.envs.shaping.registry import Outcomes, Rewards, shaping

TOLERANCE = 1e-9


@shaping("ternary", "loss_rise", "reference_rise", "used", "budget")
def ternary(outcomes: Outcomes) -> Rewards:
    """Return 1 where budget and quality are met, 0 for stopping early, -1 for a rise above the reference."""
    ruined = outcomes["loss_rise"] > outcomes["reference_rise"] * (1 + TOLERANCE)
    met = outcomes["used"] <= outcomes["budget"] + TOLERANCE
    return np.where(ruined, -1.0, np.where(met, 1.0, 0.0))
