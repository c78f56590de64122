"""A result of pruning that learns on from where it stands, in its own folder."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prunepolicy import Budget, PruneSettings, prune
from prunepolicy.agents.recovery import language
from prunepolicy.agents.recovery.distil import Distiller
from prunepolicy.agents.recovery.language import WEIGHTS
from prunepolicy.cli import main
from prunepolicy.commands.report.report import PruneReport
from prunepolicy.pruning.session.opened_model import Hardware

Model = Callable[..., str]
QUICK = {"window": 16, "epoch_tokens": 16 * 256, "batch_size": 4, "evaluations": 6, "learning_rate": 1e-4}


@pytest.fixture(autouse=True)
def _few_texts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(language.RECIPES, WEIGHTS, language.RECIPES[WEIGHTS].model_copy(update=QUICK))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def cut(model: Model, quick: str, tmp_path: Path) -> tuple[str, Path]:
    """A tiny model, and what is left of it."""
    name, out = model("llama"), tmp_path / "smaller"
    settings = PruneSettings(hardware=Hardware("cpu", "float32"), measure=False, verify=False)
    prune(name, out, Budget(0.5, "ffn"), quick, settings)
    return name, out


def asked(name: str, folder: Path, *more: str) -> list[str]:
    quick = ["--no-measure", "--device", "cpu", "--dtype", "float32"]
    return ["recover", str(folder), "--from", name, "--for", "24 steps", *quick, *more]


def test_it_learns_more_and_says_so(cut: tuple[str, Path], tmp_path: Path) -> None:
    name, folder = cut
    plan, before = (folder / "plan.json").read_bytes(), (folder / "model.safetensors").read_bytes()
    for times in (1, 2):
        assert main(asked(name, folder)) == 0
        report = PruneReport.read(folder)
        assert report.proof is not None
        assert report.proof.ok
        assert len(report.recoveries) == times
        assert report.recoveries[-1].after < report.recoveries[-1].before
    assert (folder / "plan.json").read_bytes() == plan
    assert (folder / "model.safetensors").read_bytes() != before
    assert {path.name for path in tmp_path.iterdir()} == {"cache", "quick", "smaller", Path(name).name}


def test_a_killed_one_leaves_the_folder_and_goes_on_to_the_same_bytes(
    cut: tuple[str, Path], tmp_path: Path, interrupt_at: Callable[..., None], capsys: Any
) -> None:
    name, folder = cut
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    before = (folder / "model.safetensors").read_bytes()
    assert main(asked(name, other, "--no-verify")) == 0
    interrupt_at(Distiller, "_step", 13)
    assert main(asked(name, folder, "--no-verify")) == 130
    assert "is kept; run the same command again to continue" in capsys.readouterr().err
    assert (folder / "model.safetensors").read_bytes() == before
    assert main(asked(name, folder, "--no-verify")) == 0
    results = [(place / "model.safetensors").read_bytes() for place in (folder, other)]
    assert results[0] == results[1] != before


def test_what_cannot_learn_on_is_refused(
    cut: tuple[str, Path], model: Model, tmp_path: Path, capsys: Any
) -> None:
    name, folder = cut
    assert main(asked(name, tmp_path / "cache")) == 2
    assert "is no result of prune-with-policy" in capsys.readouterr().err
    assert main(asked(model("gpt2"), folder)) == 2
    assert "was cut from another model" in capsys.readouterr().err
    assert main([*asked(name, folder), "--for", "soon"]) == 2
    assert "is no budget for learning" in capsys.readouterr().err
    assert main([*asked(name, folder), "--on", str(tmp_path / "none.jsonl")]) == 2
    assert "Can't read the text to learn from" in capsys.readouterr().err
