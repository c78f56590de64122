"""One file per term of a reward for thinking: from a table of rollouts to one number per row."""

from prunepolicy.envs.thinking.terms.registry import Term, terms

__all__ = ["Term", "terms"]
