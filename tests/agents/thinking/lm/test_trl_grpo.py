"""TRL's engine against our own: equal advantages, losses and gradients on the same completions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from prunepolicy.agents.thinking.lm.recipe import ThinkRecipe
from prunepolicy.agents.thinking.lm.reinforcement import Reinforcement, advantages_of
from prunepolicy.agents.training.run_folder import METRICS
from prunepolicy.agents.training.train import train
from prunepolicy.pruning.errors import PrunePolicyError, UsageError
from prunepolicy.pruning.io.progress import ProgressReporter

pytest.importorskip("trl")

from prunepolicy.agents.thinking.lm.trl_grpo import TrlGrpo, micro_rows

pytestmark = pytest.mark.filterwarnings("ignore")
Make = Callable[..., ThinkRecipe]
SHORT = {
    "engine": "trl",
    "prompts_per_step": 3,
    "num_generations": 4,
    "max_tokens": [14],
    "temperature": [0.8],
}
ANSWERS = (
    "</think><answer>1</answer>",
    "1b2=3\n</think><answer>3</answer>",
    "</think><answer>2",
    "1b2=3\n1b2=3\n",
)
OBJECTIVES = [
    {},
    {"advantage": "batch", "mode_weight": 0.5, "beta": 0.1},
    {"advantage": "none", "ratio": "sequence", "beta": 0.1},
    {"advantage": "raw", "mode_weight": 2.0},
]


def gradients(learner: TrlGrpo) -> dict[str, torch.Tensor]:
    found = learner.policy_model.model.named_parameters()
    return {name: parameter.grad.clone() for name, parameter in found if parameter.grad is not None}


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_both_engines_have_equal_advantages_losses_and_gradients(
    recipe: Make, objective: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = recipe(warm_up={}, micro_tokens=3000, reinforcement={**SHORT, "objective": objective})
    learner = TrlGrpo(made, ProgressReporter())
    with torch.no_grad():
        for weight in learner.reference_model.parameters():
            weight *= 1.1
    encode, end = learner.policy_model.tokenizer, learner.policy_model.end
    rows = [[*encode(text)["input_ids"], end] for text in ANSWERS] * 3
    monkeypatch.setattr(learner.trainer, "_generate_single_turn", lambda *_, **__: (rows, None))
    batch, shaped = learner._roll()
    assert batch.tokens == rows
    assert batch.table.group.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    how = made.reinforcement.objective
    advantages = advantages_of(shaped.rewards, batch.table, how)
    if how.mode_weight is None:
        theirs = torch.cat([part["advantages"] for part in learner.trainer._buffered_inputs])
        assert sorted(theirs.tolist()) == pytest.approx(sorted(advantages.tolist()))
    learner.optimiser.zero_grad()
    loss = learner.trainer.backward()
    expected = gradients(learner)
    learner.optimiser.zero_grad()
    scores = learner.scorer()(batch.prompts, batch.tokens).log_probs.detach()
    own = replace(batch, written=replace(batch.written, log_probs=scores))
    reference = learner.scorer(learner.reference_model) if how.beta else None
    total = torch.tensor(0.0)
    for part in Reinforcement(learner.scorer(), reference, how, 400).losses(own, advantages, range(12)):
        part.backward()
        total += part.detach()
    assert loss == pytest.approx(float(total), rel=1e-4, abs=1e-6)
    found = gradients(learner)
    assert any(float(one.abs().max()) > 1e-4 for one in found.values())
    for name, gradient in expected.items():
        torch.testing.assert_close(gradient, found[name], rtol=1e-3, atol=1e-6)


def test_a_run_by_trl_is_interrupted_resumed_and_reported_like_any_other(
    recipe: Make, tmp_path: Path, interrupt_at: Callable[..., None]
) -> None:
    stages = {"max_tokens": [6, 9], "temperature": [1.0, 0.9], "minibatches": 2}
    made = recipe(reinforcement={**SHORT, **stages}, switch={"name": "chord"}, micro_tokens=3000)
    train(made, tmp_path / "whole")
    interrupt_at(TrlGrpo, "step", 5)
    with pytest.raises(KeyboardInterrupt):
        train(made, tmp_path / "again")
    torch.rand(3)
    report = train(made, tmp_path / "again", resume=True)
    assert (tmp_path / "again" / METRICS).read_bytes() == (tmp_path / "whole" / METRICS).read_bytes()
    assert set(report.learned) == {"auto", "always", "never"}  # type: ignore[attr-defined]


def test_what_trl_can_not_do_is_refused_and_vllm_is_sent_there(recipe: Make) -> None:
    for changes, sentence in (
        ({"engine": "vllm"}, r"engine=trl and trl\.use_vllm=true"),
        ({"force": "half"}, r"reinforcement\.force"),
        ({"minibatches": 5}, "must divide"),
        ({"objective": {"ratio": "sequence", "mode_weight": 1}}, "weigh the mode token in the ratio"),
        ({"engine": "tlr"}, "Unknown engine"),
    ):
        with pytest.raises(UsageError, match=sentence):
            TrlGrpo.check(recipe(reinforcement={**SHORT, **changes}))


def test_without_vllm_one_sentence_says_so(recipe: Make) -> None:
    learner = TrlGrpo(recipe(warm_up={}, reinforcement=SHORT, trl={"use_vllm": True}), ProgressReporter())
    with pytest.raises(PrunePolicyError, match="vLLM"):
        learner.trainer  # noqa: B018  # It is made now.


@pytest.mark.parametrize(("tokens", "rows"), [(10, 1), (100, 4), (250, 12)])
def test_completions_pass_through_the_model_in_equal_parts(tokens: int, rows: int) -> None:
    assert micro_rows(12, tokens, 20) == rows
