"""Every program in examples/ runs, on tiny models."""

from __future__ import annotations

import ast
import json
import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transformers

EXAMPLES = Path(__file__).parents[1] / "examples"
QUICK = (
    "max_steps=1",
    "budgets.keep=[0.75]",
    "evaluation.samples=2",
    "evaluation.length=16",
    "evaluation.baselines=[magnitude]",
)
RUNS: dict[str, list[str]] = {
    "prune_one": ["{model}", "{out}/smaller", "--keep", "0.75"],
    "own_criterion": ["{model}", "--out", "{out}", "--keep", "0.75"],
    "train_policy": [
        "{model}", "--out", "{out}/run", "--keep", "0.75", "--set=policy.samples=2", "--set=policy.length=8",
        *(f"--set={key}" for key in QUICK),
    ],
    "think_bandit": ["--out", "{out}/run", "--set=max_steps=4"],
    "image_classifier": ["{images}", "shapes", "{out}/smaller", "--keep", "0.5", "--epochs", "1"],
}  # fmt: skip
WRITTEN = {
    "prune_one": "smaller/prune_report.json",
    "own_criterion": "own_criterion/frontier.json",
    "train_policy": "run/pruned/prune_report.json",
    "think_bandit": "run/train_report.json",
    "image_classifier": "smaller/prune_report.json",
}


def test_every_example_is_listed_and_tested() -> None:
    names = {file.stem for file in EXAMPLES.glob("*.py")}
    assert names == RUNS.keys()
    listed = (EXAMPLES / "README.md").read_text("utf-8")
    assert all(f"`{name}.py`" in listed for name in names)


def test_the_notebook_runs_and_shows_a_page_for_plan_report_and_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Jupyter does it: cell by cell in one namespace, showing what each ends with."""
    monkeypatch.chdir(tmp_path)
    notebook = json.loads((EXAMPLES / "quickstart.ipynb").read_text("utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    names: dict[str, Any] = {}
    shown: dict[str, Any] = {}
    for cell in (cell for cell in notebook["cells"] if cell["cell_type"] == "code"):
        assert not cell["outputs"]
        *statements, last = ast.parse("".join(cell["source"])).body
        exec(compile(ast.Module(statements, []), cell["id"], "exec"), names)
        if isinstance(last, ast.Expr):
            shown[cell["id"]] = eval(compile(ast.Expression(last.value), cell["id"], "eval"), names)
        else:
            exec(compile(ast.Module([last], []), cell["id"], "exec"), names)
    assert "units that stay" in shown["plan"]._repr_html_()
    assert "What changed" in shown["prune"]._repr_html_()
    assert "What was learned" in shown["train"]._repr_html_()
    assert shown["load"].startswith("The ferry")


@pytest.fixture
def places(model: Callable[..., str], tmp_path: Path) -> dict[str, str]:
    """Two models to prune, and where results go."""
    sizes: dict[str, Any] = {"hidden_sizes": [32, 64], "depths": [2, 2], "layer_type": "basic"}
    config = transformers.ResNetConfig(num_channels=1, embedding_size=16, num_labels=4, image_size=8, **sizes)
    transformers.ResNetForImageClassification(config).save_pretrained(tmp_path / "images")
    return {"model": model(), "images": str(tmp_path / "images"), "out": str(tmp_path / "out")}


@pytest.mark.parametrize("name", RUNS)
def test_examples_run(
    name: str, places: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [argument.format(**places) for argument in RUNS[name]]
    script = str(EXAMPLES / f"{name}.py")
    if name == "own_criterion":  # its component is called like the program that runs
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run(
            [sys.executable, script, *arguments], env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        said = done.stdout
    else:
        monkeypatch.setattr(sys, "argv", [script, *arguments])
        runpy.run_path(script, run_name="__main__")
        said = capsys.readouterr().out
    assert said.strip()
    assert (Path(places["out"]) / WRITTEN[name]).is_file()
