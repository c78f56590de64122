"""The kinds of text that a model writes, found by what they make its channels carry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from prunepolicy.envs.named_model import NamedModel
from prunepolicy.envs.text_case import TextCase, TextDomain, lengths
from prunepolicy.pruning.checkpoint.loading import has_tokenizer, load_tokenizer
from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.plan import Budget, Plan
from prunepolicy.pruning.statistics.gates import masked
from prunepolicy.pruning.statistics.text_domains import domains_of
from prunepolicy.pruning.statistics.text_energy import TINY, TextEnergy, energies_along, outgoing_norms
from prunepolicy.pruning.statistics.written_texts import Writing, written_texts
from prunepolicy.pruning.units import Keep

SCORED_TEXTS = 4
"""Texts of a domain that a choice is paid for on, at most: what a step costs."""


@dataclass(frozen=True)
class NamedTexts:
    """Texts that a model wrote, by domain; between processes the model's name travels alone.

    A domain's texts are halved: the first half is shown, the second half pays.

    Attributes:
        model: who writes and reads.
        writing: which texts.
        domains: at most so many; one with a single text is left out.
    """

    model: NamedModel
    writing: Writing = field(default_factory=lambda: Writing(texts=128, length=256))
    domains: int = 16

    def __getstate__(self) -> dict[str, Any]:
        """Travel without what can be read again."""
        return {"model": self.model, "writing": self.writing, "domains": self.domains}

    def __call__(self, domain: int, keep: Keep) -> float:
        """Return the divergence from the dense network's predictions on what pays, in nats per token."""
        graph = self.model.checkpoint.graph
        units = {name: tuple(ids) for name, ids in keep.items() if len(ids) < graph[name].size}
        tokens = self.tokens[self._members[domain][1][:SCORED_TEXTS]]
        dense = self._predictions(tokens)
        with masked(self.model.model, graph, Plan(units, Budget(1.0), "episode")):
            pruned = self._predictions(tokens)
        divergence = functional.kl_div(pruned, dense, log_target=True, reduction="sum") / tokens.numel()
        return float(divergence)

    def case(self) -> TextCase:
        """Return the model prepared for choices that follow a text; no weights stay in memory."""
        domains = [
            TextDomain(f"kind {number}", self._shown(shown), self._whole(rest))
            for number, (shown, rest) in enumerate(self._members)
        ]
        graph, later = self.model.checkpoint.graph, NamedTexts(self.model, self.writing, self.domains)
        norms = outgoing_norms(self.model.model, graph)
        everything = self._whole(range(len(self.tokens)))
        return TextCase(self.model.name, graph, everything, norms, domains, later)

    @cached_property
    def tokens(self) -> Tensor:
        """What the model wrote, shape (texts, tokens)."""
        checkpoint = self.model.checkpoint
        if checkpoint.adapter.task != "causal" or not checkpoint.graph.of_kind("ffn"):
            raise UsageError(f"{self.model.name} writes no text, or has no feed-forward blocks to read it.")
        tokenizer = load_tokenizer(checkpoint.folder) if has_tokenizer(checkpoint.folder) else None
        return written_texts(self.writing, self.model.model, tokenizer, checkpoint.fingerprint)

    def _predictions(self, tokens: Tensor) -> Tensor:
        model: Any = self.model.model
        with torch.no_grad():
            logits = model(input_ids=tokens.to(next(model.parameters()).device), use_cache=False).logits
        predictions: Tensor = logits.float().log_softmax(-1)
        return predictions

    @cached_property
    def _pieces(self) -> list[list[TextEnergy]]:
        """The statistics of every text's consecutive pieces."""
        ends = lengths(self.tokens.shape[1])
        ends = ends if ends[-1] == self.tokens.shape[1] else [*ends, self.tokens.shape[1]]
        graph = self.model.checkpoint.graph
        return [energies_along(self.model.model, graph, text[None], ends) for text in self.tokens]

    @cached_property
    def _members(self) -> list[tuple[list[int], list[int]]]:
        """The texts of every domain: those that are shown, and those that pay."""
        groups = self.model.checkpoint.graph.of_kind("ffn")
        whole = [self._whole([text]).energy for text in range(len(self.tokens))]
        logs = torch.stack([torch.cat([each[g.name] for g in groups]) for each in whole])
        labels = domains_of(logs.clamp(min=TINY).log(), self.domains)
        found = [[text for text, own in enumerate(labels) if own == label] for label in sorted(set(labels))]
        halves = [(texts[: len(texts) // 2], texts[len(texts) // 2 :]) for texts in found if len(texts) > 1]
        if not halves:
            raise UsageError(f"{self.model.name} wrote too few texts for {self.domains} kinds of them.")
        return halves

    def _whole(self, texts: Sequence[int]) -> TextEnergy:
        return TextEnergy.pooled([piece for text in texts for piece in self._pieces[text]])

    def _shown(self, texts: Sequence[int]) -> tuple[TextEnergy, ...]:
        """Return the statistics of the first 32, 64, ... tokens of some texts, one after the other."""
        pieces = [piece for text in texts for piece in self._pieces[text]]
        wanted, found = set(lengths(sum(piece.tokens for piece in pieces))), []
        for count in range(1, len(pieces) + 1):
            pooled = TextEnergy.pooled(pieces[:count])
            if pooled.tokens in wanted:
                found.append(pooled)
        return tuple(found) or (TextEnergy.pooled(pieces[:1]),)
