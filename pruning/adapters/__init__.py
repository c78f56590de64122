"""One file per architecture family; `adapter_for` finds what knows a configuration."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

from prunepolicy.pruning.adapters.base import ModelAdapter, Shapes
from prunepolicy.pruning.adapters.generic import check_counts, check_known, layer_only_adapter
from prunepolicy.pruning.adapters.registry import adapters
from prunepolicy.pruning.errors import UnsupportedModelError

__all__ = ["ModelAdapter", "adapter_for", "adapters"]


def adapter_for(config: dict[str, Any], shapes: Shapes | None = None) -> ModelAdapter:
    """Return the adapter whose family the configuration belongs to.

    Args:
        shapes: of the checkpoint's tensors; an unknown architecture of which no copy can be tried, but
            that is a stack of equal layers there, gets an adapter that offers these.

    Raises:
        UnsupportedModelError: when it isn't supported; the sentence says why, or which type was meant.
    """
    model_type = str(config.get("model_type", ""))
    for adapter in adapters.values():
        if model_type in adapter.model_types:
            return adapter.for_config(config)
    check_spelling(model_type)
    check_known(config)
    check_counts(config, shapes or {})
    # Trying needs torch, which what is written down doesn't.
    from prunepolicy.pruning.adapters.derived.found import NoTrialError, derived_adapter

    try:
        return derived_adapter(config)
    except NoTrialError:
        if shapes is None:
            raise
        return layer_only_adapter(config, shapes)


def check_spelling(model_type: str) -> None:
    """Raise `UnsupportedModelError` for what is almost the name of a supported model type."""
    import transformers

    if model_type in transformers.CONFIG_MAPPING:
        return
    known = [name for adapter in adapters.values() for name in adapter.model_types]
    for name in get_close_matches(model_type, known, n=1, cutoff=0.8):
        if not model_type.startswith(name):  # A younger generation ("llama5") is no typing error.
            raise UnsupportedModelError(f"No adapter knows model type {model_type!r}. Did you mean {name!r}?")
