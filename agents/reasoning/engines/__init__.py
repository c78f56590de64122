"""One file per engine that writes completions."""

from prunepolicy.agents.reasoning.engines.registry import Completions, Engine, Request, Sampling, engines

__all__ = ["Completions", "Engine", "Request", "Sampling", "engines"]
