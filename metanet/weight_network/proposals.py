"""What becomes of a metanetwork's output: new weights, gates on units, or corrections of a ranking."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from prunepolicy.metanet.weight_network.blueprint import Blueprint
from prunepolicy.metanet.weight_network.heads import VALUE, with_channels
from prunepolicy.metanet.weight_network.metanetwork import Metanetwork
from prunepolicy.metanet.weight_network.weight_graph.graph import Weights

HeadOutput = Mapping[str, Tensor]
"""Of a metanetwork: tensors by name, or a number per unit by group (and a value)."""


@dataclass(frozen=True)
class Proposal:
    """What a network is to become.

    Attributes:
        weights: all its tensors.
        scores: by group, what is added to the logarithms of a criterion's scores.
    """

    weights: Weights
    scores: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def rewrites(self) -> bool:
        """Whether weights change; what corrects scores leaves them as they are."""
        return not self.scores


def head_output(metanetwork: Metanetwork, network: Blueprint, weights: Weights) -> HeadOutput:
    """Return the output of a metanetwork's head for a network."""
    output: dict[str, Tensor]
    if metanetwork.units is None:
        output = metanetwork(network.graph, weights)
    else:
        states = metanetwork.node_states(network.graph, weights)
        output = metanetwork.units(network, with_channels(network), states)
    return centred(output) if metanetwork.settings.head == "scores" else output


def proposal(head: str, network: Blueprint, weights: Weights, output: HeadOutput) -> Proposal:
    """Return what becomes of a network by the output of the head `head`."""
    if head == "weights":
        return Proposal(output)
    if head == "gates":
        return Proposal(gated(network, weights, output))
    return Proposal(weights, {name: scores for name, scores in output.items() if name != VALUE})


def centred(scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return scores less their mean over the network: they only rank, so none may learn by moving all."""
    mean = torch.cat(list(scores.values())).mean()
    return {name: score - mean for name, score in scores.items()}


def gated(network: Blueprint, weights: Weights, changes: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights that read every unit multiplied by 1 plus its change."""
    scaled = dict(weights)
    for name, change in changes.items():
        group = network.units[name]
        for part in group.slices:
            if part.consumer:
                tensor = network.running_names.get(part.tensor, part.tensor)
                places = torch.from_numpy(part.indices(torch.arange(group.size).numpy()))
                scaled[tensor] = _scaled(scaled[tensor], part.axis, places, 1 + change)
    return scaled


def _scaled(weight: Tensor, axis: int, places: Tensor, factors: Tensor) -> Tensor:
    """Return a weight whose entries along `axis` at `places` (blocks, units, width) are multiplied."""
    along = torch.ones(weight.shape[axis], dtype=weight.dtype, device=weight.device)
    values = factors.to(weight)[None, :, None].expand(places.shape)
    along = along.index_put((places.to(weight.device),), values)
    return weight * along.view([-1 if place == axis else 1 for place in range(weight.dim())])
