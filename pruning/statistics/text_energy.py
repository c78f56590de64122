"""What the feed-forward channels carry while a model reads one text: the statistic of a text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from prunepolicy.pruning.checkpoint.decoding import memory_of
from prunepolicy.pruning.errors import UnsupportedModelError
from prunepolicy.pruning.statistics.activations import ActivationRecorder, activation_stats, column_squares
from prunepolicy.pruning.statistics.gates import find_module
from prunepolicy.pruning.statistics.probe import read_whole
from prunepolicy.pruning.statistics.stats import Stats
from prunepolicy.pruning.units import UnitGraph, UnitGroup

TINY = torch.finfo(torch.float32).tiny


@dataclass(frozen=True)
class TextEnergy:
    """Mean squares over the tokens of a text.

    Attributes:
        tokens: how many they are the mean of.
        energy: FFN group name to (units,) float32, the mean square of what the group's gate sees, which is
            the input of the down projection.
        ahead: statistic of what the model itself goes on with after places in the text; None where it
            wasn't asked to.
    """

    tokens: int
    energy: Mapping[str, Tensor]
    ahead: TextEnergy | None = None

    @staticmethod
    def pooled(parts: Sequence[TextEnergy]) -> TextEnergy:
        """Return the statistic of all tokens of `parts` together, without what lies ahead of them."""
        tokens = sum(part.tokens for part in parts)
        names = parts[0].energy
        shares = torch.tensor([part.tokens / tokens for part in parts])
        return TextEnergy(
            tokens, {name: shares @ torch.stack([p.energy[name] for p in parts]) for name in names}
        )


def text_energy(model: nn.Module, graph: UnitGraph, input_ids: Tensor) -> TextEnergy:
    """Return the statistic of one text, shape (1, tokens), from one pass of the whole model."""
    watch = ActivationRecorder(model, graph.of_kind("ffn"))
    with watch.watching():
        read_whole(model, {"input_ids": input_ids})
    return TextEnergy(input_ids.numel(), watch.mean_squares())


def energies_along(
    model: nn.Module, graph: UnitGraph, input_ids: Tensor, ends: Sequence[int]
) -> list[TextEnergy]:
    """Return the statistics of consecutive pieces of one text, shape (1, tokens), from one pass.

    Args:
        ends: where the pieces end, ascending; a piece is read after those before it, where the model
            remembers them.
    """
    found: list[TextEnergy] = []
    memory: dict[str, Any] = {}
    for piece in input_ids[:, : ends[-1]].tensor_split(list(ends[:-1]), dim=1):
        watch = ActivationRecorder(model, graph.of_kind("ffn"))
        with watch.watching():
            output = read_whole(model, {"input_ids": piece, "use_cache": True, **memory})
        memory = memory_of(output)
        found.append(TextEnergy(piece.numel(), watch.mean_squares()))
    return found


def texts_energy(model: nn.Module, graph: UnitGraph, input_ids: Tensor) -> TextEnergy:
    """Return the statistic of many texts of one length together, shape (texts, tokens)."""
    return energy_of(activation_stats(model, graph, graph.of_kind("ffn"), {"input_ids": input_ids}), graph)


def energy_of(stats: Stats, graph: UnitGraph) -> TextEnergy:
    """Return the statistic of a text whose activation statistics are known."""
    groups = graph.of_kind("ffn")
    tokens = max(float(stats.get("tokens", group.name).max()) for group in groups)
    return TextEnergy(round(tokens), {g.name: stats.get("rms", g.name).square() for g in groups})


def outgoing_norms(watched: nn.Module | Stats, graph: UnitGraph) -> dict[str, Tensor]:
    """Return the norm of the down projection's column of each FFN channel.

    Args:
        watched: the model, or activation statistics of any text: what a channel adds to the layer's output
            is what its gate saw, times that norm.
    """
    groups = graph.of_kind("ffn")
    if isinstance(watched, Stats):
        return {group.name: _norms_seen(watched, group) for group in groups}
    return {group.name: _norms_of_weights(watched, group) for group in groups}


def _norms_seen(stats: Stats, group: UnitGroup) -> Tensor:
    return stats.get("output", group.name) / stats.get("rms", group.name).clamp(min=TINY)


def _norms_of_weights(model: nn.Module, group: UnitGroup) -> Tensor:
    if group.gate is None:
        raise UnsupportedModelError(f"{group.name} can't be measured on a running model.")
    squares = column_squares(find_module(model, group.gate.module), group)
    return torch.as_tensor(squares).expand(group.size).sqrt()
