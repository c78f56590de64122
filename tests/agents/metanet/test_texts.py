"""The same on small language models, end to end."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch

from prunepolicy.agents.metanet.recipe import MetanetRecipe
from prunepolicy.agents.metanet.report import MetanetReport
from prunepolicy.agents.metanet.texts import TextRecipe
from prunepolicy.agents.training.train import train
from prunepolicy.cli import prune_main
from prunepolicy.pruning.io.console import Console

SHORT = {"optimiser": "adamw", "epochs": 1, "learning_rate": 0.01, "batch_size": 16}


def text(folder: Path) -> Path:
    file = folder / "rhyme.txt"
    file.write_text("one two buckle my shoe; three four knock at the door. " * 60, encoding="utf-8")
    return file


def test_windows_come_from_the_training_part_alone(tmp_path: Path) -> None:
    task = TextRecipe(text=text(tmp_path), length=16, windows=32).open(torch.device("cpu"))
    assert len(task.train) > 6 * len(task.held_out["test"])
    first, again = (next(iter(task.batches(8, 0, 3)))["input_ids"] for _ in range(2))
    assert first.shape == (8, 16)
    assert torch.equal(first, again)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("texts")
    recipe = MetanetRecipe.model_validate(
        {
            "algorithm": "metanet",
            "data": {"text": str(text(folder)), "length": 16, "windows": 64},
            "network": {"hidden": 16, "layers": 2, "heads": 2, "kv_heads": 1, "ffn": 24},
            "family": {"count": 2, "held_out": 1, "training": SHORT},
            "policy": {"kind": "metanet", "layers": 1, "hidden": 4, "step": 0.1},
            "learner": {"batches_per_step": 1, "batch_size": 16, "objective": {"sparsity": "group_norm"}},
            "max_steps": 2,
            "pipeline": {
                "cut": {"of": "ffn", "uniform": True, "units": ["ffn"]},
                "settle": SHORT,
                "adapt": SHORT,
                "recover": SHORT,
            },
            "evaluation": {"every": 1, "speedups": [1.5], "test_networks": 1, "test_speedups": [2.0]},
            "device": "cpu",
            "dtype": "float32",
        }
    )
    train(recipe, folder / "run")
    return folder / "run"


def test_small_language_models_go_the_whole_way(run: Path) -> None:
    report = MetanetReport.load(run)
    assert all(-6 < score < 0 for outcome in report.outcomes for score in outcome.scores)
    assert all(outcome.reached > 1.1 for outcome in report.outcomes)


def test_what_a_run_says_of_its_use_works(run: Path, tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=200)
    MetanetReport.load(run).render(console)
    output = next(line for line in console.file.getvalue().splitlines() if line.startswith("Use it:"))
    words = (
        output.replace("MODEL", str(run / "family/00")).replace("smaller/", str(tmp_path / "smaller")).split()
    )
    assert words[2] == "prune-with-policy"
    assert prune_main([*words[3:], "--no-verify"]) == 0
