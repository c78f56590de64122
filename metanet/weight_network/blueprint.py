"""All that is known of a network before its weights are read: how they are wired, and what could go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Self

from prunepolicy.metanet.weight_network.weight_graph import WeightGraph, weight_graph_of
from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.units import UnitGraph


@dataclass(frozen=True)
class Blueprint:
    """A network's weight graph and its units, which may name the same tensors differently.

    Attributes:
        names: by the running model's names of tensors, those that units have, where they differ.
    """

    graph: WeightGraph
    units: UnitGraph
    names: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> Self:
        """Read the configuration of a checkpoint."""
        return cls(weight_graph_of(checkpoint.config), checkpoint.graph, checkpoint.stored_names)

    @cached_property
    def running_names(self) -> dict[str, str]:
        """The running model's names by those that units have, where they differ."""
        return {stored: running for running, stored in self.names.items()}
