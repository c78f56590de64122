"""The model a run is about: opened, watched on a probe, loaded only when something asks for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from prunepolicy.agents.opened_model import Hardware
from prunepolicy.agents.progress import Steps
from prunepolicy.policy.base import Instruments, Policy
from prunepolicy.pruning.activations import activation_stats
from prunepolicy.pruning.budget_meter import Meter
from prunepolicy.pruning.checkpoint import Checkpoint
from prunepolicy.pruning.criteria import Need
from prunepolicy.pruning.cut import Edits
from prunepolicy.pruning.errors import NotEnoughSpaceError
from prunepolicy.pruning.gate_gradients import gate_gradients
from prunepolicy.pruning.latency_table import LatencyTable, Setting
from prunepolicy.pruning.loading import load_model, load_tokenizer
from prunepolicy.pruning.machine import GIB, available_memory
from prunepolicy.pruning.plan import Budget, Plan
from prunepolicy.pruning.probe import Probe, probe_inputs
from prunepolicy.pruning.repair import Patient, repairs
from prunepolicy.pruning.stats import Stats, weight_stats


@dataclass
class Subject:
    """A checkpoint, and its running model where one is needed.

    Attributes:
        name: what the user called it.
    """

    name: str
    checkpoint: Checkpoint
    hardware: Hardware
    steps: Steps = field(default_factory=Steps)

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self.hardware.torch_device

    @property
    def dtype(self) -> torch.dtype:
        """The number type it computes in."""
        return self.hardware.torch_dtype

    @cached_property
    def model(self) -> nn.Module:
        """The dense model, loaded on first use.

        Raises:
            NotEnoughSpaceError: when it wouldn't fit into memory.
        """
        if not self.fits():
            raise NotEnoughSpaceError(
                f"Running this model takes about {self.memory_needed / GIB:.1f} GiB of memory, "
                "more than is free. Use a policy that reads weights only (--policy magnitude or random)."
            )
        with self.steps.step("load the model"):
            return load_model(self.checkpoint.folder, self.checkpoint.adapter, self.dtype, self.device)

    @cached_property
    def tokenizer(self) -> Any:
        """The model's tokenizer; None for models that read no text."""
        if self.checkpoint.adapter.task == "vision":
            return None
        return load_tokenizer(self.checkpoint.folder)

    @property
    def memory_needed(self) -> int:
        """Bytes that the running model takes, with room for one batch."""
        entries = sum(int(torch.Size(shape).numel()) for shape in self.checkpoint.shapes.values())
        return int(1.3 * entries * self.dtype.itemsize) + GIB // 2

    def fits(self, copies: int = 1) -> bool:
        """Return whether so many running copies fit into free memory."""
        free = available_memory()
        return self.device.type != "cpu" or free is None or copies * self.memory_needed < free

    def probe(self, probe: Probe) -> Mapping[str, Tensor]:
        """Return the inputs of `probe` for this model, on its device."""
        with self.steps.step(f"probe: {_describe(probe)}"):
            inputs = probe_inputs(
                probe, self.model, self.checkpoint.adapter, self.tokenizer, self.checkpoint.fingerprint
            )
        cast = {k: v if k == "input_ids" else v.to(self.dtype) for k, v in inputs.items()}
        return {name: tensor.to(self.device) for name, tensor in cast.items()}

    def stats(self, needs: set[Need], probe: Probe, plan: Plan | None = None) -> Stats:
        """Collect the statistics a policy asks for, on the network as `plan` would leave it."""
        graph, stats = self.checkpoint.graph, Stats(seed=probe.seed)
        if "weights" in needs and plan is None:
            with self.steps.step("read the weights"):
                stats = stats.merged(weight_stats(self.checkpoint, graph.groups))
        if not needs & {"activations", "gradients"}:
            return stats
        inputs = self.probe(probe)
        count = len(next(iter(inputs.values())))
        groups = [group for group in graph.groups if group.gate is not None]
        if "activations" in needs:
            with self.steps.step("watch activations", count) as tick:
                stats = stats.merged(activation_stats(self.model, graph, groups, inputs, plan, tick))
        if "gradients" in needs:
            with self.steps.step("watch gate gradients", count) as tick:
                found = gate_gradients(self.model, graph, groups, inputs, plan, probe.seed, tick)
                stats = stats.merged(found)
        return stats

    def plan(self, policy: Policy, budget: Budget, probe: Probe) -> Plan:
        """Let `policy` decide, with statistics refreshed between rounds where it works in rounds."""
        needs = policy.needs(self.checkpoint.graph, budget)
        stats = self.stats(needs, probe)
        instruments = Instruments(
            refresh=(lambda plan: self.stats(needs, probe, plan)) if needs - {"weights"} else None,
            seconds=self._latency() if budget.of == "latency" else None,
        )
        with self.steps.step("plan"):
            return policy.plan(self.checkpoint.graph, stats, budget, instruments).with_fingerprint(
                self.checkpoint.fingerprint
            )

    def repaired(self, plan: Plan, probe: Probe) -> Edits:
        """Compute what the plan's repair changes; nothing for a plan without repair."""
        if plan.repair is None:
            return Edits()
        repair, inputs = repairs[plan.repair], self.probe(probe)
        with self.steps.step(f"repair: {plan.repair}"):
            return repair(Patient(self.checkpoint, self.model, plan, inputs))

    def _latency(self) -> Meter:
        graph = self.checkpoint.graph
        with self.steps.step("measure matrix products"):
            table = LatencyTable.measure(graph, Setting(self.device, self.dtype))
        return lambda keep: table.latency(graph, keep)


def _describe(probe: Probe) -> str:
    if probe.source == "self":
        return f"{probe.samples} texts of {probe.length} tokens, written by the model"
    return "the start token" if probe.source == "start" else probe.source
