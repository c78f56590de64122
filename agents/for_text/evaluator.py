"""What choices by a text scorer cost on the rest of texts whose first tokens they saw."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import product
from statistics import mean

import torch
from torch import Tensor
from torch.nn import functional

from prunepolicy.agents.for_text.ahead import seen_by
from prunepolicy.agents.for_text.known import Texts
from prunepolicy.agents.for_text.report import place_of
from prunepolicy.policy.kinds.text import Text
from prunepolicy.pruning.plan import Budget, Plan
from prunepolicy.pruning.session.model_session import ModelSession
from prunepolicy.pruning.statistics.gates import masked
from prunepolicy.pruning.statistics.stats import Stats

DomainScores = dict[tuple[int, str], float]
"""Excess log-perplexity by domain, and by tokens shown and budget."""


@dataclass
class TextEvaluator:
    """Some texts of held-out domains, which pruned models read whole and are scored on the end of.

    Attributes:
        tokens: all texts, shape (texts, length).
        most: texts to evaluate on, at most.
    """

    session: ModelSession
    texts: Texts
    tokens: Tensor
    most: int
    _dense: dict[int, float] = field(default_factory=dict)

    @property
    def places(self) -> list[int]:
        """Which texts to evaluate on: the first of every held-out domain, then the second ones."""
        by_domain = [
            [place for place, text in enumerate(self.texts.texts) if text.domain == label]
            for label in sorted(self.texts.parts.held_out)
        ]
        turns = range(max(map(len, by_domain)))
        return [places[n] for n in turns for places in by_domain if n < len(places)][: self.most]

    def scores(self, policy: Text, budgets: Sequence[Budget]) -> DomainScores:
        """Return the mean excess of a policy's choices over the dense model, nats per token."""
        found: dict[tuple[int, str], list[float]] = {}
        graph, stats = self.session.checkpoint.graph, Stats(fingerprint=self.session.checkpoint.fingerprint)
        with self.session.progress.step(f"compare: {policy.config.scorer}", len(self.places)) as tick:
            for place in self.places:
                text = self.texts.texts[place]
                seen = [
                    seen_by(policy.scorer, self.session, few, self.tokens[place, : few.tokens])
                    for few in text.shown
                ]
                for few, budget in product(seen, budgets):
                    plan = policy.shown(few, self.texts.norms).plan(graph, stats, budget)
                    excess = self._loss(place, plan) - self._dense_loss(place)
                    found.setdefault((text.domain, place_of(few.tokens, budget.keep)), []).append(excess)
                tick(1)
        return {where: mean(values) for where, values in found.items()}

    def _dense_loss(self, place: int) -> float:
        if place not in self._dense:
            self._dense[place] = self._loss(place, None)
        return self._dense[place]

    @torch.inference_mode()
    def _loss(self, place: int, plan: Plan | None) -> float:
        """Return the mean loss on the tokens after the longest showing."""
        model, graph = self.session.model, self.session.checkpoint.graph
        row, seen = self.tokens[place].to(self.session.device), self.texts.texts[place].shown[-1].tokens
        with masked(model, graph, plan) if plan else nullcontext():
            logits = model(input_ids=row[None]).logits[0, seen - 1 : -1].float()
        return float(functional.cross_entropy(logits, row[seen:]))
