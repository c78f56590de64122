"""Every shipped recipe, shrunk, runs from its first to its last step."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import pytest
import yaml

from prunepolicy.agents.learned_pruning.policy_card import check_portable, read_card
from prunepolicy.agents.training.recipe import SMOKE_SENTENCE
from prunepolicy.agents.training.recipe_file import load_recipe
from prunepolicy.agents.training.smoke import StepTimer, smoked
from prunepolicy.cli import main
from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.io.progress import Event

CONFIGS = Path(__file__).parents[3] / "configs"
RECIPES = sorted(file for kind in ("train", "think") for file in (CONFIGS / kind).glob("*.yaml"))


@pytest.mark.filterwarnings("ignore")  # TRL's trainer warns of what its own defaults do.
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda file: file.stem)
def test_every_recipe_runs_and_says_that_it_was_a_smoke_run(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if "engine: trl" in recipe.read_text():
        pytest.importorskip("trl")
    monkeypatch.chdir(tmp_path)  # No model, text or problem that a recipe names is here.
    monkeypatch.setattr(sys, "argv", ["prunepolicy"])
    assert main(["train", str(recipe), "--smoke"]) == 0
    said, folder = capsys.readouterr().out, tmp_path / "runs" / f"{recipe.stem}-smoke"
    assert SMOKE_SENTENCE in said
    assert f"The whole run: prunepolicy train {shlex.quote(str(recipe))}\n" in said
    assert "learning steps, " in said or "Estimate for" in said
    assert yaml.safe_load((folder / "recipe.yaml").read_text())["smoke"] is True
    assert json.loads((folder / "train_report.json").read_text())["smoke"] == SMOKE_SENTENCE
    if (folder / "report.html").is_file():
        assert SMOKE_SENTENCE in (folder / "report.html").read_text()
    if (folder / "best" / "card.json").is_file():
        assert SMOKE_SENTENCE in (folder / "best" / "README.md").read_text()
        with pytest.raises(UsageError, match="smoke run"):
            check_portable(read_card(folder / "best"))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda file: file.stem)
def test_what_decides_how_a_recipe_learns_stays(recipe: Path) -> None:
    whole = load_recipe(recipe)
    small = smoked(whole)
    assert small.algorithm == whole.algorithm
    assert small.max_steps <= 4
    assert smoked(small) == small
    for key in ("learning_rate", "shaping", "log_prob", "baseline", "temperature"):
        given = getattr(whole, "learner", {})
        if isinstance(given, dict) and key in given:
            assert small.model_dump()["learner"][key] == given[key]
    if hasattr(whole, "stages"):
        assert [one["terms"] for one in small.stages] == [one["terms"] for one in whole.stages]  # type: ignore[attr-defined]


def test_options_that_only_the_smoke_run_had_are_not_in_the_whole_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["prunepolicy"])
    recipe = str(CONFIGS / "think" / "bandit.yaml")
    options = ["--out", str(tmp_path / "here"), "--smoke", "--set", "max_steps=700"]
    assert main(["train", recipe, *options]) == 0
    said = capsys.readouterr().out
    whole = shlex.join(["prunepolicy", "train", recipe, "--set", "max_steps=700"])
    assert f"The whole run: {whole}\n" in said
    assert "700 learning steps, " in said


def test_the_fastest_step_is_what_the_whole_run_takes_at_the_least() -> None:
    timer = StepTimer()
    for share, seconds in ((0.0, 0.0), (0.25, 3.0), (0.5, 4.0), (0.75, 9.0), (1.0, 11.0)):
        timer(Event("learn", None, None, share, seconds))
    timer(Event("evaluate", None, None, 1.0, 11.5))
    assert timer.fastest == 1.0
