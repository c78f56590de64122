"""One file per engine that writes completions."""

from prunepolicy.agents.thinking.lm.engines.registry import (
    Chunk,
    Completions,
    Engine,
    Request,
    Sampling,
    engines,
)

__all__ = ["Chunk", "Completions", "Engine", "Request", "Sampling", "engines"]
