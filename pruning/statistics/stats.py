"""Numbers per unit that criteria and policies read: from the weights, and from one probe pass."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.errors import PrunePolicyError, did_you_mean
from prunepolicy.pruning.units import Slice, UnitGraph, UnitGroup, written_by


@dataclass(frozen=True)
class Stats:
    """Statistics by name, then by group; each one number per unit unless said otherwise.

    From weights: `weight_l1`, `weight_l2`, `weight_linf` over all entries a unit owns; `member_square`, the
    squared Euclidean norm in one weight, the mean over all weights that hold a part of the unit;
    `norm_scale`, the mean absolute factor of the batch norms that write a unit (channels only).
    From activations: `rms`, `max`, `first_rms` (first position only), `output` (root mean square
    of what the unit adds to the layer's output), `angular` (layers: angle between input and
    output, as a share of pi), `mean` (one number per gated entry), `tokens` (one number: how many rows the
    gate saw).
    From gradients: `gradients`, shape (samples, units), the derivative of every sample's loss with
    respect to the unit's gate.
    From drops (layers only): `drops`, how far the output moves when the layer goes alone.
    From tokens (the vocabulary only): `token_cost`, the rise of a sample's loss when a token goes, in nats.
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
            raise PrunePolicyError(self._missing(statistic, group)) from None

    def _missing(self, statistic: str, group: str) -> str:
        """Return why there is no such statistic, and which there are."""
        there = [name for name, groups in self.values.items() if group in groups]
        if statistic in self.values or not there:
            return (
                f"The statistic {statistic!r} is not available for {group!r} of this model; "
                "choose another criterion or other units."
            )
        return f"There is no statistic {statistic!r} of {group!r}.{did_you_mean(statistic, there)}"

    def merged(self, other: Stats) -> Stats:
        """Return these statistics and `other`'s; the other's win."""
        return Stats({**self.values, **other.values}, self.seed, self.fingerprint)


def weight_stats(checkpoint: Checkpoint, groups: Iterable[UnitGroup]) -> Stats:
    """Return the weights' norms per unit, reading one tensor at a time."""
    graph, chosen = checkpoint.graph, {group.name for group in groups}
    norms = _Norms({name: graph[name].size for name in chosen})
    for tensor in checkpoint.tensors:
        parts = [(g, p) for g, p in graph.slices_of.get(tensor, ()) if g.name in chosen]
        owners = [(g, u) for g, u in graph.owner_of(tensor) if g.name in chosen]
        if not (parts or owners) or not graph.tensors[tensor].is_parameter:
            continue
        weights = checkpoint.read(tensor).float().abs()
        for group, part in parts:
            owned = [per_unit(entries, group, part, how) for entries, how in _summed(weights)]
            norms.add(group.name, slice(None), owned, is_weight(tensor))
        for group, unit in owners:
            owned = [weights.sum(), weights.square().sum(), weights.max()]
            norms.add(group.name, unit, owned, is_weight(tensor))
    normed = [g for g in map(graph.__getitem__, chosen) if g.kind == "channel" and is_normed(g)]
    scales = {group.name: norm_scale(checkpoint, group) for group in normed}
    return Stats({**norms.values(), "norm_scale": scales})


class _Norms:
    """Sums over tensors as they are read."""

    def __init__(self, sizes: Mapping[str, int]) -> None:
        self.l1, self.squares, self.linf, self.member_squares, self.members = (
            {name: torch.zeros(size) for name, size in sizes.items()} for _ in range(5)
        )

    def add(self, name: str, units: int | slice, owned: list[Tensor], is_weight: bool) -> None:
        """Add what `units` own of one tensor: its sum, its squares' sum and its largest entry."""
        total, squares, largest = owned
        self.l1[name][units] += total
        self.squares[name][units] += squares
        self.linf[name][units] = torch.maximum(self.linf[name][units], largest)
        if is_weight:
            self.member_squares[name][units] += squares
            self.members[name][units] += 1

    def values(self) -> dict[str, dict[str, Tensor]]:
        """Return the statistics by name."""
        return {
            "weight_l1": self.l1,
            "weight_l2": {name: total.sqrt() for name, total in self.squares.items()},
            "weight_linf": self.linf,
            "member_square": {
                name: total / self.members[name].clamp(min=1) for name, total in self.member_squares.items()
            },
        }


def is_weight(tensor: str) -> bool:
    """Return whether a tensor multiplies what passes: biases and statistics don't."""
    return tensor.endswith("weight")


def _summed(weights: Tensor) -> tuple[tuple[Tensor, str], ...]:
    return (weights, "sum"), (weights.square(), "sum"), (weights, "max")


def is_normed(group: UnitGroup) -> bool:
    """Return whether norms write the group's units; a linear layer's own outputs have none."""
    return group.gate is not None and group.gate.how == "output"


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


def group_costs(graph: UnitGraph, group: UnitGroup, of: str = "params") -> float:
    """Return what one unit of `group` owns in the whole network: parameters, or operations for `flops`."""
    if group.prefix:
        owned = [name for name in graph.tensors if name.startswith(f"{group.prefix}0.")]
        return sum(_entries(graph, name) * _price(graph, name, of) for name in owned)
    total = 0.0
    for part in group.slices:
        along = graph.tensors[part.tensor].shape[part.axis]
        owned_entries = _entries(graph, part.tensor) // along * part.width * part.blocks
        total += owned_entries * _price(graph, part.tensor, of)
    return total


def _entries(graph: UnitGraph, tensor: str) -> int:
    return int(torch.Size(graph.tensors[tensor].shape).numel())


def _price(graph: UnitGraph, tensor: str, of: str) -> float:
    spec = graph.tensors[tensor]
    if of != "flops":
        return float(spec.is_parameter)
    return spec.flops / (graph[spec.average_over].size if spec.average_over else 1)
