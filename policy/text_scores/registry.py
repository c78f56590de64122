"""The registry of text scorers: from the statistic of a few tokens to scores of FFN channels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from prunepolicy.pruning.registry import Registry
from prunepolicy.pruning.statistics.text_energy import TextEnergy

Energies = Mapping[str, Tensor]
"""FFN group name to one number per unit."""


@dataclass(frozen=True)
class KnownText:
    """One text of a known domain.

    Attributes:
        domain: label of the kind of text.
        shown: statistics of its first tokens, a few lengths in ascending order.
        rest: statistic of tokens of the same text that none of `shown` saw.
    """

    domain: int
    shown: tuple[TextEnergy, ...]
    rest: TextEnergy


@dataclass(frozen=True)
class KnownTexts:
    """What scorers learn from.

    Attributes:
        generic: statistic of text of all kinds that the model wrote.
        norms: FFN group name to (units,), the norms of the down projection's columns.
        texts: texts of the training domains.
    """

    generic: TextEnergy
    norms: Energies
    texts: Sequence[KnownText]

    @cached_property
    def domains(self) -> dict[int, TextEnergy]:
        """The statistic of all tokens of each domain, by label."""
        parts: dict[int, list[TextEnergy]] = {}
        for text in self.texts:
            parts.setdefault(text.domain, []).extend((text.shown[-1], text.rest))
        return {label: TextEnergy.pooled(parts[label]) for label in sorted(parts)}


class TextScorer(ABC):
    """Estimates what the channels carry on a text from the statistic of a few of its tokens.

    Attributes:
        looks_ahead: whether it wants to see what the model goes on with after the tokens, too; it does
            without where it can't.
        numbers: all that was learned, by name; assigning a saved one restores the scorer.
    """

    looks_ahead: ClassVar[bool] = False

    def __init__(self) -> None:
        self.numbers: dict[str, Tensor] = {}

    @abstractmethod
    def fit(self, known: KnownTexts) -> None:
        """Learn `numbers` from the training domains."""

    @abstractmethod
    def energy(self, few: TextEnergy) -> dict[str, Tensor]:
        """Return an estimate of the mean squares on other tokens of the text that `few` is from."""

    def scores(self, few: TextEnergy, norms: Energies) -> dict[str, Tensor]:
        """Return one score per unit, higher means keep: the root of the energy times the outgoing norm."""
        return {name: energy.sqrt() * norms[name] for name, energy in self.energy(few).items()}


text_scorers: Registry[type[TextScorer]] = Registry("text scorer", "prunepolicy.policy.text_scores")


def flat(energies: Energies) -> Tensor:
    """Return the numbers of all groups one after the other."""
    return torch.cat(list(energies.values()))


def apart(numbers: Tensor, like: Energies) -> dict[str, Tensor]:
    """Return what `flat` joined, by group, in the order and sizes of `like`."""
    parts = numbers.split([len(values) for values in like.values()])
    return dict(zip(like, parts, strict=True))
