"""Any recipe in less than a minute, on tiny random models: it shows that everything runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from pydantic import BaseModel

from prunepolicy.agents.training.algorithms import algorithms
from prunepolicy.agents.training.recipe import SMOKE_SENTENCE, RunRecipe
from prunepolicy.agents.training.train import LEARN, estimate
from prunepolicy.policy.base import policies
from prunepolicy.pruning.checkpoint.random_model import RANDOM_PREFIX
from prunepolicy.pruning.errors import PrunePolicyError
from prunepolicy.pruning.io.config import checked
from prunepolicy.pruning.io.console import Console
from prunepolicy.pruning.io.progress import Event
from prunepolicy.pruning.measure.public_texts import PUBLIC_TEXTS

FAMILIES = ("llama", "gpt2", "gpt_neox")
"""Of the models that stand for a recipe's, in turn."""
MOST_MODELS = 2
MOST: Mapping[str, float] = {
    "max_steps": 4,
    "checkpoint_every": 2,
    "evaluation.every": 2,
    "evaluation.samples": 2,
    "evaluation.length": 16,
    "evaluation.texts": 2,
    "evaluation.test_networks": 1,
    "policy.samples": 4,
    "policy.length": 16,
    "policy.hidden": 8,
    "policy.layers": 2,
    "learner.episodes_per_step": 4,
    "learner.episodes_per_context": 2,
    "learner.n_epochs": 1,
    "learner.choices_per_layer": 2,
    "learner.texts": 4,
    "learner.length": 16,
    "learner.batch_size": 4,
    "learner.batches_per_step": 1,
    "writing.texts": 12,
    "writing.length": 32,
    "domains.domains": 4,
    "domains.directions": 2,
    "training.batch_size": 2,
    "training.validation_texts": 2,
    "data.side": 8,
    "data.train": 64,
    "data.validation": 32,
    "data.test": 32,
    "data.length": 16,
    "data.windows": 16,
    "network.width": 4,
    "network.hidden": 16,
    "network.ffn": 24,
    "network.layers": 2,
    "family.count": 2,
    "family.training.epochs": 1,
    "pipeline.settle.epochs": 1,
    "pipeline.adapt.epochs": 1,
    "pipeline.recover.epochs": 1,
    "family.training.batch_size": 16,
    "pipeline.settle.batch_size": 16,
    "pipeline.adapt.batch_size": 16,
    "pipeline.recover.batch_size": 16,
    "problems.train": 16,
    "problems.held_out": 6,
    "new.layers": 2,
    "new.hidden": 32,
    "new.ffn": 48,
    "new.heads": 2,
    "new.merges": 16,
    "warm_up.steps": 1,
    "warm_up.check_every": 1,
    "warm_up.problems": 3,
    "imitation.batch_size": 4,
    "reinforcement.prompts_per_step": 2,
    "reinforcement.num_generations": 2,
    "reinforcement.max_tokens": 12,
    "reinforcement.steps": 3,
    "micro_tokens": 1024,
    "trl.max_prompt_length": 160,
    "prompts.simulated": 64,
}
"""What keys of recipes are lowered to; others stay."""
ALWAYS: Mapping[str, Any] = {
    "device": "cpu",
    "new.context": 1024,
    "dtype": "float32",
    "domains.shown": [4, 12],
    "evaluation.patience": None,
    "evaluation.text": None,
    "reinforcement.min_mixed_groups": 0.0,
    "trl.use_vllm": False,
    "warm_up.max_easy_gain": 1.0,
    "warm_up.min_hard_gain": -1.0,
    "warm_up.min_think_accuracy": 0.0,
}
"""What keys of recipes are set to where they are there: nothing of a random model may stop the run."""


def smoked(recipe: RunRecipe) -> RunRecipe:
    """Return the recipe shrunk to seconds: algorithm, policy, reward and stages stay, and it says `smoke`."""
    data = recipe.model_dump(mode="json")
    _fill_in(data, recipe.algorithm)
    for key, most in MOST.items():
        _change(data, key, partial(_lowered, most=most))
    for key, value in ALWAYS.items():
        _change(data, key, partial(_replaced, by=value))
    _replace_models(data)
    _replace_data(data)
    if "problems" in data:
        _shorten_thinking(data)
    return checked(type(recipe), data | {"smoke": True}, "The recipe for --smoke")


def _fill_in(data: dict[str, Any], algorithm: str) -> None:
    """Write out those defaults that are to be lowered, in the parts that recipes hold as plain mappings."""
    known: dict[str, type[BaseModel]] = {"learner": algorithms[algorithm].learner_type.config_type}
    if "policy" in data:
        known["policy"] = policies[data["policy"]["kind"]].config_type
    for key in MOST:
        part, _, name = key.partition(".")
        fields = known[part].model_fields if part in known else {}
        if part in data and name in fields:
            data[part].setdefault(name, fields[name].default)


def _change(data: dict[str, Any], key: str, change: Callable[[Any], Any]) -> None:
    """Change the value at a path such as `learner.texts`, where the recipe has one."""
    *parents, name = key.split(".")
    part: Any = data
    for parent in parents:
        part = part.get(parent) if isinstance(part, dict) else None
    if isinstance(part, dict) and name in part:
        part[name] = change(part[name])


def _lowered(value: Any, most: float) -> Any:
    if isinstance(value, list):
        return [_lowered(one, most) for one in value]
    return value if value is None else min(value, most)


def _replaced(_: Any, by: Any) -> Any:
    return by


def _replace_models(data: dict[str, Any]) -> None:
    """Let tiny random models of several families stand for those that a recipe names."""
    names = [f"{RANDOM_PREFIX}{family}" for family in FAMILIES]
    if "models" in data:
        data["models"] = names[: min(len(data["models"]), MOST_MODELS)]
    if data.get("held_out"):
        data["held_out"] = names[MOST_MODELS : MOST_MODELS + 1]
    if data.get("policy", {}).get("shape"):
        data["policy"]["shape"] = [48, 32]  # of a matrix of the tiny LLaMA


def _replace_data(data: dict[str, Any]) -> None:
    """Let images made on the spot and a text of this package stand for those that a recipe names."""
    if "source" in data.get("data", {}):
        data["data"]["source"] = "shapes"
    if "text" in data.get("data", {}):
        data["data"]["text"] = str(PUBLIC_TEXTS / "prose.txt")


def _shorten_thinking(data: dict[str, Any]) -> None:
    """Start from random weights, with short problems and stages, and let no alarm end the run."""
    if data["model"] is not None or not data["problems"]["tasks"]:
        data["model"], data["new"]["layout"] = None, "r1"
    if not data["problems"]["tasks"]:
        data["problems"] = {"tasks": [{"task": "addition", "levels": [1, 2]}], "train": 16, "held_out": 6}
    for stage in data["stages"]:
        _change(stage, "until.steps", partial(_replaced, by=1))
    data["alarms"] = {name: value if name == "patience" else "off" for name, value in data["alarms"].items()}


@dataclass
class StepTimer:
    """Listens to a run, and keeps the seconds of its fastest step: one without evaluation or warming up."""

    fastest: float = math.inf
    before: float = 0.0

    def __call__(self, event: Event) -> None:
        """Take note of a learning step's end."""
        if event.step == LEARN and not event.ended:
            if event.share:
                self.fastest = min(self.fastest, event.seconds - self.before)
            self.before = event.seconds


def say_how_to_run_whole(recipe: RunRecipe, command: str, timer: StepTimer, console: Console) -> None:
    """Print that a run was a smoke run, the command of the whole one, and how long that takes.

    Args:
        recipe: of the whole run.
        timer: that listened to the smoke run; it knows nothing where that ran elsewhere.
    """
    console.print(SMOKE_SENTENCE, soft_wrap=True)
    console.print(f"The whole run: {command}", soft_wrap=True)
    try:
        estimate(recipe).render(console)
    except PrunePolicyError:  # Nobody has an estimate for this algorithm, or the model isn't here.
        console.print(f"  {recipe.max_steps:,} learning steps{_at_least(recipe, timer)}.", soft_wrap=True)


def _at_least(recipe: RunRecipe, timer: StepTimer) -> str:
    if not math.isfinite(timer.fastest):
        return ""
    seconds = recipe.max_steps * timer.fastest
    took = f"{seconds / 60:,.0f} minutes" if seconds >= 120 else f"{math.ceil(seconds)} seconds"
    return (
        f", {took} at the least: that many of the smoke run's fastest step here; larger "
        "models, batches and evaluations come on top"
    )
