"""Several recipes in one call: runs beside each other, and where they meet."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from prunepolicy.agents.runtime.open_runner import open_runner
from prunepolicy.agents.runtime.settings import ClusterSettings
from prunepolicy.agents.training.recipe_file import load_recipe
from prunepolicy.agents.training.run_monitor import steps_done
from prunepolicy.agents.training.seeds import Seeds, train_detached
from prunepolicy.cli import main
from prunepolicy.pruning.io.console import Console
from prunepolicy.pruning.io.progress import ProgressReporter

BANDIT = Path(__file__).parents[3] / "configs" / "think" / "bandit.yaml"
SHORT = ["max_steps=6", "evaluation.every=3", "prompts.simulated=200", "learner.prompts_per_step=16"]
SETS = [word for override in SHORT for word in ("--set", override)]


@pytest.fixture
def recipes(tmp_path: Path) -> list[str]:
    names = ("first.yaml", "second.yaml")
    return [str(shutil.copy(BANDIT, tmp_path / name)) for name in names]


def test_every_recipe_trains_in_a_folder_of_its_name(recipes: list[str], tmp_path: Path, capsys: Any) -> None:
    assert main(["train", *recipes, "--out", str(tmp_path / "all"), *SETS, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [Path(report["folder"]).name for report in found] == ["first", "second"]
    first, second = (tmp_path / "all" / name / "metrics.jsonl" for name in ("first", "second"))
    assert first.read_bytes() == second.read_bytes()
    alone = tmp_path / "alone" / "first"
    assert main(["train", recipes[0], "--out", str(alone), *SETS]) == 0
    assert (alone / "metrics.jsonl").read_bytes() == first.read_bytes()
    assert steps_done(alone) == 6


def test_finished_runs_are_skipped_and_shared_folders_refused(
    recipes: list[str], tmp_path: Path, capsys: Any
) -> None:
    arguments = ["train", *recipes, "--out", str(tmp_path / "all"), *SETS]
    assert main(arguments) == 0
    assert main(arguments) == 2
    assert "is not empty. Add --resume" in capsys.readouterr().err
    shutil.rmtree(tmp_path / "all" / "second")
    assert main([*arguments, "--resume"]) == 0
    said = capsys.readouterr().out
    assert "first: finished before" in said
    assert (tmp_path / "all" / "second" / "train_report.json").is_file()
    assert main(["train", recipes[0], recipes[0], *SETS]) == 2
    assert "Two recipes would train in runs/first" in capsys.readouterr().err


def test_runs_of_other_processes_are_watched(recipes: list[str], tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=120)
    sets = [Seeds(load_recipe(Path(file), SHORT), tmp_path / Path(file).stem) for file in recipes]
    settings = ClusterSettings(runner="processes", workers=2)
    with open_runner(settings, lambda sentence: None) as runner:
        train_detached(sets, ProgressReporter(console), runner=runner)
    assert "✓ learn" in console.file.getvalue()  # type: ignore[attr-defined]
    assert [steps_done(one.folder) for one in sets] == [6, 6]


def test_the_last_whole_row_counts(tmp_path: Path) -> None:
    assert steps_done(tmp_path) == 0
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2}\n{"st')
    assert steps_done(tmp_path) == 2
