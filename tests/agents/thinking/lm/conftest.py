"""A tiny policy model with random weights, and a recipe that takes seconds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from prunepolicy.agents.thinking.lm.policy_model import PolicyModel
from prunepolicy.agents.thinking.lm.problem_set import ProblemSet, ProblemsRecipe, TaskRecipe
from prunepolicy.agents.thinking.lm.recipe import ThinkRecipe
from prunepolicy.agents.thinking.lm.tiny_model import NewModel

SIZES = {"layers": 2, "hidden": 32, "ffn": 48, "heads": 2, "context": 96}
STAGES = (
    {
        "name": "balance",
        "terms": [{"name": "naive"}, {"name": "balance", "share": "running"}],
        "until": {"steps": 2},
    },
    {"name": "brevity", "terms": [{"name": "naive"}, {"name": "length_aware"}]},
)


def quick_recipe(**changes: Any) -> ThinkRecipe:
    return ThinkRecipe.model_validate(
        {
            "algorithm": "grpo",
            "new": SIZES,
            "problems": {
                "tasks": [{"task": "modular_chain", "levels": [1, 3]}],
                "train": 30,
                "held_out": 9,
            },
            "warm_up": {
                "steps": 2,
                "check_every": 2,
                "max_easy_gain": 1,
                "min_hard_gain": 0,
                "min_think_accuracy": 0,
                "problems": 6,
            },
            "imitation": {"batch_size": 4},
            "reinforcement": {"prompts_per_step": 3, "num_generations": 4, "max_tokens": [10]},
            "alarms": {
                "dead_reward": "off",
                "mode_collapse": "off",
                "length_explosion": "off",
                "unfinished_thoughts": "off",
            },
            "stages": STAGES,
            "max_steps": 6,
            "checkpoint_every": 2,
            "evaluation": {"every": 3, "samples": 1},
            "dtype": "float32",
            **changes,
        }
    )


@pytest.fixture
def recipe() -> Callable[..., ThinkRecipe]:
    """A function that returns a recipe which takes seconds, with changes."""
    return quick_recipe


@pytest.fixture
def policy_model() -> PolicyModel:
    """A model with random weights that are large enough for clear preferences."""
    recipe = quick_recipe(new=SIZES)
    problems = ProblemSet.draw(
        ProblemsRecipe(tasks=(TaskRecipe(task="modular_chain", levels=(1, 3)),), train=5, held_out=5), 0
    )
    assert isinstance(recipe.new, NewModel)
    return PolicyModel.new(recipe, problems, torch.device("cpu"))
