from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from prunepolicy.agents.metanet.data_model import DataModel
from prunepolicy.metanet.weight_network.metanetwork import Metanetwork, MetanetworkSettings
from prunepolicy.metanet.weight_network.proposals import gated, head_output, proposal
from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.statistics.gates import gates

Make = Callable[..., Checkpoint]


def answers(network: DataModel, weights: Any, inputs: dict[str, Tensor]) -> Tensor:
    with torch.no_grad():
        found: Any = functional_call(network.model, dict(weights), (), inputs)
    logits: Tensor = found if isinstance(found, Tensor) else found.logits
    return logits


def inputs_of(family: str) -> dict[str, Tensor]:
    if family == "llama":
        return {"input_ids": torch.randint(3, 64, (2, 7))}
    return {"pixel_values": torch.randn(2, 3, 32, 32)}


def opened(make: Make, family: str) -> DataModel:
    return DataModel.opened(make(family, **({"image_size": 32} if family == "vit" else {})).folder)


@pytest.mark.parametrize("head", ["weights", "gates", "scores", "decisions"])
@pytest.mark.parametrize("family", ["cifar_resnet", "llama", "vit"])
def test_an_untrained_head_leaves_a_network_as_it_is(tiny_checkpoint: Make, family: str, head: Any) -> None:
    network = opened(tiny_checkpoint, family)
    metanetwork = Metanetwork(MetanetworkSettings(layers=2, hidden=6, head=head))
    output = head_output(metanetwork, network.blueprint, network.weights)
    proposed = proposal(head, network.blueprint, network.weights, output)
    assert proposed.weights.keys() == network.weights.keys()
    assert all(torch.equal(proposed.weights[name], own) for name, own in network.weights.items())
    assert proposed.rewrites == (head in ("weights", "gates"))
    assert bool(proposed.scores) != proposed.rewrites
    assert not any(score.any() for score in proposed.scores.values())


@pytest.mark.parametrize("family", ["cifar_resnet", "resnet", "llama", "vit"])
def test_gates_in_weights_are_gates_on_the_running_network(tiny_checkpoint: Make, family: str) -> None:
    network, inputs = opened(tiny_checkpoint, family), inputs_of(family)
    groups = [group for group in network.units.groups if group.kind not in ("layer", "vocabulary")]
    # Positive, so that they pass the ReLUs between where a gate acts and where units are read.
    changes = {group.name: torch.rand(group.size) for group in groups}
    with gates(network.model, network.units, {name: 1 + change for name, change in changes.items()}):
        expected = answers(network, network.weights, inputs)
    found = answers(network, gated(network.blueprint, network.weights, changes), inputs)
    assert not torch.allclose(expected, answers(network, network.weights, inputs), rtol=1e-3)
    torch.testing.assert_close(found, expected, rtol=2e-4, atol=2e-5)


def test_units_that_are_one_another_are_told_the_same(tiny_checkpoint: Make) -> None:
    """Order means nothing: two equal channels get equal scores, and others of their group don't."""
    network = opened(tiny_checkpoint, "llama")
    metanetwork = Metanetwork(MetanetworkSettings(layers=2, hidden=6, head="scores"))
    for parameter in metanetwork.parameters():
        nn.init.normal_(parameter, std=0.4)
    weights = {name: tensor.clone() for name, tensor in network.weights.items()}
    for part in network.units["layers.0.ffn"].slices:
        along = weights[part.tensor].movedim(part.axis, 0)
        along[1] = along[0]
    output = head_output(metanetwork, network.blueprint, weights)["layers.0.ffn"].detach()
    assert output[1] == pytest.approx(float(output[0]), rel=1e-5)
    assert output.unique().numel() > 2
