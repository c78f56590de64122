"""One file per family of rewards: from a table of outcomes to one number per row."""

from prunepolicy.envs.shaping.registry import Outcomes, Rewards, Shaping, shaping, shapings

__all__ = ["Outcomes", "Rewards", "Shaping", "shaping", "shapings"]
