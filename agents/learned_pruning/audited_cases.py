"""Choose for every training model what rewards are computed from, and let the network check it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Literal

from prunepolicy.agents.learned_pruning.learner import Assignment
from prunepolicy.agents.learned_pruning.measured_rise import MeasuredRise
from prunepolicy.agents.learned_pruning.prune_cases import cases_of, measured_rise, prune_cases
from prunepolicy.agents.learned_pruning.surrogate_audit import LEAST_TAU, SIZES, Audit, audit
from prunepolicy.envs.prune_case import PruneCase
from prunepolicy.envs.row_layer import RowLayer, predicted_rise
from prunepolicy.pruning.errors import PrunePolicyError
from prunepolicy.pruning.plan import Budget
from prunepolicy.pruning.statistics.probe import Probe
from prunepolicy.pruning.units import Keep

Reward = Literal["auto", "surrogate", "measured", "recovered"]
"""Where the rise of the loss comes from; `auto` is the surrogate where it passes its audit, and the
measured rise elsewhere."""
REFRESHES = 2
"""How often an unconvincing surrogate is built anew, from twice as many samples each time."""


def audited_cases(
    assignment: Assignment, probe: Probe, reward: Reward = "auto"
) -> tuple[tuple[PruneCase, ...], dict[str, float]]:
    """Return every training model under the recipe's budgets, and what a policy's card says about it.

    Raises:
        PrunePolicyError: when rewards should come from a surrogate that the network contradicts.
    """
    if reward in ("measured", "recovered"):
        return prune_cases(assignment, probe, reward), {}
    audited = [
        _audited(assignment, measure, probe, reward, kind)
        for measure in [measured_rise(assignment, session, probe) for session in assignment.sessions]
        for kind in range(len(assignment.recipe.budgets))
    ]
    return tuple(case for case, _ in audited), evidence_of([found for _, found in audited])


def audited_layers(
    assignment: Assignment, networks: Sequence[Sequence[RowLayer]], probe: Probe
) -> dict[str, float]:
    """Return what a policy's card says about rises predicted layer by layer, one network per model."""
    audits = []
    for session, layers in zip(assignment.sessions, networks, strict=True):
        case = replace(cases_of(assignment, session, probe)[0], budget=Budget(max(SIZES), "ffn"))
        predict = partial(predicted_rise, layers)
        audits.append(_audit(assignment, case, measured_rise(assignment, session, probe), predict))
    return evidence_of(audits)


def evidence_of(audits: list[Audit]) -> dict[str, float]:
    """Return what audits of several models and budgets came to: of every number, the worst."""
    return {
        "surrogate tau, all sizes": min(found.across.tau for found in audits),
        "surrogate tau, equal size": min(found.equal.tau for found in audits),
        "surrogate tau, equal size, p-value": max(found.equal.p_value for found in audits),
        "unconvincing surrogates": float(sum(not found.is_convincing for found in audits)),
    }


def _audited(
    assignment: Assignment, measure: MeasuredRise, probe: Probe, reward: Reward, kind: int
) -> tuple[PruneCase, Audit]:
    """Return a model under one kind of budget, and the last audit.

    Its surrogate has passed, or it is measured.
    """
    session, note = measure.session, assignment.progress.note
    for refresh in range(REFRESHES + 1):
        more = replace(probe, samples=probe.samples * 2**refresh)
        case = cases_of(assignment, session, more)[kind]
        found = _audit(assignment, case, measure)
        note(f"  surrogate from {more.samples} samples: {found}")
        if found.is_convincing:
            return case, found
    if reward == "surrogate":
        raise PrunePolicyError(
            f"The surrogate doesn't know {session.name}: {found}, where tau should reach {LEAST_TAU:g} at "
            "equal size. Reward by what is measured (--set learner.reward=measured)."
        )
    note(f"  {session.name} is measured instead")
    return replace(cases_of(assignment, session, probe)[kind], measure=measure), found


def _audit(
    assignment: Assignment,
    case: PruneCase,
    measure: MeasuredRise,
    predict: Callable[[Keep], float] | None = None,
) -> Audit:
    recipe, widths = assignment.recipe, "equal widths" if case.budget.uniform else "widths by layer"
    with assignment.progress.step(f"audit the surrogate of {case.name}, {case.budget.of}, {widths}"):
        return audit(case, measure, seed=recipe.seed, sizes=recipe.sizes, predict=predict)
