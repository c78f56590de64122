from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prunepolicy.agents.learned_pruning.evaluator import Evaluator, difference
from prunepolicy.agents.training.recipe import EvaluationRecipe
from prunepolicy.policy.load import load_policy
from prunepolicy.policy.planning import plan_for
from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.plan import Budget
from prunepolicy.pruning.session.model_session import ModelSession
from prunepolicy.pruning.session.opened_model import Hardware
from prunepolicy.pruning.statistics.probe import Probe


def test_budgets_that_differ_have_scores_of_their_own(
    model: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Evaluator, "plan", lambda self, session, policy, budget: budget)
    monkeypatch.setattr(Evaluator, "excess", staticmethod(lambda job: 1.0))
    session = ModelSession("tiny", Checkpoint.open(Path(model())), Hardware("cpu", "float32"))
    budgets = (
        Budget(0.8, "ffn"),
        Budget(0.8, "ffn", uniform=False),
        Budget(0.8),
        Budget(0.8, units=("ffn", "heads")),
        Budget(0.8, units=("ffn", "heads"), uniform=False),
    )
    scores = Evaluator((session,), budgets, EvaluationRecipe()).scores(load_policy("random"))
    assert [*scores] == [
        "tiny, keep 0.8 of ffn",
        "tiny, keep 0.8 of ffn per layer",
        "tiny, keep 0.8 of params",
        "tiny, keep 0.8 of params from ffn and heads",
        "tiny, keep 0.8 of params from ffn and heads per layer",
    ]


def test_policies_that_work_in_rounds_are_judged_in_rounds(
    tiny_checkpoint: Callable[..., Checkpoint], byte_tokenizer: Any
) -> None:
    checkpoint = tiny_checkpoint("llama", vocab_size=258, intermediate_size=64, num_hidden_layers=3)
    byte_tokenizer.save_pretrained(checkpoint.folder)
    session, budget = ModelSession("tiny", checkpoint, Hardware("cpu", "float32")), Budget(0.5, "ffn")
    policy = load_policy("activation").with_settings(samples=4, length=16).in_rounds(3)
    judged = Evaluator((session,), (budget,), EvaluationRecipe()).plan(session, policy, budget)
    assert judged.keep == plan_for(session, policy, budget, Probe(samples=4, length=16)).keep
    assert judged.keep != plan_for(session, policy.in_rounds(1), budget, Probe(samples=4, length=16)).keep


def test_windows_of_two_policies_are_compared_in_pairs() -> None:
    rival = {"a": [1.0, 3.0, 2.0, 8.0], "b": [2.0, 0.0, 1.0, 5.0]}
    own = {place: [loss - 0.5 for loss in losses] for place, losses in rival.items()}
    assert difference(own, rival) == pytest.approx((-0.5, -0.5))
    assert not difference({**own, "a": own["a"][::-1]}, rival).excludes(0)
