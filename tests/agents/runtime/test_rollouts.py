"""Models that learn when to think, answering on workers: the same bytes, and engines that know the way."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

from prunepolicy.agents.runtime import LocalRunner, Runner
from prunepolicy.agents.runtime.open_runner import open_runner
from prunepolicy.agents.runtime.settings import ClusterSettings
from prunepolicy.agents.thinking.lm.engines import Chunk, Request, engines
from prunepolicy.agents.thinking.lm.policy_model import PolicyModel
from prunepolicy.agents.thinking.lm.problem_set import ProblemSet
from prunepolicy.agents.thinking.lm.recipe import ThinkRecipe
from prunepolicy.agents.training.recipe_file import load_recipe
from prunepolicy.agents.training.train import train

FILES = ("best/model.safetensors", "last/model.safetensors", "metrics.jsonl")
TINY = Path(__file__).resolve().parents[3] / "configs" / "think" / "tiny.yaml"
QUICK = [
    "new={layers: 2, hidden: 32, ffn: 48, heads: 2, merges: 16, context: 96}",
    "problems.train=20",
    "problems.held_out=8",
    "warm_up={steps: 1, check_every: 1, max_easy_gain: 1, min_hard_gain: -1, min_think_accuracy: 0}",
    "warm_up.problems=6",
    "imitation.batch_size=4",
    "reinforcement={steps: 2, prompts_per_step: 4, num_generations: 2, chunk: 1, max_tokens: [6]}",
    "alarms={dead_reward: 'off', mode_collapse: 'off', length_explosion: 'off'}",
    "evaluation={every: 2, samples: 1}",
    "max_steps=3",
    "checkpoint_every=1",
    "dtype=float32",
]


@pytest.fixture
def recipe() -> ThinkRecipe:
    found = load_recipe(TINY, QUICK)
    assert isinstance(found, ThinkRecipe)
    return found


def learned(recipe: ThinkRecipe, folder: Path, runner: Runner) -> dict[str, bytes]:
    train(recipe, folder, runner=runner)
    return {name: (folder / name).read_bytes() for name in FILES}


@pytest.mark.usefixtures("cluster")
def test_answers_written_by_workers_leave_the_same_bytes(recipe: ThinkRecipe, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    expected = learned(recipe, tmp_path / "here" / "tiny", LocalRunner())
    settings = ClusterSettings.model_validate({"address": "local", "workers": 2})
    with open_runner(settings, lambda sentence: None) as runner:
        assert learned(recipe, tmp_path / "there" / "tiny", runner) == expected


def test_an_engine_travels_with_the_weights_of_the_moment(recipe: ThinkRecipe) -> None:
    problems = ProblemSet.draw(recipe.problems, 0)
    policy_model = PolicyModel.new(recipe, problems, torch.device("cpu"))
    chunk = Chunk((Request((5, 6, 7), 3, 1),), policy_model.sampling(6))
    engine = engines["transformers"].open(policy_model.model, "cpu")
    before = engine(chunk)
    with torch.no_grad():
        for weight in policy_model.model.parameters():
            weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)))
    arrived = pickle.loads(pickle.dumps(engine))(chunk)
    here = engine(chunk)
    assert torch.equal(arrived.tokens, here.tokens)
    assert torch.equal(arrived.log_probs, here.log_probs)
    assert before.log_probs.shape != here.log_probs.shape or not torch.equal(before.log_probs, here.log_probs)
