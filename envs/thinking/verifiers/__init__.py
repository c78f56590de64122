"""One file per way to check an answer."""

from prunepolicy.envs.thinking.verifiers.registry import Question, Verdict, Verifier, verifiers

__all__ = ["Question", "Verdict", "Verifier", "verifiers"]
