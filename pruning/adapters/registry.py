"""The registry of architecture families."""

from __future__ import annotations

from prunepolicy.pruning.adapters.base import ModelAdapter
from prunepolicy.pruning.registry import Registry

adapters: Registry[ModelAdapter] = Registry("architecture", "prunepolicy.pruning.adapters")


def register(adapter: type[ModelAdapter]) -> type[ModelAdapter]:
    """Add an adapter class to the registry (use as a decorator)."""
    adapters.register(adapter())
    return adapter
