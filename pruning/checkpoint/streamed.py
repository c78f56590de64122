"""Run a model that is larger than the memory: layers are read from disk when they run, and dropped again.

Everything else (embeddings, norms, the head) stays. Where gradients are taken, a layer runs once more on the
way back, so that its weights are in memory on the way forth and on the way back only (Chen et al., "Training
Deep Nets with Sublinear Memory Cost").
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.utils.checkpoint import checkpoint as run_again

from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.checkpoint.loading import carries_code, let_read_rows

LAYERS_AT_ONCE = 2
"""Layers whose weights may be in memory together: one that is read, and one that isn't given up yet."""


@dataclass(frozen=True)
class StreamedParts:
    """Which of a checkpoint's tensors are read when.

    Attributes:
        layers: path of every running layer to its tensors, running name to stored name.
        others: all other tensors.
    """

    layers: dict[str, dict[str, str]]
    others: dict[str, str]

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> StreamedParts | None:
        """Return the parts; None for networks that can't be read layer by layer.

        They have no layers, or code of their own, or stack what their files hold one by one (experts).
        """
        gate = next((group.gate for group in checkpoint.graph.of_kind("layer") if group.gate), None)
        if gate is None or carries_code(checkpoint.folder):
            return None
        within = re.compile(rf"(?:.*?\.)?{re.escape(gate.module)}\.\d+(?=\.)")
        layers: dict[str, dict[str, str]] = {}
        others: dict[str, str] = {}
        for running, stored in _stored(checkpoint).items():
            layer = within.match(running)
            (layers.setdefault(layer[0], {}) if layer else others)[running] = stored
        return cls(layers, others) if layers else None

    def memory_needed(self, checkpoint: Checkpoint, dtype: torch.dtype) -> int:
        """Return the bytes of the weights that are in memory together."""
        entries = [_entries(checkpoint, layer) for layer in self.layers.values()]
        return (_entries(checkpoint, self.others) + LAYERS_AT_ONCE * max(entries)) * dtype.itemsize


def load_streamed(
    checkpoint: Checkpoint, parts: StreamedParts, dtype: torch.dtype, device: torch.device
) -> nn.Module:
    """Return a running model in evaluation mode whose layers read their weights each time they run."""
    model = _without_weights(checkpoint)
    let_read_rows(model, checkpoint.adapter)
    read = partial(_read, checkpoint, dtype=dtype, device=device)
    for name, stored in parts.others.items():
        _put(model, name, read(stored))
    tie = getattr(model, "tie_weights", None)
    if tie is not None:
        tie()
    for path, names in parts.layers.items():
        layer = model.get_submodule(path)
        within = {name.removeprefix(f"{path}."): stored for name, stored in names.items()}
        layer.forward = partial(_forward, layer, layer.forward, within, read)
    for name, buffer in list(model.named_buffers()):
        if not buffer.is_meta:
            _put(model, name, buffer.to(device))
    return model.eval()


class _Recomputing:
    """Whether a layer runs for the second time."""

    now = False


def runs_again() -> bool:
    """Return whether a streamed layer runs only for its gradient: what watches layers has seen it then."""
    return _Recomputing.now


def _forward(
    layer: nn.Module,
    original: Callable[..., Any],
    names: dict[str, str],
    read: Callable[[str], Tensor],
    *inputs: Any,
    **named: Any,
) -> Any:
    """Run a layer with its weights in place."""

    def run(*inputs: Any, **named: Any) -> Any:
        empty = {name: _attribute(layer, name) for name in names}
        try:
            for name, stored in names.items():
                _put(layer, name, read(stored))
            return original(*inputs, **named)
        finally:
            for name, tensor in empty.items():
                _put(layer, name, tensor)

    if not torch.is_grad_enabled():
        return run(*inputs, **named)
    return run_again(run, *inputs, use_reentrant=False, context_fn=_contexts, **named)


def _contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return nullcontext(), _recomputing()


@contextmanager
def _recomputing() -> Iterator[None]:
    _Recomputing.now = True
    try:
        yield
    finally:
        _Recomputing.now = False


def _stored(checkpoint: Checkpoint) -> dict[str, str]:
    """Return where each tensor of the running model is stored; nothing where one is stored otherwise."""
    model = checkpoint.adapter.build_on_meta(checkpoint.config)
    tied, known = getattr(model, "all_tied_weights_keys", None) or {}, checkpoint.shapes
    found = {}
    for name, tensor in model.state_dict().items():
        if name in tied:
            continue
        stored = checkpoint.stored_names.get(name, "")
        if known.get(stored) != tuple(tensor.shape):
            return {}
        found[name] = stored
    return found


def _without_weights(checkpoint: Checkpoint) -> nn.Module:
    """Return the running model with parameters that take no memory, and with its buffers."""

    def emptied(module: nn.Module, name: str, parameter: nn.Parameter | None) -> nn.Parameter | None:
        return None if parameter is None else nn.Parameter(parameter.to("meta"), requires_grad=False)

    hook: Callable[..., Any] = emptied  # torch types it as if what it returns were not used
    handle = register_module_parameter_registration_hook(hook)
    try:
        return checkpoint.adapter.build(checkpoint.config)
    finally:
        handle.remove()


def _read(checkpoint: Checkpoint, stored: str, dtype: torch.dtype, device: torch.device) -> Tensor:
    tensor = checkpoint.read(stored)
    return tensor.to(device, dtype) if tensor.is_floating_point() else tensor.to(device)


def _put(module: nn.Module, name: str, tensor: Tensor) -> None:
    """Set a parameter or a buffer by its name."""
    path, _, leaf = name.rpartition(".")
    holder = module.get_submodule(path)
    if leaf in holder._parameters:
        holder._parameters[leaf] = nn.Parameter(tensor.detach(), requires_grad=False)
    else:
        holder._buffers[leaf] = tensor


def _attribute(module: nn.Module, name: str) -> Tensor:
    path, _, leaf = name.rpartition(".")
    found: Tensor = getattr(module.get_submodule(path), leaf)
    return found


def _entries(checkpoint: Checkpoint, names: dict[str, str]) -> int:
    return sum(math.prod(checkpoint.shapes[stored]) for stored in names.values())
