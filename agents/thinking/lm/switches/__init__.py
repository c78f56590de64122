"""One file per way to divide steps between imitation and reinforcement."""

from prunepolicy.agents.thinking.lm.switches.registry import Mixture, Observed, Switch, switches

__all__ = ["Mixture", "Observed", "Switch", "switches"]
