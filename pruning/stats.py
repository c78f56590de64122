"""Numbers per unit that criteria and policies read: from the weights, and from one probe pass."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from prunepolicy.pruning.checkpoint import Checkpoint
from prunepolicy.pruning.errors import PrunePolicyError
from prunepolicy.pruning.units import Slice, UnitGraph, UnitGroup, written_by


@dataclass(frozen=True)
class Stats:
    """Statistics by name, then by group; each one number per unit unless said otherwise.

    From weights: `weight_l1`, `weight_l2`, `weight_linf` over all entries a unit owns; `norm_scale`,
    the mean absolute factor of the batch norms that write a unit (channels only).
    From activations: `rms`, `max`, `first_rms` (first position only), `output` (root mean square
    of what the unit adds to the layer's output), `angular` (layers: angle between input and
    output, as a share of pi), `mean` (one number per gated entry).
    From gradients: `gradients`, shape (samples, units), the derivative of every sample's loss with
    respect to the unit's gate.
    From drops (layers only): `drops`, how far the output moves when the layer goes alone.
    From rows (feed-forward blocks only): `rows`, shape (units, 4), norms and leverage, and `scored`, the
    matrix itself that PruneNet scores.

    Attributes:
        seed: for whatever is random in reading them.
        fingerprint: of the checkpoint that they describe.
    """

    values: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    seed: int = 0
    fingerprint: str = ""

    def get(self, statistic: str, group: str) -> Tensor:
        """Return one statistic of one group.

        Raises:
            PrunePolicyError: when it was not collected.
        """
        try:
            return self.values[statistic][group]
        except KeyError:
            raise PrunePolicyError(
                f"The statistic {statistic!r} is not available for {group!r} of this model; "
                "choose another criterion or other units."
            ) from None

    def merged(self, other: Stats) -> Stats:
        """Return these statistics and `other`'s; the other's win."""
        return Stats({**self.values, **other.values}, self.seed, self.fingerprint)


def weight_stats(checkpoint: Checkpoint, groups: Iterable[UnitGroup]) -> Stats:
    """Return the weights' norms per unit, reading one tensor at a time."""
    graph, chosen = checkpoint.graph, {group.name for group in groups}
    l1 = {name: torch.zeros(graph[name].size) for name in chosen}
    squares = {name: torch.zeros(graph[name].size) for name in chosen}
    linf = {name: torch.zeros(graph[name].size) for name in chosen}
    for tensor in checkpoint.tensors:
        parts = [(g, p) for g, p in graph.slices_of.get(tensor, ()) if g.name in chosen]
        owners = [(g, u) for g, u in graph.owner_of(tensor) if g.name in chosen]
        if not (parts or owners) or not graph.tensors[tensor].is_parameter:
            continue
        weights = checkpoint.read(tensor).float().abs()
        for group, part in parts:
            l1[group.name] += per_unit(weights, group, part, "sum")
            squares[group.name] += per_unit(weights.square(), group, part, "sum")
            largest = per_unit(weights, group, part, "max")
            linf[group.name] = torch.maximum(linf[group.name], largest)
        for group, unit in owners:
            l1[group.name][unit] += weights.sum()
            squares[group.name][unit] += weights.square().sum()
            linf[group.name][unit] = max(linf[group.name][unit], weights.max())
    l2 = {name: total.sqrt() for name, total in squares.items()}
    normed = [g for g in map(graph.__getitem__, chosen) if g.kind == "channel" and g.gate is not None]
    scales = {group.name: norm_scale(checkpoint, group) for group in normed}
    return Stats({"weight_l1": l1, "weight_l2": l2, "weight_linf": linf, "norm_scale": scales})


def norm_scale(checkpoint: Checkpoint, group: UnitGroup) -> Tensor:
    """Return the mean absolute factor of the batch norms that write each channel of `group`."""
    assert group.gate is not None
    parts = [written_by(group, module) for module in (group.gate.module, *group.gate.also)]
    factors = [per_unit(checkpoint.read(p.tensor).float().abs(), group, p, "sum") / p.width for p in parts]
    return torch.stack(factors).mean(0)


def per_unit(weights: Tensor, group: UnitGroup, part: Slice, reduce: str) -> Tensor:
    """Reduce a tensor to one number per unit over all entries that `part` gives it."""
    entries = weights.movedim(part.axis, 0).reshape(weights.shape[part.axis], -1)
    along = entries.amax(1) if reduce == "max" else entries.sum(1)
    indices = torch.from_numpy(part.indices(torch.arange(group.size).numpy()))
    owned = along[indices]  # blocks units width
    return owned.amax((0, 2)) if reduce == "max" else owned.sum((0, 2))


def group_costs(graph: UnitGraph, group: UnitGroup) -> int:
    """Return the number of parameters that one unit of `group` owns in the whole network."""
    if group.prefix:
        owned = [name for name in graph.tensors if name.startswith(f"{group.prefix}0.")]
        return sum(_entries(graph, name) for name in owned)
    total = 0
    for part in group.slices:
        spec = graph.tensors[part.tensor]
        if spec.is_parameter:
            total += _entries(graph, part.tensor) // spec.shape[part.axis] * part.width * part.blocks
    return total


def _entries(graph: UnitGraph, tensor: str) -> int:
    return int(torch.Size(graph.tensors[tensor].shape).numel())
