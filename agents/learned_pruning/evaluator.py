"""Evaluator policies on models they didn't learn from: how much worse the pruned model predicts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from prunepolicy.agents.learned_pruning.shared_stats import SharedStats
from prunepolicy.agents.runtime import LocalRunner, Runner, Shared
from prunepolicy.agents.training.recipe import EvaluationRecipe
from prunepolicy.policy.base import Policy
from prunepolicy.policy.planning import instruments_for
from prunepolicy.pruning.errors import PrunePolicyError, UsageError
from prunepolicy.pruning.measure.intervals import Interval, mean_interval
from prunepolicy.pruning.measure.perplexity import window_losses
from prunepolicy.pruning.plan import Budget, Plan
from prunepolicy.pruning.session.model_session import ModelSession
from prunepolicy.pruning.statistics.gates import masked
from prunepolicy.pruning.statistics.probe import Probe, probe_inputs, start_token

JUDGING_SEED = 1_000_003
"""Of the text that evaluators; no training probe uses it."""

Scores = dict[str, float]
"""Excess log-perplexity over the dense model in nats per token, by `place_of`."""
Windows = dict[str, list[float]]
"""The same for every window of the text; windows of one place can be compared in pairs."""


@dataclass
class _Text:
    """What one model is scored on."""

    tokens: Tensor
    window: int
    start: int
    dense: float | NDArray[np.float64] = 0.0


@dataclass(frozen=True)
class Excess:
    """Measures plans: what travels to the workers.

    Attributes:
        networks: the models and what they are scored on, by name.
    """

    networks: Mapping[str, tuple[ModelSession, _Text]]

    def __call__(self, job: tuple[str, Plan]) -> list[float]:
        """Return how much worse a model predicts every window as a plan leaves it, in nats per token."""
        name, plan = job
        session, text = self.networks[name]
        with masked(session.model, session.checkpoint.graph, plan):
            return [float(loss) for loss in _nll(session, text) - text.dense]


@dataclass
class Evaluator:
    """Scores policies on fixed models, budgets and texts.

    Attributes:
        sessions: the models to evaluate on.
        budgets: the sizes to plan for.
        how: amount of the text.
        seed: of the policies' probes.
        text: file to score on; None for text that the dense model writes with the seed `text_seed`.
        collected: statistics of the models.
        runner: measures the plans.
    """

    sessions: tuple[ModelSession, ...]
    budgets: tuple[Budget, ...]
    how: EvaluationRecipe
    seed: int = 0
    text: Path | None = None
    text_seed: int = JUDGING_SEED
    collected: SharedStats = field(default_factory=SharedStats)
    runner: Runner = field(default_factory=LocalRunner)
    _excess: Shared[Excess] | None = None

    def for_the_end(self) -> Evaluator:
        """Return one with other and more text: validation text is biased to the step that it chose."""
        how = self.how.model_copy(update={"samples": 4 * self.how.samples})
        return replace(self, how=how, text=self.how.text, text_seed=self.text_seed + 1, _excess=None)

    def scores(self, policy: Policy) -> Scores:
        """Return the excess log-perplexity of every model at every budget; lower is better."""
        return scores_of(self.windows(policy))

    def windows(self, policy: Policy) -> Windows:
        """Return the same window by window."""
        asked = [(session, budget) for session in self.sessions for budget in self.budgets]
        plans = [(session.name, self.plan(session, policy, budget)) for session, budget in asked]
        places = [place_of(session, budget) for session, budget in asked]
        return dict(zip(places, self.runner.map(self.excess, plans), strict=True))

    def plan(self, session: ModelSession, policy: Policy, budget: Budget) -> Plan:
        """Let `policy` plan for one of the models."""
        graph, probe = session.checkpoint.graph, replace(policy.probe, seed=self.seed)
        needs = policy.needs(graph, budget)
        stats = self.collected.stats(session, needs, probe).merged(policy.read(session.checkpoint))
        return policy.plan(graph, stats, budget, instruments_for(session, needs, budget, probe))

    @property
    def excess(self) -> Shared[Excess]:
        """What measures plans, on texts that are read once."""
        if self._excess is None:
            networks = {session.name: (session, self._read_text(session)) for session in self.sessions}
            self._excess = self.runner.share(Excess(networks))
        return self._excess

    def _read_text(self, session: ModelSession) -> _Text:
        adapter = session.checkpoint.adapter
        check_text_model(session)
        source = "self" if self.text is None else str(self.text)
        probe = Probe(source, self.how.samples, self.how.length, self.text_seed)
        ids = probe_inputs(
            probe, session.model, adapter, session.tokenizer_if_any, session.checkpoint.fingerprint
        )["input_ids"]
        start = start_token(session.model, session.tokenizer_if_any)
        text = _Text(ids[:, 1:].flatten(), probe.length, start)
        text.dense = _nll(session, text)
        return text


def scores_of(windows: Windows) -> Scores:
    """Return the means over windows, which are of equal length."""
    return {place: float(np.mean(excess)) for place, excess in windows.items()}


def difference(own: Windows, rival: Windows) -> Interval:
    """Return the interval of the difference between two policies' mean scores, from the same windows."""
    count = min(len(excess) for excess in own.values())
    changes = [np.subtract(own[place], rival[place])[:count] for place in own]
    return mean_interval(np.mean(changes, axis=0))


def check_text_model(session: ModelSession) -> None:
    """Raise `UsageError` for a model without text, on which policies can't be evaluated."""
    if session.checkpoint.adapter.task != "causal":
        raise UsageError(f"{session.name} is no language model, so policies can't be evaluated on it.")


def place_of(session: ModelSession, budget: Budget) -> str:
    """Return what scores call a model at a budget; budgets that differ have different names."""
    units = f" from {' and '.join(budget.units)}" if budget.units else ""
    return f"{session.name}, {budget}{units}{'' if budget.uniform else ' per layer'}"


def mean(scores: Scores) -> float:
    """Return the mean of scores."""
    values = list(scores.values())
    if not values:
        raise PrunePolicyError("There is nothing to evaluate on: no model or no budget.")
    return sum(values) / len(values)


def _nll(session: ModelSession, text: _Text) -> NDArray[np.float64]:
    """Return the mean negative log-likelihood per token of every window."""
    found = window_losses(session.model, text.tokens.to(session.device), text.window, bos=text.start)
    return found.losses / found.tokens
