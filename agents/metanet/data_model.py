"""A trained network as a metanetwork's training example."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.func import functional_call

from prunepolicy.metanet.weight_network.blueprint import Blueprint
from prunepolicy.metanet.weight_network.weight_graph import WeightGraph, weight_graph_of
from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.units import UnitGraph


@dataclass(frozen=True)
class DataModel:
    """A network, its weight graph, and what could be removed from it.

    Attributes:
        model: runs; its own weights are never changed.
        names: by the running model's names of tensors, those that its units have.
    """

    name: str
    model: nn.Module
    graph: WeightGraph
    units: UnitGraph
    names: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def opened(cls, folder: Path, device: torch.device | None = None) -> Self:
        """Load the network in a folder, in float32."""
        checkpoint = Checkpoint.open(folder)
        model = checkpoint.adapter.load(folder, torch.float32).to(device or torch.device("cpu"))
        graph = weight_graph_of(checkpoint.config)
        return cls(folder.name, model.eval(), graph, checkpoint.graph, checkpoint.stored_names)

    @cached_property
    def blueprint(self) -> Blueprint:
        """What metanetworks know of it beside its weights."""
        return Blueprint(self.graph, self.units, self.names)

    @cached_property
    def weights(self) -> dict[str, Tensor]:
        """Parameters and buffers by name, without gradients."""
        tensors = dict(self.model.named_parameters()) | dict(self.model.named_buffers())
        return {name: tensor.detach() for name, tensor in tensors.items()}

    def stored(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return weights under the names that units have."""
        return {self.names.get(name, name): tensor for name, tensor in weights.items()}

    def running(self, weights: Mapping[str, Tensor]) -> nn.Module:
        """Return the network with other weights, as something to call."""
        return ReweightedNetwork(self.model, weights)


class ReweightedNetwork(nn.Module):
    """A network that runs with other weights than its own; buffers it updates are copies."""

    def __init__(self, model: nn.Module, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.model = model
        buffers = {name for name, _ in model.named_buffers()}
        self.weights = {name: w.clone() if name in buffers else w for name, w in weights.items()}

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """Run the network."""
        return functional_call(self.model, self.weights, inputs, named)
