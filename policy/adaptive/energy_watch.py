"""What the feed-forward channels of every row of a batch carry while the model reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from prunepolicy.pruning.statistics.gates import find_module
from prunepolicy.pruning.statistics.text_energy import TextEnergy
from prunepolicy.pruning.units import UnitGroup

BLOCK = 128
"""Positions squared at once: what stays in the processor's cache costs a fifth."""


@dataclass(frozen=True)
class SeenEnergy:
    """Sums over tokens of the rows of a batch.

    Attributes:
        tokens: how many of each row were seen, padding not counted, shape (batch,).
        weight: for how many they stand, shape (batch,).
        squares: FFN group name to sums of squares of the down projection's input, (batch, units), float32.
    """

    tokens: Tensor
    weight: Tensor
    squares: Mapping[str, Tensor]

    def __add__(self, other: SeenEnergy) -> SeenEnergy:
        squares = {name: sums + other.squares[name] for name, sums in self.squares.items()}
        return SeenEnergy(self.tokens + other.tokens, self.weight + other.weight, squares)

    def standing_for(self, times: int) -> SeenEnergy:
        """Return the same, each token in place of so many."""
        squares = {name: sums * times for name, sums in self.squares.items()}
        return SeenEnergy(self.tokens, self.weight * times, squares)

    def rows(self) -> list[TextEnergy]:
        """Return the statistic of each row."""
        means = {name: sums / self.weight[:, None] for name, sums in self.squares.items()}
        return [
            TextEnergy(int(tokens), {name: mean[row] for name, mean in means.items()})
            for row, tokens in enumerate(self.tokens)
        ]

    def pooled(self) -> TextEnergy:
        """Return the statistic of all rows together."""
        weight = self.weight.sum()
        means = {name: sums.sum(0) / weight for name, sums in self.squares.items()}
        return TextEnergy(int(self.tokens.sum()), means)


class EnergyWatch:
    """Adds up what the channels carry between `start` and `stop`."""

    def __init__(self, model: nn.Module, groups: Iterable[UnitGroup]) -> None:
        self._real: Tensor | None = None
        self._padded = False
        self._squares: dict[str, Tensor] = {}
        for group in groups:
            assert group.gate is not None
            find_module(model, group.gate.module).register_forward_pre_hook(self._hook(group.name))

    def start(self, real: Tensor) -> None:
        """Watch the next pass.

        Args:
            real: which positions hold tokens and no padding, bool (batch, length).
        """
        self._real, self._padded, self._squares = real, not bool(real.all()), {}

    def stop(self) -> SeenEnergy | None:
        """Return what was seen since `start`, on the CPU; None when nothing was started."""
        if self._real is None:
            return None
        tokens = self._real.sum(1).cpu()
        self._real = None
        return SeenEnergy(tokens, tokens, {name: sums.cpu() for name, sums in self._squares.items()})

    def _hook(self, name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            if self._real is not None:
                # Some families join batch and positions to one axis.
                channels = inputs[0].detach().reshape(*self._real.shape, -1)
                self._squares[name] = self._summed(channels, self._real.to(channels.device))

        return hook

    def _summed(self, channels: Tensor, real: Tensor) -> Tensor:
        """Return the sums of squares over the real positions, (batch, units)."""
        total = channels.new_zeros(len(channels), channels.shape[-1], dtype=torch.float32)
        for block, counted in zip(channels.split(BLOCK, 1), real.split(BLOCK, 1), strict=True):
            squares = block.float().square()
            total += (squares.masked_fill(~counted[..., None], 0) if self._padded else squares).sum(1)
        return total
