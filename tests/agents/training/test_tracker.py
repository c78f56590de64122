"""Metrics in other programs: the line that opens TensorBoard, and trackers through stand-ins."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from prunepolicy.cli import main

BANDIT = str(Path(__file__).parents[3] / "configs" / "think" / "bandit.yaml")
FEW = ["--set", "max_steps=3", "--set", "evaluation.every=2"]


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What a module with the interface of wandb and trackio was asked to do."""
    asked: list[Any] = []
    module: Any = ModuleType("wandb")
    module.__spec__ = SimpleNamespace(name="wandb")
    module.init = lambda **settings: asked.append(("init", settings))
    module.log = lambda metrics, step: asked.append((step, metrics))
    module.finish = lambda: asked.append("finish")
    monkeypatch.setitem(sys.modules, "wandb", module)
    return asked


def test_a_tracker_gets_the_recipe_and_every_row_of_the_metrics(wandb: list[Any], tmp_path: Path) -> None:
    out = tmp_path / "mine"
    assert main(["train", BANDIT, "--log-to", "wandb", "--out", str(out), *FEW]) == 0
    (_, settings), *rows, last = wandb
    assert (settings["project"], settings["name"]) == ("prunepolicy", "mine")
    assert settings["config"]["max_steps"] == 3
    written = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [{"step": step, **metrics} for step, metrics in rows] == written
    assert last == "finish"


def test_tensorboard_is_named_with_the_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tensorboard")
    out = tmp_path / "my run"
    assert main(["train", BANDIT, "--out", str(out), *FEW]) == 0
    assert f"Metrics: tensorboard --logdir '{out}'" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--log-to", "wandbb"], "Did you mean 'wandb'"),
        (["--log-to", "wandb"], "--log-to wandb needs its package: `pip install wandb`."),
    ],
)
def test_a_logger_that_is_not_there_is_refused_before_the_run(
    words: list[str],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["train", BANDIT, "--out", str(tmp_path / "run"), *words]) == 2
    assert sentence in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run").exists()


def test_a_tracker_follows_one_run(
    wandb: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--log-to", "wandb", "--seeds", "2", "--out", str(tmp_path / "run")]
    assert main(["train", BANDIT, *words]) == 2
    assert "start one per recipe and seed" in capsys.readouterr().err
    assert not wandb
