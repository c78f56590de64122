"""Recipes, runs, agents and plans that were saved before keys were renamed still load and go on."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import pytest

from prunepolicy.agents.learned_pruning.policy_card import read_card
from prunepolicy.agents.learned_pruning.policy_card_text import options_for
from prunepolicy.agents.learned_pruning.ppo_config import PPOConfig
from prunepolicy.agents.learned_pruning.prune_agent import PruneAgent
from prunepolicy.agents.runtime.settings import ClusterSettings, load_settings
from prunepolicy.agents.training.algorithms import algorithms
from prunepolicy.agents.training.recipe import PolicyRecipe, RunRecipe
from prunepolicy.agents.training.recipe_file import load_recipe
from prunepolicy.agents.training.run_folder import BEST, RECIPE, RunFolder
from prunepolicy.agents.training.seeds import Seeds
from prunepolicy.agents.training.train import train
from prunepolicy.cli import main
from prunepolicy.envs.prune_case import invented_case
from prunepolicy.policy.load import load_policy
from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.io.progress import ProgressReporter
from prunepolicy.pruning.plan import Plan

ROOT = Path(__file__).resolve().parents[3]
OLD = ROOT / "tests" / "fixtures"
RUNS = ("ppo", "reinforce", "gradient_gates", "metanet", "grpo", "think_bandit")
RECIPES = sorted(path.relative_to(OLD / "recipes_v1") for path in OLD.glob("recipes_v1/t*/*.yaml"))
PPO = "algorithm: ppo\npolicy: {kind: graph}\nmodels: [a]\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of the old runs, whose recipes name what they read by relative places."""
    shutil.copytree(OLD / "runs_v1", tmp_path / "old")
    monkeypatch.chdir(tmp_path / "old")
    return tmp_path / "old"


def loaded(tmp_path: Path, text: str, *overrides: str) -> RunRecipe:
    file = tmp_path / "recipe.yaml"
    file.write_text(text)
    return load_recipe(file, overrides)


def settled(recipe: RunRecipe) -> dict[str, Any]:
    """What a recipe says, and the defaults of the learner's settings where it says nothing."""
    data = recipe.model_dump()
    if isinstance(recipe, PolicyRecipe):
        config_type = algorithms[recipe.algorithm].learner_type.config_type
        data["learner"] = config_type.model_validate(recipe.learner).model_dump()
    return data


@pytest.mark.parametrize("place", RECIPES, ids=str)
def test_old_recipes_say_what_the_ones_that_ship_say(place: Path) -> None:
    changes = ["model=a"] if place.stem == "autothink" else []
    old, new = (
        settled(load_recipe(folder / place, changes)) for folder in (OLD / "recipes_v1", ROOT / "configs")
    )
    if place.stem == "tiny":  # Diversity had no say then, whatever the weight of outcomes was.
        assert new["reinforcement"]["sampler"].pop("outcome") == 1.0
    assert old == new


@pytest.mark.parametrize(
    "file", sorted(OLD.glob("recipes_v1/cluster/*.yaml")), ids=lambda file: str(file.stem)
)
def test_old_settings_of_clusters_load(file: Path) -> None:
    assert isinstance(load_settings(str(file)), ClusterSettings)


def test_one_line_names_the_new_keys(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    learner = "learner: {episodes: 16, repeats: 4, minibatch: 8, divergence: 0.3}\n"
    recipe = loaded(tmp_path, f"{PPO}{learner}episodes: 7\n")
    assert recipe.max_steps == 7
    assert recipe.learner == {  # type: ignore[attr-defined]
        "episodes_per_step": 16,
        "episodes_per_context": 4,
        "batch_size": 8,
        "target_kl": pytest.approx(0.2),
    }
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith(f"{tmp_path / 'recipe.yaml'}: renamed keys: ")
    for words in (
        "episodes is now max_steps",
        "learner.divergence is now learner.target_kl (its value divided",
    ):
        assert words in record.getMessage()


def test_keys_of_today_are_read_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    for place in RECIPES:
        load_recipe(ROOT / "configs" / place, ["model=a"] if place.stem == "autothink" else [])
    assert not caplog.records


def test_overrides_take_either_name_whatever_the_file_has(tmp_path: Path) -> None:
    old = f"{PPO}learner: {{divergence: 0.1}}\nepisodes: 7\n"
    for text in (old, f"{PPO}learner: {{target_kl: 0.1}}\nmax_steps: 7\n"):
        for changes in (("learner.divergence=0.3", "episodes=9"), ("learner.target_kl=0.2", "max_steps=9")):
            recipe = loaded(tmp_path, text, *changes)
            assert recipe.max_steps == 9
            assert recipe.learner == {"target_kl": pytest.approx(0.2)}  # type: ignore[attr-defined]


def test_an_override_replaces_a_whole_part_as_before(tmp_path: Path) -> None:
    recipe = loaded(tmp_path, f"{PPO}learner: {{clip: 0.1, std: 0.2}}\n", "learner={clip: 0.3}")
    assert recipe.learner == {"clip_range": 0.3}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (f"{PPO}episodes: 3\nmax_steps: 3\n", "episodes is the old name of max_steps; give only the new one"),
        (
            f"{PPO}learner: {{clip: 0.1, clip_range: 0.1}}\n",
            r"learner\.clip is the old name of learner\.clip_range",
        ),
        (f"{PPO}learner: {{divergence: far}}\n", r"learner: target_kl: Input should be a valid number"),
        (f"{PPO}learner: {{divergance: 1.0}}\n", "divergance"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        loaded(tmp_path, text)


def test_settings_made_in_python_take_old_keys(caplog: pytest.LogCaptureFixture) -> None:
    assert PPOConfig(clip=0.1) == PPOConfig(clip_range=0.1)  # type: ignore[call-arg]
    assert [record.getMessage() for record in caplog.records] == [
        "PPOConfig: renamed keys: clip is now clip_range."
    ]
    with pytest.raises(UsageError, match="clip is the old name of clip_range"):
        PPOConfig(clip=0.1, clip_range=0.1)  # type: ignore[call-arg]


def test_an_old_divergence_stops_updates_where_it_did() -> None:
    assert PPOConfig().target_kl == PPOConfig(divergence=0.1).target_kl  # type: ignore[call-arg]


@pytest.mark.parametrize("name", RUNS)
def test_old_runs_are_continued(here: Path, name: str) -> None:
    recipe = load_recipe(here / name / RECIPE, ["max_steps=3"])
    report = train(recipe, here / name, resume=True)
    steps = [row["step"] for row in RunFolder(here / name, recipe).rows()]
    assert max(steps) == 3
    assert report.recipe["max_steps"] == 3


@pytest.mark.parametrize("name", RUNS)
def test_reports_of_finished_old_runs_are_read_and_their_runs_known_as_finished(
    here: Path, name: str
) -> None:
    recipe = load_recipe(here / name / RECIPE)
    seeds = Seeds(recipe, here / name, resume=True)
    assert seeds.orders(ProgressReporter()) == []
    assert seeds.conclude().to_json()
    assert Seeds(load_recipe(here / name / RECIPE, ["max_steps=9"]), here / name, resume=True).orders(
        ProgressReporter()
    )


@pytest.mark.parametrize("name", ["ppo", "reinforce", "gradient_gates", "metanet"])
def test_old_policies_and_cards_are_read(here: Path, name: str) -> None:
    card = read_card(here / name / BEST)
    assert load_policy(str(here / name / BEST)).kind == card.kind
    assert options_for(card.recipe).startswith("--keep")


def test_an_old_agent_learns_on(here: Path) -> None:
    agent = PruneAgent.load(here / "agent", [invented_case(seed) for seed in range(2)])
    assert agent.config.target_kl == pytest.approx(0.2)
    assert agent.learn(8).algorithm.num_timesteps == 16


def test_an_old_plan_is_carried_out(here: Path) -> None:
    plan = Plan.load(here / "plan.json")
    assert main(["cut", "model", "plan.json", "--out", "smaller"]) == 0
    groups = {group.name: group.size for group in Checkpoint.open(here / "smaller").graph.groups}
    assert all(groups[name] == len(units) for name, units in plan.keep.items())


def test_every_algorithm_has_an_old_run() -> None:
    assert set(RUNS) == set(algorithms) - {"text", "text_offsets"}, "they came with today's keys"
