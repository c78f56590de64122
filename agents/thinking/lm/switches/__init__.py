"""One file per way to divide steps between imitation and reinforcement."""

from prunepolicy.agents.thinking.lm.switches.registry import Mixture, Switch, SwitchObservation, switches

__all__ = ["Mixture", "Switch", "SwitchObservation", "switches"]
