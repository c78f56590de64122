"""A network beside the configuration that describes it, and where units lie by the names of its tensors."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from torch import nn

from prunepolicy.pruning.adapters.base import Config
from prunepolicy.pruning.adapters.derived.movement import Axis
from prunepolicy.pruning.adapters.derived.network import Network, network, text_part
from prunepolicy.pruning.adapters.derived.stack import Stack, text_stack


class NoGroupsError(Exception):
    """The axes that follow a number form no units; the sentence says why."""


@dataclass(frozen=True)
class UnitBlock:
    """One block of a layer that has units of a kind.

    Attributes:
        reader: the axis of the weight that reads them.
        writers: the other axes that they own.
        layer: None outside of the stack.
        name: what the names of its groups start with.
        module: the running module that reads them; None where it is stacked with others.
    """

    reader: Axis
    writers: tuple[Axis, ...]
    layer: int | None
    name: str
    module: str | None


@dataclass(frozen=True)
class Described:
    """A configuration, completed with all defaults, and the network that it describes.

    Attributes:
        auto_class: what transformers loads it with.
    """

    config: Config
    auto_class: str

    @cached_property
    def network(self) -> Network:
        """The network, without weights."""
        return network(self.config, self.auto_class)

    @cached_property
    def part(self) -> str:
        """The path of the configuration of what reads text; '' where that is the whole."""
        return text_part(self.config)

    @cached_property
    def stack(self) -> Stack | None:
        """The stack of layers that reads text, where there is one alone."""
        return text_stack(self.network, self.config, self.part)

    def blocks(self, axes: Iterable[Axis]) -> list[UnitBlock]:
        """Return who writes and who reads the units that own `axes`.

        Raises:
            NoGroupsError: when an axis belongs to no block, or a block reads units that nothing writes.
        """
        axes = list(axes)
        readers = [axis for axis in axes if self._reads(axis)]
        below: dict[str, list[Axis]] = defaultdict(list)
        for axis in (axis for axis in axes if not self._reads(axis)):
            for module in _modules_around(axis[0]):
                below[module].append(axis)
        left = {axis for found in below.values() for axis in found}
        found = {}
        for reader in sorted(readers, key=lambda axis: -axis[0].count(".")):
            nearest = (
                [axis for axis in below[module] if axis in left] for module in _modules_around(reader[0])
            )
            writers = next((writers for writers in nearest if writers), [])
            if not writers:
                raise NoGroupsError(f"{reader[0]} reads units that nothing writes")
            left -= set(writers)
            found[reader] = self._block(reader, tuple(writers))
        if left or not found:
            raise NoGroupsError(f"no weight reads the units of {min(left, default=('any tensor', 0))[0]}")
        return [found[reader] for reader in readers]

    def _block(self, reader: Axis, writers: tuple[Axis, ...]) -> UnitBlock:
        tensor = reader[0]
        layer, running = self.layer_of(tensor), self.network.running.get(tensor)
        named = (
            f"layers.{layer}"
            if self.stack and layer is not None
            else tensor.rpartition(".")[0].rpartition(".")[0]
        )
        return UnitBlock(reader, writers, layer, named, running.rpartition(".")[0] if running else None)

    def layer_of(self, tensor: str) -> int | None:
        """Return the layer that a tensor of the checkpoint lies in; None outside of the stack."""
        if self.stack is None:
            return next((int(part) for part in tensor.split(".") if part.isdigit()), None)
        number, marker, _ = tensor.removeprefix(self.stack.prefix).partition(".")
        inside = marker and tensor.startswith(self.stack.prefix) and number.isdigit()
        return int(number) if inside else None

    def _reads(self, axis: Axis) -> bool:
        """Return whether a weight reads along an axis what others wrote."""
        from transformers.pytorch_utils import Conv1D

        name, along = axis
        module = self.network.reader(name)
        if isinstance(module, nn.Linear):
            return along == 1
        if isinstance(module, Conv1D):
            return along == 0
        stack = self.network.stack_of(name)
        if stack is not None:
            return along == (1 if stack.is_transposed else 2)
        # One expert's matrix, which the running model stacks with those of the others.
        return name not in self.network.running and len(self.network.stored[name]) == 2 and along == 1


def _modules_around(name: str) -> Iterator[str]:
    """Yield the modules that hold a tensor, from the inside out, up to its layer or expert."""
    while "." in name:
        name, _, last = name.rpartition(".")
        if last.isdigit():
            return
        yield name
