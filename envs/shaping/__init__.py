"""One file per family of rewards: from a table of outcomes to one number per row."""

from prunepolicy.envs.shaping.registry import Outcomes, Rewards, Shaping, ShapingName, shaping, shapings

__all__ = ["Outcomes", "Rewards", "Shaping", "ShapingName", "shaping", "shapings"]
