"""The model that a run prunes: opened, loaded on first use, its statistics collected on calibration data."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from prunepolicy.pruning.budget_meter import Meter
from prunepolicy.pruning.checkpoint.cut import Edits
from prunepolicy.pruning.checkpoint.tokens import token_ids
from prunepolicy.pruning.checkpoint.vocabulary_cut import needed_tokens, tokenizer_of
from prunepolicy.pruning.criteria import Need
from prunepolicy.pruning.io.progress import ProgressReporter, ProgressStep
from prunepolicy.pruning.io.text_file import read_text
from prunepolicy.pruning.measure.latency_table import LatencyTable, Setting
from prunepolicy.pruning.plan import Budget, Plan
from prunepolicy.pruning.repair import RepairContext, repairs
from prunepolicy.pruning.session.opened_model import OpenedModel
from prunepolicy.pruning.statistics.activations import ActivationRecorder, activation_stats
from prunepolicy.pruning.statistics.gate_gradients import gate_gradients
from prunepolicy.pruning.statistics.layer_drops import layer_drops
from prunepolicy.pruning.statistics.probe import Inputs, Probe, probe_inputs
from prunepolicy.pruning.statistics.row_features import row_stats, scored_stats
from prunepolicy.pruning.statistics.stats import Stats, weight_stats
from prunepolicy.pruning.statistics.stats_cache import CachedStats
from prunepolicy.pruning.statistics.token_costs import token_stats, use_by_model, use_by_number
from prunepolicy.pruning.units import VOCABULARY, UnitGroup
from prunepolicy.pruning.vocabulary.languages import in_other_scripts

Found = TypeVar("Found")
CALIBRATED: dict[Need, str] = {"activations": "activation", "gradients": "gate-gradient"}
MEASURED: set[Need] = {*CALIBRATED, "drops"}
"""Statistics that change when units go: iterative pruning recomputes them after each round."""


@dataclass(frozen=True)
class ModelSession(OpenedModel):
    """The model that a run prunes, and everything that a policy or a repair may ask of it.

    Attributes:
        steps: progress reporter.
        opened_at: when the run began, on the monotonic clock.
        rewritten_by: name of the policy that has changed the checkpoint's weights, if one has.
        reused: what came from the cache of an earlier run, for the report.
        found: what this run has found out, by what it depends on.
    """

    progress: ProgressReporter = field(default_factory=ProgressReporter)
    opened_at: float = field(default_factory=time.monotonic)
    rewritten_by: str = ""
    reused: list[str] = field(default_factory=list)
    found: dict[Hashable, Any] = field(default_factory=dict)

    def load(self, dtype: torch.dtype) -> nn.Module:
        """Load the model, and say so."""
        how = "load" if self.fits(dtype) else "open, to read layer by layer as they run,"
        with self.progress.step(f"{how} in {str(dtype).removeprefix('torch.')}"):
            return super().load(dtype)

    def probe(self, probe: Probe) -> Mapping[str, Tensor]:
        """Return the calibration inputs of `probe` for this model, on its device."""
        inputs = self.once(probe, lambda: self.written("calibration data", probe))
        return self.placed(inputs, self.dtype)

    def once(self, key: Hashable, find: Callable[[], Found]) -> Found:
        """Return what `find` returned when it was first asked for this of this network."""
        place = (self.checkpoint.fingerprint, key)
        if place not in self.found:
            self.found[place] = find()
        return cast("Found", self.found[place])

    def written(self, name: str, probe: Probe) -> Mapping[str, Tensor]:
        """Return the inputs of `probe`, and report under `name` how the model samples them, where it does."""
        model, adapter, fingerprint = self.model, self.checkpoint.adapter, self.checkpoint.fingerprint
        writes = adapter.task == "causal" and probe.written is not None
        with self.progress.step(name, probe.samples * (probe.length - 1) if writes else 0) as tick:
            inputs = probe_inputs(probe, model, adapter, self.tokenizer_if_any, fingerprint, tick)
            if writes and not tick.done:
                self._reuses(name, tick)
        return inputs

    def _reuses(self, name: str, step: ProgressStep) -> None:
        """Say that an earlier run has done the work of a step."""
        step.remark = "reused"
        if name not in self.reused:
            self.reused.append(name)

    def placed(self, inputs: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
        """Return `inputs` on the model's device, images in `dtype`."""
        return {
            name: tensor.to(self.device, dtype) if tensor.is_floating_point() else tensor.to(self.device)
            for name, tensor in inputs.items()
        }

    def stats(self, needs: set[Need], probe: Probe, plan: Plan | None = None) -> Stats:
        """Collect the statistics a policy asks for, on the network as `plan` would leave it."""
        stats = Stats(seed=probe.seed, fingerprint=self.checkpoint.fingerprint)
        if plan is not None:
            return stats.merged(self._measured(needs, probe, plan)) if needs & MEASURED else stats
        kept = needs - {"scored"}
        if kept:
            found = self.once((probe, frozenset(kept)), lambda: self._remembered(kept, probe))
            stats = stats.merged(found)
        if "scored" in needs:
            with self.progress.step("collect row-score statistics of FFN weights"):
                stats = stats.merged(scored_stats(self.checkpoint, self.checkpoint.graph.of_kind("ffn")))
        return stats

    def _remembered(self, needs: set[Need], probe: Probe) -> Stats:
        """Return the statistics of the whole network, from the cache where an earlier run left them."""
        if self.rewritten_by:  # The next run writes its weights anew.
            return self._collected(needs, probe)
        cached = CachedStats(self.checkpoint, probe, frozenset(needs), self.dtype, self.device.type)
        found = cached.recalled()
        if found is None:
            found = self._collected(needs, probe)
            cached.remember(found)
        else:
            with self.progress.step("statistics") as step:
                self._reuses("statistics", step)
        return found

    def _collected(self, needs: set[Need], probe: Probe) -> Stats:
        graph, stats = self.checkpoint.graph, Stats()
        if "weights" in needs:
            with self.progress.step("collect weight norms"):
                stats = stats.merged(weight_stats(self.checkpoint, graph.groups))
        if "rows" in needs:
            with self.progress.step("collect row statistics of FFN weights"):
                stats = stats.merged(row_stats(self.checkpoint, graph.of_kind("ffn")))
        if "tokens" in needs:
            stats = stats.merged(self._tokens(probe))
        return stats.merged(self._measured(needs, probe, None)) if needs & MEASURED else stats

    def _tokens(self, probe: Probe) -> Stats:
        """Return what the vocabulary's tokens are worth: to the model, and in the user's text."""
        checkpoint, model = self.checkpoint, self.model
        tokenizer = tokenizer_of(checkpoint)
        text = token_ids(model, self.tokenizer, read_text(probe.file)) if probe.file else None
        rows = checkpoint.graph[VOCABULARY].size
        if checkpoint.adapter.task == "causal":
            inputs = self.probe(probe)
            with self.progress.step("collect the use of tokens", len(inputs["input_ids"])) as tick:
                use = use_by_model(model, inputs, tokenizer, tick)
            use = use if text is None else use.with_text(text)
        else:
            use = use_by_number(rows, text)
        if probe.languages:
            foreign = torch.zeros(rows, dtype=torch.bool)
            numbers = [*tokenizer.tokens]
            texts = (self.tokenizer.decode([number]) for number in numbers)
            foreign[numbers] = torch.tensor(in_other_scripts(texts, probe.scripts))
            use = use.without(foreign)
        return token_stats(use, tokenizer, needed_tokens(checkpoint, tokenizer), probe.length - 1)

    def _measured(self, needs: set[Need], probe: Probe, plan: Plan | None) -> Stats:
        """Run the model on the calibration data, as `plan` would leave it but for its tokens."""
        plan = plan and plan.with_all_tokens()
        graph, inputs, stats = self.checkpoint.graph, self.probe(probe), Stats()
        groups = [group for group in graph.groups if group.gate is not None]
        if needs & CALIBRATED.keys():
            stats = self._calibrated(needs, groups, inputs, plan, probe.seed)
        if "drops" in needs:
            with self.progress.step("measure the loss without each layer") as tick:
                stats = stats.merged(layer_drops(self.model, graph, groups, inputs, plan, tick))
        return stats

    def _calibrated(
        self, needs: set[Need], groups: list[UnitGroup], inputs: Inputs, plan: Plan | None, seed: int
    ) -> Stats:
        """Collect statistics on the running model; one pass serves activations and gradients alike."""
        graph = self.checkpoint.graph
        what = " and ".join(name for need, name in CALIBRATED.items() if need in needs)
        with self.progress.step(f"collect {what} statistics", len(next(iter(inputs.values())))) as tick:
            if "gradients" not in needs:
                return activation_stats(self.model, graph, groups, inputs, plan, tick)
            recorder = ActivationRecorder(self.model, groups if "activations" in needs else ())
            with recorder.watching():
                found = gate_gradients(self.model, graph, groups, inputs, plan, seed, tick)
        return recorder.stats().merged(found) if recorder.groups else found

    def repaired(self, plan: Plan, probe: Probe, dense: dict[str, Tensor] | None = None) -> Edits:
        """Compute what the plan's repair changes; nothing for a plan without repair.

        Args:
            dense: keeps what later plans for this network can use again, where there are any.
        """
        if plan.repair is None:
            return Edits()
        plan = plan.with_all_tokens()
        repair, inputs = repairs[str(plan.repair)], self.probe(probe)
        blocks, known = len(self.checkpoint.graph.of_kind("ffn")), {} if dense is None else dense
        with self.progress.step(f"repair: {plan.repair}", blocks) as tick:
            return repair(RepairContext(self.checkpoint, self.model, plan, inputs, dense=known, tick=tick))

    def seconds(self, budget: Budget) -> Meter | None:
        """Return what predicts seconds per token here; None for budgets of anything but latency."""
        if budget.of != "latency":
            return None
        graph = self.checkpoint.graph
        with self.progress.step("measure a latency table of matrix products"):
            table = LatencyTable.measure(graph, Setting(self.device, self.dtype))
        return lambda keep: table.latency(graph, keep)
