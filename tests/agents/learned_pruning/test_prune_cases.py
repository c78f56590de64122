from __future__ import annotations

from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
import torch

from prunepolicy.agents.learned_pruning import audited_cases as module
from prunepolicy.agents.learned_pruning.audited_cases import audited_cases
from prunepolicy.agents.learned_pruning.learner import Assignment
from prunepolicy.agents.learned_pruning.measured_rise import MeasuredRise
from prunepolicy.agents.learned_pruning.prune_cases import prune_cases
from prunepolicy.agents.learned_pruning.surrogate_audit import Audit
from prunepolicy.agents.training.recipe import Recipe
from prunepolicy.envs.prune_env import PruneEnv
from prunepolicy.pruning.errors import PrunePolicyError
from prunepolicy.pruning.io.console import Console
from prunepolicy.pruning.session.model_session import ModelSession
from prunepolicy.pruning.session.opened_model import Hardware

PROBE = module.Probe("self", 8, 12)
ORDER = tuple(float(number) for number in range(9))
SIZES = (0.9, 0.9, 0.9, 0.8, 0.8, 0.8, 0.7, 0.7, 0.7)
CONVINCING = Audit((0.8,) * 9, ORDER, ORDER)
MISLEADING = Audit(SIZES, (2.0, 1.0, 0.0, 5.0, 4.0, 3.0, 8.0, 7.0, 6.0), ORDER)


@pytest.fixture
def assignment(model: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> Assignment:
    name = model(num_hidden_layers=2)
    budgets: Any = {"of": "ffn", "keep": (0.7, 0.9), "uniform": False}
    recipe = Recipe(algorithm="ppo", policy={"kind": "graph"}, models=(name,), budgets=budgets)
    monkeypatch.setattr("prunepolicy.agents.learned_pruning.prune_cases.TEXTS", 4)
    monkeypatch.setattr("prunepolicy.agents.learned_pruning.prune_cases.LENGTH", 12)
    return Assignment(recipe, (ModelSession.named(name, Hardware("cpu", "float32")),))


def test_cases_have_what_the_environment_needs(assignment: Assignment) -> None:
    (case,) = prune_cases(assignment, PROBE)
    assert case.measure is None
    assert (case.budget.keep, case.budget.of, case.budget.uniform) == (0.9, "ffn", False)
    env = PruneEnv([case])
    env.reset(seed=0)
    while not env.step(env.action_space.sample())[2]:
        pass
    assert env.plan().keep
    assert prune_cases(assignment, PROBE)[0].stats.values == case.stats.values


@pytest.mark.parametrize(("watched", "rewarded"), [("self", "self"), ("varied", "varied"), ("start", "self")])
def test_rewards_are_measured_on_other_text_like_the_probe(
    assignment: Assignment, watched: str, rewarded: str
) -> None:
    probe = module.Probe(watched, 8, 12)
    (case,) = prune_cases(assignment, probe, reward="measured")
    assert isinstance(case.measure, MeasuredRise)
    assert case.measure.text.source == rewarded
    assert case.measure.text.seed != probe.seed


def test_measured_and_recovered_rewards_ask_the_network(assignment: Assignment) -> None:
    keep = {"layers.0.ffn": tuple(range(8))}
    (plain,), (mended,) = (prune_cases(assignment, PROBE, reward) for reward in ("measured", "recovered"))
    assert isinstance(plain.measure, MeasuredRise)
    assert isinstance(mended.measure, MeasuredRise)
    assert (plain.measure.repair, mended.measure.repair) == (None, "bias")
    assert plain.rise(keep) == plain.measure(keep) > 0
    assert mended.rise(keep) != plain.rise(keep)


def test_the_policys_own_repair_is_what_recovers(assignment: Assignment) -> None:
    recipe = assignment.recipe.model_copy(update={"policy": {"kind": "graph", "repair": "ridge"}})
    (case,) = prune_cases(Assignment(recipe, assignment.sessions), PROBE, "recovered")
    assert isinstance(case.measure, MeasuredRise)
    assert case.measure.repair == "ridge"


def test_statistics_can_be_measured_anew_without_a_word(assignment: Assignment) -> None:
    (case,) = prune_cases(assignment, PROBE)
    assert case.refresh is not None
    said = StringIO()
    assignment.sessions[0].progress.console = Console(file=said)
    fresh = case.refresh({"layers.0.ffn": tuple(range(8))})
    assert said.getvalue() == ""
    assignment.sessions[0].progress.note("heard again")
    assert said.getvalue() == "heard again\n"
    before, after = (stats.get("gradients", "layers.1.ffn") for stats in (case.stats, fresh))
    assert before.shape == after.shape
    assert not torch.allclose(before, after)


def test_a_convincing_surrogate_is_used(assignment: Assignment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "audit", lambda *args, **named: CONVINCING)
    (case,), evidence = audited_cases(assignment, PROBE)
    assert case.measure is None
    assert evidence["surrogate tau, equal size"] == evidence["surrogate tau, all sizes"] == 1
    assert evidence["unconvincing surrogates"] == 0


def test_an_unconvincing_one_is_refreshed_and_then_rejected(
    assignment: Assignment, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = []

    def contradict(case: Any, measure: Any, **named: Any) -> Audit:
        samples.append(case.surrogate.samples)
        return MISLEADING

    monkeypatch.setattr(module, "audit", contradict)
    (case,), evidence = audited_cases(assignment, PROBE)
    assert samples == [8, 16, 32]
    assert isinstance(case.measure, MeasuredRise)
    assert case.surrogate.samples == 8
    assert evidence["surrogate tau, equal size"] == -1
    assert evidence["unconvincing surrogates"] == 1
    with pytest.raises(PrunePolicyError, match=r"doesn't know .* tau -1.00 at equal size"):
        audited_cases(assignment, PROBE, "surrogate")
    assert audited_cases(assignment, PROBE, "measured")[1] == {}


def test_more_samples_may_convince(assignment: Assignment, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([MISLEADING, CONVINCING])
    monkeypatch.setattr(module, "audit", lambda *args, **named: next(answers))
    (case,), _ = audited_cases(assignment, PROBE, "surrogate")
    assert case.measure is None
    assert case.surrogate.samples == 16


def test_every_kind_of_budget_is_audited(assignment: Assignment, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds: Any = [{"of": "ffn", "uniform": False}, {"of": "ffn"}]
    recipe = Recipe.model_validate({**assignment.recipe.model_dump(), "budgets": kinds})
    monkeypatch.setattr(
        module, "audit", lambda case, *args, **named: MISLEADING if case.budget.uniform else CONVINCING
    )
    cases, evidence = audited_cases(Assignment(recipe, assignment.sessions), PROBE)
    assert [case.budget.uniform for case in cases] == [False, True]
    assert [case.measure is None for case in cases] == [True, False]
    assert evidence["unconvincing surrogates"] == 1
    assert evidence["surrogate tau, equal size"] == -1


def test_a_real_audit_is_the_same_every_time(assignment: Assignment) -> None:
    assert audited_cases(assignment, PROBE)[1] == audited_cases(assignment, PROBE)[1]
