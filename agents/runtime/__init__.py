"""Where work is done: in this process, in several, or in the actors of a Ray cluster, with equal results."""

from prunepolicy.agents.runtime.runner import LocalRunner, Runner, Shared

__all__ = ["LocalRunner", "Runner", "Shared"]
