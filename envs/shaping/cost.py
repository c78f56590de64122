"""The share of the network's cost that stays."""

from __future__ import annotations

from prunepolicy.envs.shaping.registry import Outcomes, Rewards, shaping


@shaping("cost", "used")
def cost(outcomes: Outcomes) -> Rewards:
    """Return minus the share of the budgeted quantity that stays."""
    return -outcomes["used"]
