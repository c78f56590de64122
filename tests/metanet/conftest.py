"""Networks of every family with random weights, statistics and widths."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from prunepolicy.metanet.weight_network.metanetwork import Metanetwork, MetanetworkSettings
from prunepolicy.metanet.weight_network.weight_graph import WeightGraph, weight_graph_of
from prunepolicy.pruning.adapters import adapter_for, adapters

Network = tuple[WeightGraph, dict[str, Tensor], nn.Module]
Build = Callable[..., Network]

ODD = {"residual": [5, 9, 7], "inner": [[3], [11], [2]]}
COINCIDENT = {"residual": [10, 10, 10], "inner": [[10], [10], [10]]}
"""As wide as the ten classes, everywhere."""


@pytest.fixture
def build() -> Build:
    """A function that makes a tiny network of a family and returns its graph, its weights and itself."""

    def make(family: str, **changes: Any) -> Network:
        config = {**adapters[family].tiny(), **changes}
        model = adapter_for(config).build(config).double().eval()
        randomise(model)
        return weight_graph_of(config), tensors_of(model), model

    return make


@pytest.fixture
def learned() -> Callable[..., Metanetwork]:
    """A function that makes a metanetwork that changes something."""

    def make(**settings: Any) -> Metanetwork:
        metanetwork = Metanetwork(MetanetworkSettings(**{"layers": 2, "hidden": 6, **settings})).double()
        generator = torch.Generator().manual_seed(3)
        for parameter in metanetwork.parameters():
            parameter.data.normal_(std=0.4, generator=generator)
        return metanetwork

    return make


def randomise(model: nn.Module) -> None:
    """Give every floating-point tensor of a model values that no other has."""
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if tensor.is_floating_point() and "inv_freq" not in name:
            tensor.data = torch.rand_like(tensor) + 0.3 if "var" in name else torch.randn_like(tensor)


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """Return a model's parameters and buffers."""
    tensors = dict(model.named_parameters()) | dict(model.named_buffers())
    return {name: tensor.detach() for name, tensor in tensors.items()}
