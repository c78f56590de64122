"""Run a dense model as plan and repair would leave it, without writing anything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from prunepolicy.pruning.checkpoint.cut import Edits
from prunepolicy.pruning.keep_masks import Indices, kept_indices, removed_units
from prunepolicy.pruning.plan import Plan
from prunepolicy.pruning.statistics.gates import find_module, masked
from prunepolicy.pruning.units import UnitGraph, consumer_of


@contextmanager
def edited(model: nn.Module, graph: UnitGraph, plan: Plan, edits: Edits) -> Iterator[None]:
    """Mask what `plan` removes and put the repaired values in place while the context lasts."""
    removed, running = removed_units(graph, plan.keep), _running_names(graph)
    with ExitStack() as stack:
        for name, value in edits.tensors.items():
            module_name, _, attribute = name.rpartition(".")
            module = find_module(model, running.get(module_name, module_name))
            old = getattr(module, attribute)
            if name not in graph.tensors and not value.any():
                continue  # A bias of zeros that only the configuration's switch asks for.
            new = value if old is None else _scattered(old, value, kept_indices(graph, removed, name))
            new = new.to(next(model.parameters())) if new.is_floating_point() else new
            is_buffer = attribute in dict(module.named_buffers(recurse=False))
            put = new if is_buffer else nn.Parameter(new, requires_grad=False)
            for holder, place in _tied(model, old) or [(module, attribute)]:
                setattr(holder, place, put)
                stack.callback(setattr, holder, place, old)
        stack.enter_context(masked(model, graph, plan))
        yield


def _tied(model: nn.Module, parameter: Tensor | None) -> list[tuple[nn.Module, str]]:
    """Return everywhere a parameter is used: embeddings may be the head's weights, too."""
    return [
        (module, name)
        for module in model.modules()
        for name, found in module.named_parameters(recurse=False)
        if found is parameter
    ]


def _running_names(graph: UnitGraph) -> dict[str, str]:
    """Return the running model's names of modules that checkpoints may call otherwise."""
    return {
        consumer_of(group).tensor.rpartition(".")[0]: group.gate.module
        for group in graph.of_kind("ffn")
        if group.gate is not None and group.gate.how == "input"
    }


def _scattered(dense: Tensor, kept: Tensor, indices: Mapping[int, Indices]) -> Tensor:
    """Return `dense` with the entries that stay replaced by the values of `kept`."""
    if not dense.dim():
        return kept
    axes = [
        torch.as_tensor(indices[axis]) if axis in indices else torch.arange(dense.shape[axis])
        for axis in range(dense.dim())
    ]
    result = dense.detach().clone()
    result[torch.meshgrid(*axes, indexing="ij")] = kept.to(result)
    return result
