"""Activation statistics: what every unit's gate sees while the model reads probe inputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from prunepolicy.pruning.adapters.expert_gates import ExpertPass, watch_experts
from prunepolicy.pruning.checkpoint.streamed import runs_again
from prunepolicy.pruning.plan import Plan
from prunepolicy.pruning.statistics.expert_use import ExpertUse
from prunepolicy.pruning.statistics.gates import find_module, masked, units_of_entries
from prunepolicy.pruning.statistics.probe import Inputs, Tick, read_inputs
from prunepolicy.pruning.statistics.stats import Stats
from prunepolicy.pruning.units import UnitGraph, UnitGroup, written_by

SEEN = ("mean", "rms", "max", "first_rms", "output", "tokens")
"""Statistics of what a gate sees."""


@dataclass
class _Record:
    """Running sums of what one group's gate sees; entries are those of the gated module."""

    group: UnitGroup
    module: nn.Module
    entries: dict[str, Tensor] = field(default_factory=dict)
    rows: int = 0
    first_rows: int = 0
    columns: Tensor | float | None = None

    def read(self) -> Tensor | float:
        """Return the squared norms of the weights that read the entries; streamed layers drop them again."""
        if self.columns is None:
            self.columns = column_squares(self.module, self.group)
        return self.columns

    def add(self, hidden: Tensor, rows: int | None = None) -> None:
        """Take in activations of shape (batch, positions, entries) or (rows, entries).

        Args:
            rows: how many rows they stand for, when not for themselves.
        """
        if runs_again():
            return
        flat = hidden.detach().reshape(-1, hidden.shape[-1]).float()
        self._sum("sum", flat.sum(0))
        self._sum("squares", flat.square().sum(0))
        largest = flat.abs().amax(0)
        self.entries["max"] = torch.maximum(self.entries.get("max", largest), largest)
        self.rows += len(flat) if rows is None else rows
        if hidden.dim() == 3:
            self._sum("first_squares", hidden[:, 0].detach().float().square().sum(0))
            self.first_rows += len(hidden)

    def _sum(self, name: str, value: Tensor) -> None:
        self.entries[name] = self.entries[name] + value if name in self.entries else value


class ActivationRecorder:
    """Accumulates activation statistics at the gates of `groups` while the model reads calibration inputs.

    Args:
        groups: those without a gate are left out.
    """

    def __init__(self, model: nn.Module, groups: Iterable[UnitGroup]) -> None:
        self.model = model
        self.groups = [group for group in groups if group.gate is not None]
        self._records: dict[str, _Record] = {}
        self._layers: dict[str, Tensor] = {}
        self._experts: dict[str, ExpertUse] = {}
        self._passes = 0

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Record activations of all forward passes while the context lasts.

        Gates that are attached inside act after the hooks, so that units which they remove are still
        seen: they may come back.
        """
        with ExitStack() as stack:
            for group in self.groups:
                self._watch(stack, group)
            experts = [group for group in self.groups if group.gate and group.gate.how == "fused_experts"]
            self._records |= _watch_experts(stack, self.model, experts)
            stack.callback(self.model.register_forward_hook(self._count).remove)
            yield

    def stats(self) -> Stats:
        """Return the statistics of everything that was read."""
        stats = _unit_statistics(self._records)
        stats["angular"] = {name: total / self._passes for name, total in self._layers.items()}
        for name, use in self._experts.items():
            for statistic, values in use.statistics().items():
                stats.setdefault(statistic, {})[name] = values
        stats["output"] |= stats["angular"]
        return Stats(stats)

    def mean_squares(self) -> dict[str, Tensor]:
        """Return the squares of the statistic `rms`; unlike all of them, it reads no weight."""
        watched = [group.name for group in self.groups if group.name in self._records]
        return {name: _mean_squares(self._records[name]) for name in watched}

    def _watch(self, stack: ExitStack, group: UnitGroup) -> None:
        assert group.gate is not None
        if group.gate.how == "residual":
            self._layers[group.name] = torch.zeros(group.size)
            _watch_turning(stack, self.model, group, self._layers[group.name])
        elif group.gate.how == "router":
            self._experts[group.name] = ExpertUse(self.model, group)
            self._experts[group.name].watch(stack)
        elif group.gate.how in ("input", "output"):
            self._records[group.name] = _watch_entries(stack, self.model, group)

    def _count(self, *passed: object) -> None:
        self._passes += 1


def activation_stats(
    model: nn.Module,
    graph: UnitGraph,
    groups: Iterable[UnitGroup],
    inputs: Inputs,
    plan: Plan | None = None,
    tick: Tick = lambda done: None,
) -> Stats:
    """Return activation statistics of `groups`, on the model as `plan` would leave it."""
    watch = ActivationRecorder(model, groups)
    with watch.watching(), masked(model, graph, plan) if plan else nullcontext():
        read_inputs(model, inputs, tick)
    return watch.stats()


def _watch_entries(stack: ExitStack, model: nn.Module, group: UnitGroup) -> _Record:
    assert group.gate is not None
    record = _Record(group, find_module(model, group.gate.module))
    if any(parameter.is_meta for parameter in record.module.parameters()):

        def read(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            record.read()

        stack.callback(record.module.register_forward_pre_hook(read).remove)
    for name in (group.gate.module, *group.gate.also):
        module = find_module(model, name)
        if group.gate.how == "input":
            handle = module.register_forward_pre_hook(lambda _, inputs: record.add(inputs[0]))
        else:
            handle = module.register_forward_hook(lambda _, inputs, output: record.add(output.movedim(1, -1)))
        stack.callback(handle.remove)
    return record


def _watch_experts(stack: ExitStack, model: nn.Module, groups: list[UnitGroup]) -> dict[str, _Record]:
    """Record the channels of stacked experts, as they are weighted; other experts' tokens count as 0."""
    records: dict[str, _Record] = {}
    for name in dict.fromkeys(group.gate.module for group in groups if group.gate):
        module: Any = find_module(model, name)
        of_expert = {
            group.gate.expert: _Record(group, module)
            for group in groups
            if group.gate and group.gate.module == name
        }
        for record in of_expert.values():
            zeros = torch.zeros(record.group.size, device=module.down_proj.device)
            record.entries = {"sum": zeros, "squares": zeros, "max": zeros}

        def add(done: ExpertPass, of: Any = of_expert) -> None:
            for record in (of[key] for key in (done.expert, None) if key in of):
                record.add(done.channels * done.weights, rows=0)

        watch_experts(stack, module, add)

        def count(module: nn.Module, inputs: tuple[Tensor, ...], of: Any = of_expert) -> None:
            for record in of.values():
                record.rows += inputs[0].reshape(-1, inputs[0].shape[-1]).shape[0]

        stack.callback(module.register_forward_pre_hook(count).remove)
        records |= {record.group.name: record for record in of_expert.values()}
    return records


def _watch_turning(stack: ExitStack, model: nn.Module, group: UnitGroup, angles: Tensor) -> None:
    assert group.gate is not None
    layers = find_module(model, group.gate.module)

    def hook_for(layer: int) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
            before = inputs[0] if inputs else named["hidden_states"]
            after = output[0] if isinstance(output, tuple) else output
            pair = (before.detach().float(), after.detach().float())
            cosine = F.cosine_similarity(*pair, dim=-1).clamp(-1, 1)
            angles[layer] += (cosine.acos() / math.pi).mean().cpu()

        return hook

    for layer in range(group.size):
        handle = layers.get_submodule(str(layer)).register_forward_hook(hook_for(layer), with_kwargs=True)
        stack.callback(handle.remove)


def _mean_squares(record: _Record) -> Tensor:
    """Return the mean squares of what the group's units let pass, shape (units,)."""
    squares = record.entries["squares"].cpu() / record.rows
    return _gather(squares, _owners(record, len(squares)), record.group.size)


def _unit_statistics(records: Mapping[str, _Record]) -> dict[str, dict[str, Tensor]]:
    stats: dict[str, dict[str, Tensor]] = {name: {} for name in SEEN}
    for name, record in records.items():
        entries = {key: value.cpu() for key, value in record.entries.items()}
        size, owners = record.group.size, _owners(record, len(entries["sum"]))
        mean_square = entries["squares"] / record.rows
        stats["tokens"][name] = torch.tensor([float(record.rows)])
        stats["mean"][name] = entries["sum"] / record.rows
        stats["rms"][name] = _mean_squares(record).sqrt()
        stats["max"][name] = torch.zeros(size).scatter_reduce(
            0, owners[owners >= 0], entries["max"][owners >= 0], "amax"
        )
        written = mean_square * record.read()
        stats["output"][name] = _gather(written, owners, size).sqrt()
        if record.first_rows:
            stats["first_rms"][name] = _gather(
                entries["first_squares"] / record.first_rows, owners, size
            ).sqrt()
    return stats


def _owners(record: _Record, length: int) -> Tensor:
    gate = record.group.gate
    assert gate is not None
    part = written_by(record.group, gate.module) if gate.how == "output" else None
    owners = torch.full((length,), -1, dtype=torch.long)
    found = units_of_entries(record.group, part)
    owners[: len(found)] = found
    return owners


def _gather(entries: Tensor, owners: Tensor, size: int) -> Tensor:
    mine = owners >= 0
    return torch.zeros(size).scatter_add(0, owners[mine], entries[mine])


def column_squares(module: nn.Module, group: UnitGroup) -> Tensor | float:
    """Return the squared norms of the weights that read each entry of the group's gated module."""
    weight = getattr(module, "weight", None)
    gate = group.gate
    if gate is not None and gate.how == "fused_experts":
        stacked = module.get_parameter("down_proj").detach()
        squares = (stacked if gate.expert is None else stacked[gate.expert, None]).float().square()
        return squares.sum(2 if getattr(module, "is_transposed", False) else 1).mean(0).cpu()
    if not isinstance(weight, Tensor) or weight.dim() != 2:
        return 1.0
    part = next(part for part in group.slices if part.consumer and part.tensor.endswith("weight"))
    return weight.detach().float().square().sum(1 - part.axis).cpu()
