"""Follow a network's signals once, without weights, and note which channels every weight reads and writes.

Beside every tensor that a call returns, the numbers of the nodes in it are kept: what moves entries moves
the numbers alike, so that reshapes, splits and concatenations need no rules of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from prunepolicy.metanet.weight_network.weight_graph.graph import WeightGraph
from prunepolicy.metanet.weight_network.weight_graph.wiring import NOBODY, Wiring

MOVES = frozenset(
    "__getitem__ __get__ cat chunk concat contiguous expand flatten movedim narrow permute repeat "
    "repeat_interleave reshape roll select split squeeze stack swapaxes t tensor_split transpose unbind "
    "unflatten unsqueeze view".split()
)
"""Functions that only move entries."""
REDUCTIONS = frozenset(("amax", "mean", "sum"))
OPAQUE = frozenset(("__matmul__", "baddbmm", "bmm", "einsum", "matmul"))
"""Functions whose results belong to no channel we could name."""


@dataclass(frozen=True)
class TorchCall:
    """One call of a torch function, and what it returned."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    result: Any

    @property
    def name(self) -> str:
        """The function's name, without the underscore of those that work in place."""
        name = self.function.__name__
        name = name if name.startswith("__") else name.removesuffix("_")
        return name

    def argument(self, position: int, name: str, otherwise: Any = None) -> Any:
        """Return an argument, however it was passed."""
        return self.args[position] if len(self.args) > position else self.kwargs.get(name, otherwise)


def trace(model: nn.Module, inputs: Mapping[str, Tensor]) -> WeightGraph:
    """Return the graph of a network's weights.

    Args:
        model: in evaluation mode, on any device; the meta device is enough.
        inputs: one small input: images by `pixel_values`, token numbers by `input_ids`.
    """
    follower = _Follower(model)
    follower.mark_images(inputs)
    with torch.no_grad(), follower:
        model(**inputs)
    return follower.wiring.graph()


class _Follower(TorchFunctionMode):
    """Sees every call while a network runs."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        tensors = dict(model.named_parameters()) | dict(model.named_buffers())
        self.wiring = Wiring({name: tuple(tensor.shape) for name, tensor in tensors.items()})
        self.names = {id(tensor): name for name, tensor in tensors.items()}
        self.found: dict[int, Tensor] = {}
        self.alive: list[Any] = list(tensors.values())  # so that no id is given twice
        self.rules: dict[str, Callable[[TorchCall], None]] = {
            **dict.fromkeys(MOVES, self.move),
            **dict.fromkeys(REDUCTIONS, self.reduce),
            **dict.fromkeys(OPAQUE, lambda call: None),
            **dict.fromkeys(("conv1d", "conv2d", "conv3d"), self.convolve),
            **dict.fromkeys(("batch_norm", "instance_norm"), self.batch_norm),
            **dict.fromkeys(("layer_norm", "group_norm", "rms_norm"), self.layer_norm),
            "linear": self.linear,
            "addmm": self.addmm,
            "embedding": self.embed,
            "scaled_dot_product_attention": self.attend,
        }

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Do what was called for, and note which nodes the result holds."""
        call = TorchCall(func, args, kwargs or {}, func(*args, **(kwargs or {})))
        if any(True for _ in _tensors(call.result)):
            self.alive.append((args, call.result))
            self.rules.get(call.name, self.combine)(call)
        return call.result

    def mark_images(self, inputs: Mapping[str, Tensor]) -> None:
        """Give the colours of images nodes."""
        for name, tensor in inputs.items():
            if tensor.is_floating_point():
                colours = self.wiring.add_nodes(name, tensor.shape[1])
                self.note(tensor, colours.view(1, -1, *[1] * (tensor.dim() - 2)))

    def note(self, tensor: Tensor, nodes: Tensor | None) -> None:
        """Remember which nodes a tensor holds; axes along which they don't differ have length 1."""
        if nodes is None:
            self.found.pop(id(tensor), None)
            return
        for axis in range(nodes.dim()):
            first = nodes.narrow(axis, 0, 1)
            nodes = first if bool((nodes == first).all()) else nodes
        self.found[id(tensor)] = nodes

    def channels(self, tensor: Tensor, axis: int) -> Tensor | None:
        """Return the nodes along one axis, where they differ along no other."""
        nodes = self.found.get(id(tensor))
        if nodes is None:
            return None
        along = nodes.expand(*[-1 if i == axis % tensor.dim() else n for i, n in enumerate(nodes.shape)])
        if along.numel() != along.shape[axis] or bool((along == NOBODY).any()):
            return None
        return along.flatten().expand(tensor.shape[axis]).clone()

    def name_of(self, tensor: Any) -> str | None:
        """Return the name of a tensor of the network, or of one that follows from it alone."""
        return self.names.get(id(tensor))

    def spread(self, tensor: Tensor, nodes: Tensor, axis: int) -> None:
        """Note nodes that differ along one axis only."""
        self.note(tensor, nodes.view([-1 if i == axis % tensor.dim() else 1 for i in range(tensor.dim())]))

    def move(self, call: TorchCall) -> None:
        """Do with node numbers what was done with the entries."""
        if not any(id(tensor) in self.found for tensor in _tensors(call.args)):
            return self.follow_parameter(call)
        moved = call.function(*self._numbers(call.args), **dict(call.kwargs))
        for tensor, nodes in zip(_tensors(call.result), _tensors(moved), strict=True):
            self.note(tensor, _filled(nodes))

    def _numbers(self, value: Any) -> Any:
        """Return arguments with node numbers in the place of tensors."""
        if isinstance(value, Tensor) and (value.is_floating_point() or id(value) in self.found):
            known = self.found.get(id(value))
            return (
                torch.full((1,) * value.dim(), NOBODY).expand(value.shape)
                if known is None
                else known.expand(value.shape)
            )
        if isinstance(value, tuple | list):
            return type(value)(self._numbers(item) for item in value)
        return value

    def reduce(self, call: TorchCall) -> None:
        """Keep the numbers along the axes that stay."""
        nodes = self.found.get(id(call.args[0]))
        axes = call.argument(1, "dim")
        if nodes is None or axes is None:
            return self.follow_parameter(call)
        axes = (axes,) if isinstance(axes, int) else tuple(axes)
        if all(nodes.shape[axis] == 1 for axis in axes):
            self.note(call.result, nodes.amax(axes, keepdim=call.argument(2, "keepdim", False)))

    def combine(self, call: TorchCall) -> None:
        """Note what comes of a function that works entry by entry, on one tensor or on several."""
        operands = [self.found[id(tensor)] for tensor in _tensors(call.args) if id(tensor) in self.found]
        if not operands:
            return self.follow_parameter(call)
        for result in _tensors(call.result):
            if not all(_fits(nodes, result) for nodes in operands):
                return
            kind = "multiply" if "mul" in call.name else "add"
            nodes = self.wiring.joined(kind, operands)
            self.note(result, self._with_vector(call, result, nodes, kind))

    def _with_vector(self, call: TorchCall, result: Tensor, nodes: Tensor, kind: str) -> Tensor:
        """Return nodes after a vector of the network was multiplied with them, or added."""
        vectors = [name for name in map(self.name_of, _tensors(call.args)) if name]
        channels = nodes.flatten()
        if (
            len(vectors) != 1
            or self.wiring.shapes[vectors[0]] != channels.shape
            or channels.numel() != max(nodes.shape)
        ):
            return nodes
        if kind == "multiply":
            return self.wiring.normed(channels, {"scale": vectors[0]}).view(nodes.shape)
        if not self.wiring.place(channels, "bias", vectors[0]):
            self.wiring.place(channels, "shift", vectors[0])
        return nodes

    def follow_parameter(self, call: TorchCall) -> None:
        """Let what follows from one tensor of the network alone, of its shape, stand for it."""
        names = [name for name in map(self.name_of, _tensors((call.args, *call.kwargs.values()))) if name]
        if len(names) == 1 and isinstance(call.result, Tensor):
            if tuple(call.result.shape) == self.wiring.shapes[names[0]]:
                self.names[id(call.result)] = names[0]

    def convolve(self, call: TorchCall) -> None:
        """Add the block of a convolution."""
        groups = call.argument(6, "groups", 1)
        self._write(call, self.channels(call.argument(0, "input"), 1), 1, groups=groups)

    def linear(self, call: TorchCall) -> None:
        """Add the block of a linear layer."""
        self._write(call, self.channels(call.argument(0, "input"), -1), -1)

    def _write(self, call: TorchCall, sources: Tensor | None, axis: int, groups: int = 1) -> None:
        weight, bias = self.name_of(call.argument(1, "weight")), self.name_of(call.argument(2, "bias"))
        if weight is None or weight in self.wiring.tables:
            return
        nodes = self.wiring.write(weight, sources, groups)
        self.wiring.place(nodes, "bias", bias)
        self.spread(call.result, nodes, axis)

    def addmm(self, call: TorchCall) -> None:
        """Add the block of a linear layer that is stored (in, out)."""
        bias, inputs, weight = call.args[:3]
        tensor = self.name_of(weight)
        if tensor is not None:
            nodes = self.wiring.write(tensor, self.channels(inputs, -1), transposed=True)
            self.wiring.place(nodes, "bias", self.name_of(bias))
            self.spread(call.result, nodes, -1)

    def embed(self, call: TorchCall) -> None:
        """Give the columns of a table nodes; the table itself is no block."""
        table = self.name_of(call.argument(1, "weight"))
        if table is None:
            return
        self.wiring.tables.add(table)
        module = table.rpartition(".")[0]
        known = self.wiring.nodes_of(module)
        size = self.wiring.shapes[table][1]
        self.spread(call.result, self.wiring.add_nodes(module, size) if known is None else known, -1)

    def batch_norm(self, call: TorchCall) -> None:
        """Put scale, shift and statistics on the nodes."""
        places = {
            "mean": (1, "running_mean"),
            "variance": (2, "running_var"),
            "scale": (3, "weight"),
            "shift": (4, "bias"),
        }
        self._norm(call, places, axis=1)

    def layer_norm(self, call: TorchCall) -> None:
        """Put scale and shift on the nodes."""
        places = {"scale": (2, "weight")} | ({} if call.name == "rms_norm" else {"shift": (3, "bias")})
        self._norm(call, places, axis=1 if call.name == "group_norm" else -1)

    def _norm(self, call: TorchCall, places: Mapping[str, tuple[int, str]], axis: int) -> None:
        slots = {slot: self.name_of(call.argument(*place)) for slot, place in places.items()}
        nodes = self.channels(call.argument(0, "input"), axis)
        if nodes is None or not any(slots.values()):
            return self.combine(call)
        self.spread(call.result, self.wiring.normed(nodes, slots), axis)

    def attend(self, call: TorchCall) -> None:
        """Give every head a node that hears its queries, keys and values, and every output one of its own."""
        query, key, value = (
            self._per_head(call.argument(i, name)) for i, name in enumerate(("query", "key", "value"))
        )
        if query is None or key is None or value is None:
            return
        heads = len(query)
        key, value = (part.repeat_interleave(heads // len(part), 0) for part in (key, value))
        name = self.wiring.set_of(value.flatten()[0]).name
        speakers = self.wiring.add_nodes(f"{name} heads", heads)
        outputs = self.wiring.add_nodes(f"{name} attended", value.numel())
        self.wiring.link("multiply", query.flatten(), key.flatten())
        self.wiring.link("attend", speakers, torch.cat([query, key, value], dim=1))
        heard = torch.stack([value.flatten(), speakers.repeat_interleave(value.shape[1])], dim=1)
        self.wiring.link("attend", outputs, heard)
        self.note(call.result, outputs.view(1, heads, 1, -1))

    def _per_head(self, tensor: Tensor) -> Tensor | None:
        """Return the nodes of every head, shape (heads, size of a head)."""
        nodes = self.found.get(id(tensor))
        if nodes is None or tensor.dim() != 4 or nodes.shape[0] != 1 or nodes.shape[2] != 1:
            return None
        return nodes.expand(1, tensor.shape[1], 1, tensor.shape[3])[0, :, 0]


def _tensors(value: Any) -> Iterable[Tensor]:
    """Yield the tensors in a value, one level of nesting after the other."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _tensors(item)


def _fits(nodes: Tensor, result: Tensor) -> bool:
    """Return whether node numbers can be those of a result."""
    return nodes.dim() <= result.dim() and all(
        n in (1, size) for n, size in zip(reversed(nodes.shape), reversed(result.shape), strict=False)
    )


def _filled(nodes: Tensor) -> Tensor | None:
    """Return numbers with gaps closed where the known ones leave no doubt (a class token before patches)."""
    unknown = nodes == NOBODY
    if bool(unknown.all()):
        return None
    if not bool(unknown.any()):
        return nodes
    for axis in range(nodes.dim()):
        along = nodes.amax(axis, keepdim=True)
        if bool(((unknown | (nodes == along)) & (along != NOBODY)).all()):
            return along.expand(nodes.shape)
    return nodes
