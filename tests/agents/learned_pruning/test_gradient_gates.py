from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from prunepolicy.agents.learned_pruning.gradient_gates import GradientGates, straight_through
from prunepolicy.agents.learned_pruning.learner import Assignment
from prunepolicy.agents.training.recipe import Recipe
from prunepolicy.agents.training.train import train
from prunepolicy.policy.load import load_policy
from prunepolicy.policy.planning import plan_for
from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.errors import PrunePolicyError, UsageError
from prunepolicy.pruning.plan import Budget
from prunepolicy.pruning.session.model_session import ModelSession
from prunepolicy.pruning.session.opened_model import Hardware
from prunepolicy.pruning.statistics.stats import Stats

Make = Callable[..., Checkpoint]
WRITTEN = ("best/policy.json", "best/weights.safetensors", "last/weights.safetensors", "metrics.jsonl")


@pytest.fixture
def checkpoint(tiny_checkpoint: Make, byte_tokenizer: transformers.PreTrainedTokenizerFast) -> Checkpoint:
    made = tiny_checkpoint("llama", vocab_size=258, num_hidden_layers=2)
    byte_tokenizer.save_pretrained(made.folder)
    return made


def recipe(checkpoint: Checkpoint, **changes: Any) -> Recipe:
    return Recipe.model_validate(
        {
            "algorithm": "gradient_gates",
            "policy": {"kind": "gates", "criterion": "random", "samples": 4, "length": 12},
            "learner": {"texts": 16, "length": 12, "learning_rate": 0.1, "temperature": 1.0},
            "models": [str(checkpoint.folder)],
            "budgets": {"of": "ffn", "keep": [0.75, 0.5]},
            "evaluation": {"every": 3, "samples": 4, "length": 12, "baselines": ["random"]},
            "max_steps": 6,
            "checkpoint_every": 2,
            "dtype": "float32",
            **changes,
        }
    )


def learner(checkpoint: Checkpoint, silent: int = 0, **changes: Any) -> GradientGates:
    """A learner for the tiny network, the first `silent` channels of which write nothing."""
    chosen = recipe(checkpoint, **changes)
    session = ModelSession(chosen.models[0], checkpoint, Hardware("cpu", "float32"))
    with torch.no_grad():
        for layer in session.model.model.layers:
            layer.mlp.down_proj.weight[:, :silent] = 0
            layer.mlp.down_proj.weight *= 10
    return GradientGates(Assignment(chosen, (session,)))


@pytest.mark.parametrize("uniform", [True, False])
def test_channels_that_matter_are_found(checkpoint: Checkpoint, uniform: bool) -> None:
    agent = learner(checkpoint, silent=24, budgets={"of": "ffn", "keep": [0.5], "uniform": uniform})
    rewards = [agent.step()["reward"] for _ in range(60)]
    assert rewards[0] < -1e-3
    assert rewards[-1] > rewards[0] / 10
    budget = Budget(0.5, "ffn", uniform=uniform)
    plan = agent.policy.plan(checkpoint.graph, Stats(fingerprint=checkpoint.fingerprint), budget)
    kept = [unit for group in checkpoint.graph.of_kind("ffn") for unit in plan.kept(group)]
    assert sum(unit >= 24 for unit in kept) >= 0.9 * len(kept)


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_a_learner_continues_bit_by_bit_from_its_state(checkpoint: Checkpoint, noise: float) -> None:
    settings = {"texts": 16, "length": 12, "noise": noise}
    whole, first, second = (learner(checkpoint, learner=settings) for _ in range(3))
    expected = [whole.step() for _ in range(6)]
    for _ in range(3):
        first.step()
    second.step()
    second.restore(first.state())
    assert [second.step() for _ in range(3)] == expected[3:]
    for name, logits in whole.policy.weights().items():
        assert torch.equal(logits, second.policy.weights()[name])


def test_an_interrupted_run_resumes_to_the_same_bytes(
    checkpoint: Checkpoint, tmp_path: Path, interrupt_at: Callable[..., None]
) -> None:
    report = train(recipe(checkpoint), tmp_path / "whole" / "run")
    interrupt_at(GradientGates, "step", 4)
    with pytest.raises(KeyboardInterrupt):
        train(recipe(checkpoint), tmp_path / "cut" / "run")
    train(recipe(checkpoint), tmp_path / "cut" / "run", resume=True)
    for name in WRITTEN:
        assert (tmp_path / "cut" / "run" / name).read_bytes() == (
            tmp_path / "whole" / "run" / name
        ).read_bytes()
    assert set(report.scores) == {"run", "random"}
    assert load_policy(tmp_path / "whole" / "run").kind == "gates"


def test_the_backward_pass_sees_a_sigmoid_around_the_threshold() -> None:
    logits = torch.tensor([2.0, 1.0, 0.0, -4.0], requires_grad=True)
    values = straight_through(logits, (0, 1), temperature=0.5)
    assert values.tolist() == [1, 1, 0, 0]
    (slope,) = torch.autograd.grad(values.sum(), logits)
    assert slope[1] == pytest.approx(float(slope[2]))
    assert slope[1] > slope[0] > slope[3] > 0


def test_the_models_own_weights_stay_as_they_are(checkpoint: Checkpoint) -> None:
    agent = learner(checkpoint)
    before = {name: weight.clone() for name, weight in agent.session.model.named_parameters()}
    agent.step()
    for name, weight in agent.session.model.named_parameters():
        assert weight.grad is None
        assert torch.equal(weight, before[name])


def test_a_fine_tuned_twin_is_refused(checkpoint: Checkpoint) -> None:
    agent, budget = learner(checkpoint), Budget(0.75, "ffn")
    assert plan_for(agent.session, agent.policy, budget, agent.policy.probe).keep
    with torch.no_grad():
        agent.session.model.lm_head.weight.mul_(1.5)
    agent.session.model.save_pretrained(checkpoint.folder)
    twin = ModelSession("twin", Checkpoint.open(checkpoint.folder), agent.session.hardware)
    with pytest.raises(UsageError, match="another network"):
        plan_for(twin, agent.policy, budget, agent.policy.probe)


def test_more_than_one_network_is_refused(checkpoint: Checkpoint) -> None:
    with pytest.raises(UsageError, match="name one model, none as held_out"):
        learner(checkpoint, held_out=["another"])
    with pytest.raises(UsageError, match="of the kind gates"):
        learner(checkpoint, policy={"kind": "prunenet"})


def test_gates_learn_on_the_users_text_where_one_is_named(checkpoint: Checkpoint, tmp_path: Path) -> None:
    file = tmp_path / "mine.txt"
    file.write_text("0123456789ab" * 20, encoding="utf-8")
    agent = learner(checkpoint, learner={"text": str(file), "texts": 16, "length": 12})
    assert agent.tokens.shape == (16, 12)
    assert (agent.tokens == agent.tokens[0]).all()
    with pytest.raises(PrunePolicyError, match=r"gone\.txt"):
        learner(checkpoint, learner={"text": str(tmp_path / "gone.txt"), "length": 12})
