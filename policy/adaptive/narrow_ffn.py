"""The feed-forward blocks of a running model, with all channels or with those that were gathered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from prunepolicy.pruning.errors import UnsupportedModelError
from prunepolicy.pruning.statistics.gates import find_module, scale_entries
from prunepolicy.pruning.units import Slice, UnitGraph, UnitGroup

Units = Mapping[str, Tensor]
"""FFN group name to the sorted ids of the units that take part, on the CPU."""


@dataclass
class _Weight:
    """One tensor of a feed-forward block, which has entries of its channels along one axis.

    Attributes:
        parts: where along the axis; two for a projection that stacks gate and up.
        dense: the whole tensor.
        narrow: the gathered one; None before anything was gathered.
    """

    module: Any
    name: str
    parts: Sequence[Slice]
    dense: nn.Parameter
    narrow: nn.Parameter | None = None

    def gather(self, units: Tensor) -> None:
        """Copy the entries of `units`, into the memory of the last choice where that was as wide."""
        entries = [torch.from_numpy(part.indices(units.numpy()).reshape(-1)) for part in self.parts]
        index, axis = torch.cat(entries).to(self.dense.device), self.parts[0].axis
        shape = [*self.dense.shape]
        shape[axis] = len(index)
        if self.narrow is None or [*self.narrow.shape] != shape:
            self.narrow = nn.Parameter(self.dense.new_empty(shape), requires_grad=False)
        # Page faults cost more than the copy, so the memory is used again; `out` allows that.
        torch.index_select(self.dense, axis, index, out=self.narrow.data)

    def use(self, tensor: nn.Parameter) -> None:
        """Let the module compute with `tensor`."""
        self.module._parameters[self.name] = tensor
        if self.name == "weight" and hasattr(self.module, "nf"):  # transformers' Conv1D, as in GPT-2
            self.module.nf = tensor.shape[1]


class NarrowFfn:
    """The feed-forward blocks of a running model, which compute with all channels until `narrow` is called.

    Raises:
        UnsupportedModelError: when it doesn't hold the tensors of `groups` as its checkpoint describes them.
    """

    def __init__(self, model: nn.Module, groups: Sequence[UnitGroup], graph: UnitGraph) -> None:
        self._weights = {group.name: [*_weights(model, graph, group)] for group in groups}
        self._gates: Mapping[str, Tensor] = {}
        self._is_narrow = False
        for group in groups:
            _reader(model, group).register_forward_pre_hook(self._gate(group.name))

    @property
    def nbytes(self) -> int:
        """Bytes that the gathered copies take."""
        narrow = [weight.narrow for weights in self._weights.values() for weight in weights]
        return sum(tensor.nbytes for tensor in narrow if tensor is not None)

    def gather(self, units: Units, gates: Mapping[str, Tensor]) -> None:
        """Copy the entries of the chosen units.

        Args:
            units: of the groups that don't stay whole.
            gates: multipliers of the gathered channels, shape (batch, gathered), where the rows of a batch
                have masks of their own; empty where they share one.
        """
        # Outside of inference mode, whatever the caller reads in: the copies are used again.
        with torch.inference_mode(False), torch.no_grad():
            for name, kept in units.items():
                for weight in self._weights[name]:
                    weight.gather(kept)
        self._gates = gates

    def narrow(self) -> None:
        """Compute with what was gathered, until `widen` is called."""
        self._is_narrow = True
        for weights in self._weights.values():
            for weight in weights:
                if weight.narrow is not None:
                    weight.use(weight.narrow)

    def widen(self) -> None:
        """Compute with all channels."""
        if self._is_narrow:
            self._is_narrow = False
            for weights in self._weights.values():
                for weight in weights:
                    weight.use(weight.dense)

    def _gate(self, name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
            if not (self._is_narrow and name in self._gates):
                return None
            gates = self._gates[name].to(inputs[0].device)
            return (scale_entries(inputs[0], gates), *inputs[1:])

        return hook


def dense_groups(graph: UnitGraph) -> tuple[UnitGroup, ...]:
    """Return the groups of feed-forward channels.

    Raises:
        UnsupportedModelError: when there are none, or experts among them.
    """
    if "expert" in graph.kinds:
        raise UnsupportedModelError(
            f"This {graph.family} network has experts, whose channels can't be chosen at run time; "
            "networks without experts are."
        )
    if "ffn" not in graph.kinds:
        raise UnsupportedModelError(
            f"This {graph.family} network has no FFN channels that are known, so none can be chosen."
        )
    return graph.of_kind("ffn")


def _reader(model: nn.Module, group: UnitGroup) -> nn.Module:
    """Return the module that reads the channels, the down projection."""
    assert group.gate is not None
    return find_module(model, group.gate.module)


def _weights(model: nn.Module, graph: UnitGraph, group: UnitGroup) -> Iterator[_Weight]:
    """Yield the tensors that have entries of the group's channels.

    Raises:
        UnsupportedModelError: when the running model stores one otherwise, as quantised ones do.
    """
    for tensor in dict.fromkeys(part.tensor for part in group.slices):
        parts = [part for part in group.slices if part.tensor == tensor]
        place, _, name = tensor.rpartition(".")
        module = find_module(model, place)
        dense = module._parameters.get(name)
        if dense is None or tuple(dense.shape) != graph.tensors[tensor].shape:
            raise UnsupportedModelError(
                f"The running model doesn't hold {tensor!r} as its checkpoint does; quantised and split "
                "weights can't be gathered."
            )
        yield _Weight(module, name, parts, dense)
