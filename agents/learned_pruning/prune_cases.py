"""The models of a recipe, prepared for the pruning environment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from prunepolicy.agents.learned_pruning.learner import Assignment
from prunepolicy.agents.learned_pruning.measured_rise import REWARDING_SEED, MeasuredRise
from prunepolicy.envs.prune_case import PruneCase
from prunepolicy.pruning.criteria import Need
from prunepolicy.pruning.plan import Budget, Plan
from prunepolicy.pruning.session.model_session import ModelSession
from prunepolicy.pruning.statistics.probe import WRITTEN, Probe
from prunepolicy.pruning.statistics.stats import Stats
from prunepolicy.pruning.units import Keep

Source = Literal["surrogate", "measured", "recovered"]
"""Where the rise of the loss comes from: predicted, measured right after the cut, or after a repair."""
SEEN: set[Need] = {"activations", "gradients"}
DROPS: set[Need] = {"drops"}
USUAL_REPAIR = "bias"
"""The cheapest recovery: it costs one more pass, and no weight is trained."""
TEXTS, LENGTH = 6, 64
"""Amount of text on which the rise is measured: more episodes teach more than more text does."""


@dataclass(frozen=True)
class Refresh:
    """Statistics measured anew, on the network as a keep choice leaves it."""

    session: ModelSession
    needs: frozenset[Need]
    probe: Probe

    def __call__(self, keep: Keep) -> Stats:
        """Return the statistics, without progress lines: they are collected in every episode."""
        units = {name: tuple(ids) for name, ids in keep.items()}
        with self.session.progress.silence():
            return self.session.stats({*self.needs}, self.probe, Plan(units, Budget(1.0), "episode"))


def prune_cases(assignment: Assignment, probe: Probe, reward: Source = "surrogate") -> tuple[PruneCase, ...]:
    """Return every training model under every kind of budget of the recipe.

    Args:
        probe: on which statistics are collected.
        reward: where the rise of the loss comes from.
    """
    return tuple(
        case for session in assignment.sessions for case in cases_of(assignment, session, probe, reward)
    )


def cases_of(
    assignment: Assignment, session: ModelSession, probe: Probe, reward: Source = "surrogate"
) -> tuple[PruneCase, ...]:
    """Return one model under every kind of budget of the recipe, which share what was measured."""
    kinds = [max(kind.listed(), key=lambda budget: budget.keep) for kind in assignment.recipe.budgets]
    needs = SEEN | DROPS if assignment.recipe.policy.get("count_layers") else SEEN
    refresh = Refresh(session, frozenset(needs), probe)
    stats = assignment.collected.stats(session, needs, probe)
    measure = None if reward == "surrogate" else measured_rise(assignment, session, probe, reward)
    return tuple(
        PruneCase(session.name, session.checkpoint.graph, stats, kind, measure, refresh) for kind in kinds
    )


def measured_rise(
    assignment: Assignment, session: ModelSession, probe: Probe, reward: Source = "measured"
) -> MeasuredRise:
    """Return what measures the rise of a model's loss, on text like the probe's that nothing else reads.

    What is `recovered` was repaired with the repair that the policy's own plans ask for.
    """
    source = probe.source if probe.source in WRITTEN else "self"
    text = Probe(source, TEXTS, LENGTH, REWARDING_SEED + assignment.recipe.seed)
    repair = assignment.recipe.policy.get("repair") or USUAL_REPAIR
    return MeasuredRise(session, text, repair if reward == "recovered" else None, probe)
