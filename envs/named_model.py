"""A model by its name, with statistics on calibration data: what environments are made from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from torch import nn

from prunepolicy.envs.prune_case import PruneCase
from prunepolicy.envs.row_layer import RowLayer, block_interactions
from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.checkpoint.loading import has_tokenizer, load_model, load_tokenizer
from prunepolicy.pruning.checkpoint.source import resolve
from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.io.precision import parse_device, parse_dtype
from prunepolicy.pruning.plan import Budget, Plan
from prunepolicy.pruning.statistics.activations import ActivationRecorder
from prunepolicy.pruning.statistics.gate_gradients import gate_gradients
from prunepolicy.pruning.statistics.moments import second_moments
from prunepolicy.pruning.statistics.probe import Inputs, Probe, probe_inputs
from prunepolicy.pruning.statistics.row_features import FEATURES, row_features, row_stats, scored_stats
from prunepolicy.pruning.statistics.stats import Stats
from prunepolicy.pruning.units import Keep

SPECTRA = {"dense_spectrum", "kept_spectrum"}
"""Columns that are measured on the scored matrices."""


@dataclass(frozen=True)
class NamedModel:
    """A model that is opened when something asks for it; between processes its name travels alone.

    Attributes:
        name: a folder, a hub id or an alias.
        probe: the calibration data.

    Raises:
        PrunePolicyError: on first use, when there is no such model, or none that can be pruned.
    """

    name: str
    probe: Probe = field(default_factory=Probe)

    def __getstate__(self) -> dict[str, Any]:
        """Travel without what can be opened again."""
        return {"name": self.name, "probe": self.probe}

    def __call__(self, keep: Keep) -> Stats:
        """Return the statistics of the network as `keep` leaves it."""
        units = {name: tuple(ids) for name, ids in keep.items()}
        return self.stats(Plan(units, Budget(1.0), "episode"))

    def case(self) -> PruneCase:
        """Return the model prepared for plans of its channels; no weights stay in memory."""
        graph, later = self.checkpoint.graph, NamedModel(self.name, self.probe)
        budget = Budget(0.8, "ffn" if graph.of_kind("ffn") else "channels", uniform=False)
        return PruneCase(self.name, graph, self.stats(), budget, refresh=later)

    def row_layers(self, reads: Iterable[str]) -> tuple[RowLayer, ...]:
        """Return the FFN blocks, prepared for what shapings read from the columns `reads`."""
        groups, columns = self.checkpoint.graph.of_kind("ffn"), set(reads)
        if not groups:
            raise UsageError(f"{self.name} has no FFN blocks whose rows could be chosen.")
        stats = self.stats().merged(row_stats(self.checkpoint, groups))
        scored = scored_stats(self.checkpoint, groups).values["scored"] if columns & SPECTRA else {}
        interactions = {}
        if "output_error" in columns:
            moments = second_moments(self.model, groups, self.inputs)
            interactions = block_interactions(self.checkpoint, groups, moments)
        return tuple(
            RowLayer(
                group.name,
                row_features(stats, group, FEATURES),
                scored.get(group.name),
                interactions.get(group.name),
                stats.get("gradients", group.name),
            )
            for group in groups
        )

    def stats(self, plan: Plan | None = None) -> Stats:
        """Return activations and gate gradients, of one pass, on the network as `plan` would leave it."""
        graph = self.checkpoint.graph
        groups = [group for group in graph.groups if group.gate is not None]
        watch = ActivationRecorder(self.model, groups)
        with watch.watching():
            gradients = gate_gradients(self.model, graph, groups, self.inputs, plan, self.probe.seed)
        return watch.stats().merged(gradients)

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """The opened folder."""
        return Checkpoint.open(resolve(self.name))

    @cached_property
    def model(self) -> nn.Module:
        """The running model."""
        device = parse_device("auto")
        return load_model(
            self.checkpoint.folder, self.checkpoint.adapter, parse_dtype("auto", device), device
        )

    @cached_property
    def inputs(self) -> Inputs:
        """The probe's, on the model's device."""
        folder, adapter = self.checkpoint.folder, self.checkpoint.adapter
        tokenizer = load_tokenizer(folder) if adapter.task != "vision" and has_tokenizer(folder) else None
        found = probe_inputs(self.probe, self.model, adapter, tokenizer, self.checkpoint.fingerprint)
        weights = next(self.model.parameters())
        return {
            name: tensor.to(weights) if tensor.is_floating_point() else tensor.to(weights.device)
            for name, tensor in found.items()
        }
