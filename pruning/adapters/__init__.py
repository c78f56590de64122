"""One file per architecture family; `adapter_for` finds the one that knows a configuration."""

from __future__ import annotations

from typing import Any

from prunepolicy.pruning.adapters.base import ModelAdapter, Shapes
from prunepolicy.pruning.adapters.generic import layer_only_adapter
from prunepolicy.pruning.adapters.registry import adapters
from prunepolicy.pruning.errors import UnsupportedModelError, did_you_mean

__all__ = ["ModelAdapter", "adapter_for", "adapters"]


def adapter_for(config: dict[str, Any], shapes: Shapes | None = None) -> ModelAdapter:
    """Return the adapter whose family the configuration belongs to.

    Args:
        shapes: of the checkpoint's tensors; with them, an unknown architecture that is a stack of
            equal layers gets an adapter that offers these (its `notice` says so).

    Raises:
        UnsupportedModelError: when no adapter knows it; the sentence names the nearest type.
    """
    model_type = str(config.get("model_type", ""))
    for adapter in adapters.values():
        if model_type in adapter.model_types:
            return adapter.for_config(config)
    fallback = layer_only_adapter(config, shapes) if shapes else None
    if fallback is not None:
        return fallback.for_config(config)
    known = [name for adapter in adapters.values() for name in adapter.model_types]
    raise UnsupportedModelError(
        f"No adapter knows model type {model_type!r}.{did_you_mean(model_type, known)}"
    )
