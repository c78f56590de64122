"""The model a run is about: opened, watched on a probe, loaded only when something asks for it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from prunepolicy.agents.progress import Steps
from prunepolicy.agents.prune.opened_model import OpenedModel
from prunepolicy.policy.base import Instruments, Policy
from prunepolicy.pruning.activations import ActivationWatch, activation_stats
from prunepolicy.pruning.budget_meter import Meter
from prunepolicy.pruning.criteria import Need
from prunepolicy.pruning.cut import Edits
from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.gate_gradients import gate_gradients
from prunepolicy.pruning.latency_table import LatencyTable, Setting
from prunepolicy.pruning.layer_drops import layer_drops
from prunepolicy.pruning.plan import Budget, Plan
from prunepolicy.pruning.probe import MIXED, Inputs, Probe, probe_inputs
from prunepolicy.pruning.repair import Patient, repairs
from prunepolicy.pruning.row_features import row_stats, scored_stats
from prunepolicy.pruning.stats import Stats, weight_stats
from prunepolicy.pruning.units import UnitGroup

WATCHED: dict[Need, str] = {
    "activations": "what every unit adds (activations)",
    "gradients": "what every unit matters to the loss (gate gradients)",
}
MEASURED: set[Need] = {*WATCHED, "drops"}
"""Statistics that change when units go, so that working in rounds means measuring them again."""


@dataclass(frozen=True)
class Subject(OpenedModel):
    """The model that a run prunes, and everything that a policy or a repair may ask of it.

    Attributes:
        steps: is told what happens.
        opened_at: when the run began, on the monotonic clock.
        rewritten_by: name of the policy that has changed the checkpoint's weights, if one has.
    """

    steps: Steps = field(default_factory=Steps)
    opened_at: float = field(default_factory=time.monotonic)
    rewritten_by: str = ""

    def load(self, dtype: torch.dtype) -> nn.Module:
        """Load the model, and say so."""
        with self.steps.step(f"load {self.name} in {str(dtype).removeprefix('torch.')}"):
            return super().load(dtype)

    def probe(self, probe: Probe) -> Mapping[str, Tensor]:
        """Return the inputs of `probe` for this model, on its device."""
        model, adapter, fingerprint = self.model, self.checkpoint.adapter, self.checkpoint.fingerprint
        written = probe.samples * (probe.length - 1)
        with self.steps.step(f"probe: {self._described(probe)}", written) as tick:
            inputs = probe_inputs(probe, model, adapter, self.tokenizer_if_any, fingerprint, tick)
        return self.placed(inputs, self.dtype)

    def placed(self, inputs: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
        """Return `inputs` on the model's device, images in `dtype`."""
        return {
            name: tensor.to(self.device, dtype) if tensor.is_floating_point() else tensor.to(self.device)
            for name, tensor in inputs.items()
        }

    def stats(self, needs: set[Need], probe: Probe, plan: Plan | None = None) -> Stats:
        """Collect the statistics a policy asks for, on the network as `plan` would leave it."""
        graph = self.checkpoint.graph
        stats = Stats(seed=probe.seed, fingerprint=self.checkpoint.fingerprint)
        if "weights" in needs and plan is None:
            with self.steps.step("read the weights' norms"):
                stats = stats.merged(weight_stats(self.checkpoint, graph.groups))
        if needs & {"rows", "scored"} and plan is None:
            with self.steps.step("read the rows of feed-forward blocks"):
                stats = stats.merged(self._rows(needs))
        if not needs & MEASURED:
            return stats
        return stats.merged(self._measured(needs, probe, plan))

    def _measured(self, needs: set[Need], probe: Probe, plan: Plan | None) -> Stats:
        """Run the model on the probe, as `plan` would leave it."""
        graph, inputs, stats = self.checkpoint.graph, self.probe(probe), Stats()
        groups = [group for group in graph.groups if group.gate is not None]
        if needs & WATCHED.keys():
            stats = self._watched(needs, groups, inputs, plan, probe.seed)
        if "drops" in needs:
            with self.steps.step("watch what happens without each layer (drops)") as tick:
                stats = stats.merged(layer_drops(self.model, graph, groups, inputs, plan, tick))
        return stats

    def _watched(
        self, needs: set[Need], groups: list[UnitGroup], inputs: Inputs, plan: Plan | None, seed: int
    ) -> Stats:
        """Watch the running model; one pass serves activations and gradients alike."""
        graph = self.checkpoint.graph
        what = " and ".join(name for need, name in WATCHED.items() if need in needs)
        with self.steps.step(f"watch {what}", len(next(iter(inputs.values())))) as tick:
            if "gradients" not in needs:
                return activation_stats(self.model, graph, groups, inputs, plan, tick)
            watch = ActivationWatch(self.model, groups if "activations" in needs else ())
            with watch.watching():
                found = gate_gradients(self.model, graph, groups, inputs, plan, seed, tick)
        return watch.stats().merged(found) if watch.groups else found

    def _rows(self, needs: set[Need]) -> Stats:
        blocks, stats = self.checkpoint.graph.of_kind("ffn"), Stats()
        if "rows" in needs:
            stats = stats.merged(row_stats(self.checkpoint, blocks))
        return stats.merged(scored_stats(self.checkpoint, blocks)) if "scored" in needs else stats

    def plan(self, policy: Policy, budget: Budget, probe: Probe) -> Plan:
        """Let `policy` decide, with statistics refreshed between rounds where it works in rounds.

        Raises:
            UsageError: when it plans for a network of other weights, which it has not written yet, or
                can't plan for such a budget.
            BudgetError: when the budget can't be met; what statistics can't change is said before they are
                collected.
        """
        if policy.rewrites and self.rewritten_by != policy.name:
            raise UsageError(
                f"The policy {policy.name!r} rewrites weights, which no plan can carry; prune with it at "
                "once: prune-with-policy MODEL --policy POLICY --keep 0.5 --out DIR."
            )
        needs = policy.needs(self.checkpoint.graph, budget)
        instruments = self.instruments(needs, budget, probe)
        policy.check(self.checkpoint.graph, budget, instruments)
        stats = self.stats(needs, probe).merged(policy.read(self.checkpoint))
        with self.steps.step(f"plan: {budget}, by {policy.name}"):
            plan = policy.plan(self.checkpoint.graph, stats, budget, instruments)
        return plan.with_fingerprint(self.checkpoint.fingerprint)

    def instruments(self, needs: set[Need], budget: Budget, probe: Probe) -> Instruments:
        """Return what a policy with these `needs` may ask for while it plans."""
        again = lambda plan: self.stats(needs, probe, plan)  # noqa: E731
        return Instruments(again if needs & MEASURED else None, self.seconds(budget))

    def repaired(self, plan: Plan, probe: Probe) -> Edits:
        """Compute what the plan's repair changes; nothing for a plan without repair."""
        if plan.repair is None:
            return Edits()
        repair, inputs = repairs[plan.repair], self.probe(probe)
        with self.steps.step(f"repair: {plan.repair}"):
            return repair(Patient(self.checkpoint, self.model, plan, inputs))

    def seconds(self, budget: Budget) -> Meter | None:
        """Return what predicts seconds per token here; None for budgets of anything but latency."""
        if budget.of != "latency":
            return None
        graph = self.checkpoint.graph
        with self.steps.step("time products with weights that no earlier run has timed"):
            table = LatencyTable.measure(graph, Setting(self.device, self.dtype))
        return lambda keep: table.latency(graph, keep)

    def _described(self, probe: Probe) -> str:
        task = self.checkpoint.adapter.task
        if task == "vision":
            return f"{probe.samples} images of seeded noise"
        if probe.source == "start" and task == "causal":
            return "the start token alone"
        if probe.file is not None:
            own = f"{probe.samples} texts of its own and " if probe.source.startswith(MIXED) else ""
            return f"{own}up to {probe.samples} windows of {probe.file}"
        if task == "encoder":
            return f"{probe.samples} sequences of seeded random tokens"
        kind = "varied texts" if probe.source == "varied" else "texts"
        return f"{probe.samples} {kind} that the model writes, or wrote in an earlier run"
