from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prunepolicy.agents.thinking.bandit.learner import ThinkBandit
from prunepolicy.agents.thinking.bandit.report import BanditReport
from prunepolicy.agents.training.recipe_file import load_recipe
from prunepolicy.agents.training.seeds import Seeds, train_detached
from prunepolicy.agents.training.train import train
from prunepolicy.envs.thinking.cached import CachedSource
from prunepolicy.envs.thinking.simulated import SimulatedSource
from prunepolicy.envs.thinking.source import ANSWER, THINK, ModeAndBudget
from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.io.progress import ProgressReporter

RECIPE = Path(__file__).parents[4] / "configs" / "think" / "bandit.yaml"
SHORT = ["max_steps=60", "evaluation.every=20", "checkpoint_every=20", "learner.learning_rate=0.1"]


def ran(folder: Path, *overrides: str, **more: Any) -> BanditReport:
    report = train(load_recipe(RECIPE, [*SHORT, *overrides]), folder, **more)
    assert isinstance(report, BanditReport)
    return report


def test_a_run_learns_keeps_its_best_and_says_how_far_the_oracle_is(tmp_path: Path) -> None:
    report = ran(tmp_path / "run")
    values = report.values
    assert values["learned"].regret < 0.5 * values["random, at the learned rates"].regret
    assert values["oracle"].regret == 0 < values["learned"].regret
    assert values["random, at the learned rates"].think == pytest.approx(values["learned"].think)
    assert [each.mean for each in report.bins] == sorted(each.mean for each in report.bins)
    saved = json.loads((tmp_path / "run" / "best" / "decision.json").read_text())
    assert saved["actions"] == ["answer", "think"]
    assert np.array(saved["weights"]).shape == (2, 3)
    assert (tmp_path / "run" / "think.png").stat().st_size > 1000
    page = (tmp_path / "run" / "report.html").read_text()
    assert all(f"{value.reward:.3f}" in page for value in report.values.values())
    assert BanditReport.load(tmp_path / "run") == report


def test_a_killed_run_ends_with_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = ran(tmp_path / "a" / "run")
    steps, step = iter(range(45)), ThinkBandit.step

    def killed(self: ThinkBandit) -> dict[str, float]:
        if next(steps, None) is None:
            raise KeyboardInterrupt
        return step(self)

    with monkeypatch.context() as patch:
        patch.setattr(ThinkBandit, "step", killed)
        with pytest.raises(KeyboardInterrupt):
            ran(tmp_path / "b" / "run")
    assert ran(tmp_path / "b" / "run", resume=True).values == whole.values
    for file in ("metrics.jsonl", "best/decision.json", "last/decision.json"):
        assert (tmp_path / "a" / "run" / file).read_bytes() == (tmp_path / "b" / "run" / file).read_bytes()


def test_cached_rollouts_are_learned_from_and_others_of_their_prompts_judge(tmp_path: Path) -> None:
    source = SimulatedSource(prompts=400)
    prompts = np.repeat(np.arange(400), 16)
    met = ModeAndBudget.by((ANSWER, THINK), np.arange(len(prompts)) % 2)
    table = source.rollouts(prompts, met, np.random.default_rng(0))
    CachedSource.of(table, source.difficulty[prompts]).save(tmp_path / "rollouts.safetensors")
    report = ran(tmp_path / "run", f"prompts.rollouts={tmp_path / 'rollouts.safetensors'}")
    assert sum(each.rows for each in report.bins) == 100
    assert report.values["learned"].regret < 0.5 * report.values["random, at the learned rates"].regret


def test_seeds_are_summed_up_and_the_best_is_kept(tmp_path: Path) -> None:
    recipe = load_recipe(RECIPE, SHORT)
    (report,) = train_detached([Seeds(recipe, tmp_path / "runs", 2)], ProgressReporter())
    data = json.loads(report.to_json())
    best = max(data["runs"], key=lambda run: run["selected"])["recipe"]["seed"]
    kept, chosen = (tmp_path / "runs" / part / "decision.json" for part in ("best", f"seed-{best}/best"))
    assert kept.read_bytes() == chosen.read_bytes()


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("evaluation.reward={name: balance}", "pays no outcome"),
        ("evaluation.reward={name: naiv}", "'naive'"),
        ("learner.actions=[answer]", "fewer than two"),
        ("learner.stages=[{name: a, terms: [{name: nave}]}]", "'naive'"),
        ("learner.sampler={name: variance}", "variance_aware"),
    ],
)
def test_wrong_recipes_are_refused_in_one_sentence(override: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=sentence):
        ran(tmp_path / "run", override)
