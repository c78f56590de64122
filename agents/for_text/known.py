"""What is known of texts that a model wrote: their statistics, their domains, and which domains do what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import torch
from torch import Tensor

from prunepolicy.policy.text_scores import KnownText, KnownTexts
from prunepolicy.policy.text_scores.prior import SMALLEST
from prunepolicy.policy.text_scores.registry import apart, flat
from prunepolicy.pruning.session.model_session import ModelSession
from prunepolicy.pruning.statistics.probe import Probe
from prunepolicy.pruning.statistics.text_domains import Parts, domains_of, parts_of
from prunepolicy.pruning.statistics.text_energy import TextEnergy, energies_along, energy_of, outgoing_norms
from prunepolicy.pruning.statistics.writing import written_once
from prunepolicy.pruning.statistics.written_texts import Writing, written_texts

GENERIC = Probe("varied")
"""The text of all kinds on which the default chooses, too."""


@dataclass(frozen=True)
class Dividing:
    """How texts are divided.

    Attributes:
        shown: tokens after which a text is shown, ascending; what follows the last is what was not shown.
        domains: number of domains.
        directions: in which texts are compared.
        validation: share of the domains that choose among scorers.
        held_out: share of the domains to test on.
        seed: of the clustering and of the parts.
    """

    shown: tuple[int, ...] = (32, 128)
    domains: int = 24
    directions: int = 8
    validation: float = 0.2
    held_out: float = 0.2
    seed: int = 0


@dataclass(frozen=True)
class Texts:
    """All texts of a model, each with the label of its domain."""

    generic: TextEnergy
    norms: dict[str, Tensor]
    texts: tuple[KnownText, ...]
    parts: Parts

    @classmethod
    def of(cls, session: ModelSession, writing: Writing, dividing: Dividing) -> Self:
        """Let the model write, read what it wrote, and find domains in it."""
        tokens = written(session, writing)
        pieces = statistics(session, tokens, (*dividing.shown, tokens.shape[1]))
        whole = torch.stack([flat(TextEnergy.pooled(text).energy) for text in pieces])
        labels = domains_of(
            whole.clamp(min=SMALLEST).log(), dividing.domains, dividing.directions, dividing.seed
        )
        texts = tuple(known_text(label, text) for label, text in zip(labels, pieces, strict=True))
        parts = parts_of(labels, dividing.validation, dividing.held_out, dividing.seed)
        return cls(
            generic_energy(session), outgoing_norms(session.model, session.checkpoint.graph), texts, parts
        )

    def known(self, domains: frozenset[int]) -> KnownTexts:
        """Return the texts of some domains."""
        return KnownTexts(self.generic, self.norms, [text for text in self.texts if text.domain in domains])

    @cached_property
    def all(self) -> KnownTexts:
        """The texts of all domains."""
        return KnownTexts(self.generic, self.norms, self.texts)


def written(session: ModelSession, writing: Writing) -> Tensor:
    """Return the texts that the model writes, shape (texts, tokens), and say how far it is."""
    fingerprint = session.checkpoint.fingerprint
    with session.progress.step("texts of many kinds", writing.texts * (writing.length - 1)) as tick:
        tokens = written_texts(writing, session.model, session.tokenizer_if_any, fingerprint, tick)
        if not tick.done:
            tick.remark = "reused"
    return tokens


def statistics(session: ModelSession, tokens: Tensor, ends: Sequence[int]) -> list[list[TextEnergy]]:
    """Return per text the statistics of its consecutive pieces; kept between runs, as rounded logarithms."""
    graph, model = session.checkpoint.graph, session.model
    groups = {group.name: torch.empty(group.size) for group in graph.of_kind("ffn")}
    with session.progress.step("read texts", len(tokens)) as tick:

        def read() -> Tensor:
            rows = []
            for text in tokens:
                pieces = energies_along(model, graph, text[None].to(session.device), ends)
                rows.append(torch.stack([flat(piece.energy) for piece in pieces]).clamp(min=SMALLEST).log())
                tick(1)
            return torch.stack(rows).half()

        key = ["energies", session.checkpoint.fingerprint, str(session.dtype), list(ends), tokens.tolist()]
        found = written_once(key, read).float().exp()
        if not tick.done:
            tick.remark = "reused"
    counts = [end - begin for begin, end in zip((0, *ends), ends, strict=False)]
    return [
        [TextEnergy(n, apart(piece, groups)) for n, piece in zip(counts, text, strict=True)] for text in found
    ]


def known_text(domain: int, pieces: Sequence[TextEnergy]) -> KnownText:
    """Return a text whose pieces but the last were shown one after the other."""
    shown = tuple(TextEnergy.pooled(pieces[:count]) for count in range(1, len(pieces)))
    return KnownText(domain, shown, pieces[-1])


def generic_energy(session: ModelSession, seed: int = 0) -> TextEnergy:
    """Return the statistic of the model's own varied text."""
    return energy_of(session.stats({"activations"}, replace(GENERIC, seed=seed)), session.checkpoint.graph)
