"""Where policies come from: one file per kind of place; the registry asks each whether a spelling is its."""

from prunepolicy.policy.zoo.sources.registry import Source, Stream, source_of, sources

__all__ = ["Source", "Stream", "source_of", "sources"]
