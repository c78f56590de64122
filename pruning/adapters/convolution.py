"""Convolution networks: which channels go together is read off a trace, not written down."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from prunepolicy.pruning.adapters.base import Config, ModelAdapter, Shapes
from prunepolicy.pruning.errors import BadCheckpointError, UnsupportedModelError
from prunepolicy.pruning.keep_masks import kept_shape, removed_units
from prunepolicy.pruning.plan import Plan
from prunepolicy.pruning.units import Gate, Slice, TensorSpec, UnitGraph, UnitGroup

NORM_VECTORS = ("weight", "bias", "running_mean", "running_var")
BUFFERS = ("running_mean", "running_var", "num_batches_tracked")
DEFAULT_SIDE = 224
"""Pixels, where a configuration says nothing: what ImageNet networks are trained with."""


class Part(NamedTuple):
    """One module's share in a set of coupled channels: the `indices` it writes or reads."""

    name: str
    module: nn.Module
    writes: bool
    indices: tuple[int, ...]


class ConvolutionAdapter(ModelAdapter):
    """Any arrangement of convolutions, batch norms and linear layers.

    A family adds its `tiny` configuration, what its configuration can't say (`tie`, `unit_width`),
    and how to write the widths that stay (`edit_config`).
    """

    task = "vision"
    auto_class = "AutoModelForImageClassification"

    def units(self, config: Config, shapes: Shapes) -> UnitGraph:
        """Build the unit graph: one group per set of channels that only go together."""
        model, images, positions = self.dry_run(config)
        check_shapes(model, shapes)
        coupled = coupled_channels(model, images, list(positions))
        groups = tuple(self.group(config, parts) for parts in coupled)
        specs = {name: tensor_spec(name, shape, positions) for name, shape in shapes.items()}
        return UnitGraph(self.family, specs, groups, edges_between(groups))

    def dry_run(self, config: Config) -> tuple[nn.Module, Tensor, dict[str, int]]:
        """Return the network without weights, its images, and where its modules are applied.

        Raises:
            BadCheckpointError: when `config` describes no network that runs.
        """
        try:
            model = self.build_on_meta(config).eval()
            settings: Any = model.config
            side = getattr(settings, "image_size", DEFAULT_SIDE)
            images = torch.zeros(2, settings.num_channels, side, side, device="meta")
            return model, images, count_positions(model, images)
        except Exception as error:  # There is no end to what a damaged configuration sets off.
            reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0].rstrip('.')}"
            raise BadCheckpointError(
                f"config.json describes no network of the {self.family} family that runs ({reason})."
            ) from error

    @property
    def family(self) -> str:
        """The registered name: that of the file."""
        return type(self).__module__.rsplit(".", 1)[-1]

    def tie(self, config: Config, parts: tuple[Part, ...]) -> str:
        """Return the configuration key that states how many of these channels there are."""
        return parts[0].name

    def unit_width(self, config: Config, parts: tuple[Part, ...]) -> int:
        """Return how many consecutive channels make one unit."""
        return 1

    def group(self, config: Config, parts: tuple[Part, ...]) -> UnitGroup:
        """Return coupled channels as a group, named after the first module that writes them."""
        channels, width = len(parts[0].indices), self.unit_width(config, parts)
        return UnitGroup(
            parts[0].name,
            "channel",
            channels // width,
            self.tie(config, parts),
            tuple(piece for part in parts for piece in slices_of(part, channels, width)),
            gate=gate_of(parts),
        )


def gate_of(parts: tuple[Part, ...]) -> Gate | None:
    """Return where coupled channels are silenced on a running model, if there is such a place.

    A channel is silent after its norm: before it, the shift would bring it back. What a depthwise convolution
    reads is silent after the norm behind that, and without any norm where a linear layer reads it.
    """
    filters = [number for number, part in enumerate(parts) if is_depthwise(part.module)]
    behind = parts[max(filters, default=-1) + 1 :]
    norms = [part.name for part in behind if isinstance(part.module, nn.BatchNorm2d)]
    if norms:
        return Gate(norms[0], "output", also=tuple(norms[1:]))
    readers = [part for part in behind if not part.writes]
    is_alone = len(readers) == 1 and isinstance(readers[0].module, nn.Linear)
    return Gate(readers[0].name) if is_alone else None


def is_depthwise(module: nn.Module) -> bool:
    """Return whether a module filters every channel by itself."""
    return isinstance(module, nn.Conv2d) and 1 < module.groups == module.in_channels == module.out_channels


def count_positions(model: nn.Module, images: Tensor) -> dict[str, int]:
    """Return, in the order in which they run, at how many places per image modules are applied."""
    positions: dict[str, int] = {}
    handles = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear | nn.BatchNorm2d):
            axis = -1 if isinstance(module, nn.Linear) else 1

            def hook(
                module: nn.Module, inputs: Any, output: Tensor, name: str = name, axis: int = axis
            ) -> None:
                positions[name] = output.numel() // (len(images) * output.shape[axis])

            handles.append(module.register_forward_hook(hook))
    model(images)
    for handle in handles:
        handle.remove()
    return positions


def coupled_channels(model: nn.Module, images: Tensor, order: list[str]) -> list[tuple[Part, ...]]:
    """Return the sets of channels that only go together, found by following `images`.

    Parts and sets come in the `order` in which modules run; a set's first part writes it.
    Source: Fang et al., "DepGraph: Towards Any Structural Pruning", section 3.

    Raises:
        UnsupportedModelError: when torch-pruning is missing.
    """
    try:
        from torch_pruning import DependencyGraph
    except ImportError as error:
        raise UnsupportedModelError(
            "Convolution networks need torch-pruning: pip install 'prunepolicy[vision]'."
        ) from error
    names = {module: name for name, module in model.named_modules()}
    graph = DependencyGraph().build_dependency(model, images, output_transform=_logits_of)
    coupled = []
    for found in graph.get_all_groups(root_module_types=(nn.Conv2d, nn.Linear)):
        parts = [
            Part(names[dep.target.module], dep.target.module, writes, tuple(map(int, indices)))
            for dep, indices in found
            for writes in [graph.is_out_channel_pruning_fn(dep.handler)]
            if dep.target.module in names
        ]
        if not all(part.writes for part in parts):  # Nobody reads the network's own outputs.
            coupled.append(tuple(sorted(parts, key=lambda part: order.index(part.name))))
    return sorted(coupled, key=lambda parts: order.index(parts[0].name))


def slices_of(part: Part, channels: int, width: int) -> list[Slice]:
    """Return the tensor entries that a module holds for coupled channels, `width` of them a unit.

    Raises:
        UnsupportedModelError: when the module is of no known kind, or the entries are scattered.
    """
    name, module, writes, indices = part
    spread = len(indices) // channels  # entries per channel; above 1 after a flatten
    start = indices[0]
    if indices != tuple(range(start, start + channels * spread)):
        raise UnsupportedModelError(f"{name} holds coupled channels in an order that no slice describes.")
    if isinstance(module, nn.BatchNorm2d):
        vectors = [vector for vector in NORM_VECTORS if getattr(module, vector) is not None]
        return [Slice(f"{name}.{vector}", 0, width * spread, start) for vector in vectors]
    is_grouped = getattr(module, "groups", 1) > 1 and not is_depthwise(module)
    if not isinstance(module, nn.Conv2d | nn.Linear) or is_grouped:
        raise UnsupportedModelError(f"Channels that pass {name} ({type(module).__name__}) can't be cut yet.")
    if not writes:
        return [Slice(f"{name}.weight", 1, width * spread, start, consumer=True)]
    vectors = ["weight"] if module.bias is None else ["weight", "bias"]
    return [Slice(f"{name}.{vector}", 0, width * spread, start) for vector in vectors]


def tensor_spec(name: str, shape: tuple[int, ...], positions: dict[str, int]) -> TensorSpec:
    """Price one tensor: 2 operations per weight and place; vectors cost nothing."""
    module, _, kind = name.rpartition(".")
    flops = 2.0 * positions.get(module, 0) if len(shape) >= 2 else 0.0
    return TensorSpec(shape, flops, is_parameter=kind not in BUFFERS)


def edges_between(groups: tuple[UnitGroup, ...]) -> tuple[tuple[int, int], ...]:
    """Return pairs of group indices: some module reads the first and writes the second."""
    writer = {
        part.tensor: index
        for index, group in enumerate(groups)
        for part in group.slices
        if part.axis == 0 and not part.consumer
    }
    return tuple(
        dict.fromkeys(
            (index, writer[part.tensor])
            for index, group in enumerate(groups)
            for part in group.slices
            if part.consumer and part.tensor in writer
        )
    )


def check_shapes(model: nn.Module, shapes: Shapes) -> None:
    """Raise `BadCheckpointError` unless the tensors are those of `model`."""
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    for name in {**expected, **shapes}:
        if expected.get(name) != shapes.get(name):
            raise BadCheckpointError(
                f"config.json implies shape {expected.get(name)} for {name!r}; "
                f"the checkpoint has {shapes.get(name)}."
            )


def shapes_after(graph: UnitGraph, plan: Plan) -> dict[str, tuple[int, ...]]:
    """Return the shapes of all tensors after `plan`."""
    removed = removed_units(graph, plan.keep)
    return {name: kept_shape(graph, removed, name) for name in graph.tensors}


def _logits_of(output: Any) -> Tensor:
    logits: Tensor = output if isinstance(output, Tensor) else output.logits
    return logits
