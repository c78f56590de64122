from __future__ import annotations

import html
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from prunepolicy.agents.learned_pruning.policy_card import read_card
from prunepolicy.agents.learned_pruning.policy_card_text import policy_card
from prunepolicy.agents.learned_pruning.reinforce import Reinforce
from prunepolicy.agents.learned_pruning.report import TrainReport
from prunepolicy.agents.training.recipe import Recipe
from prunepolicy.agents.training.run_folder import CHECKPOINT, METRICS, RunFolder
from prunepolicy.agents.training.train import train
from prunepolicy.cli import main
from prunepolicy.policy.load import load_policy
from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.errors import PrunePolicyError, UsageError
from prunepolicy.pruning.session.opened_model import OpenedModel

Make = Callable[..., Checkpoint]
COMPARED = ("best/policy.json", "best/weights.safetensors", "last/weights.safetensors", METRICS, CHECKPOINT)


@pytest.fixture
def model(model: Make) -> str:
    return str(model(num_hidden_layers=2))


def recipe(model: str, **changes: Any) -> Recipe:
    return Recipe.model_validate(
        {
            "algorithm": "reinforce",
            "policy": {"kind": "prunenet", "hidden": 8, "samples": 4, "length": 12},
            "learner": {"choices_per_layer": 3, "learning_rate": 0.01},
            "models": [model],
            "budgets": {"of": "ffn", "keep": [0.75]},
            "evaluation": {"every": 2, "samples": 4, "length": 12, "baselines": ["random", "activation"]},
            "max_steps": 6,
            "checkpoint_every": 2,
            "dtype": "float32",
            **changes,
        }
    )


def content(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in COMPARED}


@pytest.mark.parametrize("seeds", [1, 2])
@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ("budgets={keep: [0.001]}", "can't be reached"),
        ("evaluation.baselines=[activaton]", "Did you mean 'activation'"),
        ("evaluation.baselines=[angular]", "by angular: "),
        ("evaluation.text=nowhere.txt", "Can't read the text nowhere.txt"),
    ],
)
def test_a_refused_recipe_leaves_nothing_and_reads_no_weights(
    model: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    wrong: str,
    sentence: str,
    seeds: int,
) -> None:
    monkeypatch.setattr(OpenedModel, "load", lambda *_: pytest.fail("The model was loaded."))
    file, folder = tmp_path / "recipe.yaml", tmp_path / "runs" / "deep" / "run"
    file.write_text(json.dumps(recipe(model).model_dump(mode="json")))
    arguments = ["--out", str(folder), "--seeds", str(seeds), "--set", wrong]
    assert main(["train", str(file), *arguments]) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert "Continue" not in said
    assert not (tmp_path / "runs").exists()


def test_an_interrupted_run_names_its_step_and_the_command_that_continues_it(
    model: str,
    tmp_path: Path,
    interrupt_at: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    interrupt_at(Reinforce, "step", 4)
    monkeypatch.setattr(sys, "argv", ["prunepolicy"])
    file, folder = tmp_path / "a recipe.yaml", tmp_path / "a run"
    file.write_text(json.dumps(recipe(model).model_dump(mode="json")))
    assert main(["train", str(file), "--out", str(folder)]) == 130
    said = capsys.readouterr().err
    assert f"{folder}: stopped at step 3 of 6, step 2 is saved." in said
    command = shlex.split(said.partition("Continue with: ")[2])
    assert command == ["prunepolicy", "train", str(file), "--out", str(folder), "--resume"]


def test_a_run_leaves_a_policy_with_its_evidence(model: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    report = train(recipe(model), folder, command="prunepolicy train x.yaml")
    assert set(report.scores) == {"run", "random", "activation"}
    assert load_policy(folder).name == "run"
    card = (folder / "best" / "README.md").read_text()
    assert card.startswith(f"**{report.verdict}**")
    assert read_card(folder / "best") == report.card
    assert TrainReport.load(folder) == report
    assert all(
        word in card for word in ("Training models", "Held-out models", "seed 0", "random", "activation")
    )
    rows = [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]
    assert [row["step"] for row in rows if "reward" in row] == [1, 2, 3, 4, 5, 6]
    assert [row["step"] for row in rows if "held_out/score" in row] == [2, 4, 6]
    assert json.loads((folder / "run.json").read_text())["commands"] == ["prunepolicy train x.yaml"]
    moved = [row["moved/layers.1.ffn"] for row in rows if "held_out/score" in row]
    assert len(moved) == 3
    assert all(0 <= share <= 1 for share in moved)
    assert all((folder / name).stat().st_size > 1000 for name in ("learning.png", "kept.png"))
    page = (folder / "report.html").read_text()
    assert [name.partition(",")[0] for name in report.to_beat] == ["before learning", "best heuristic"]
    assert all(f"{name}: {excess:.4g}" in page for name, excess in report.to_beat.items())
    assert html.escape(report.verdict, quote=False) in page
    assert "prunepolicy train x.yaml" in page
    assert list((folder / "events").iterdir())
    assert not list(folder.glob("*.pt")) + list(folder.glob("*.pkl"))


def test_predicted_rewards_are_audited(model: str, tmp_path: Path) -> None:
    learner = {"choices_per_layer": 3, "shaping": "function_and_loss"}
    report = train(recipe(model, learner=learner, max_steps=2), tmp_path / "run")
    taus = [report.evidence[f"surrogate tau, {which}"] for which in ("equal size", "all sizes")]
    assert taus[0] == taus[1]  # the recipe names one size
    assert 0 < report.evidence["surrogate tau, equal size, p-value"] <= 1
    assert "surrogate tau, all sizes" in (tmp_path / "run" / "best" / "README.md").read_text()
    assert train(recipe(model, max_steps=2), tmp_path / "other").evidence == {}


def test_the_first_line_admits_a_policy_that_does_not_win(model: str, tmp_path: Path) -> None:
    report = train(recipe(model, max_steps=2), tmp_path / "run")
    worse = {name: dict.fromkeys(scores, -1.0) for name, scores in report.scores.items() if name != "run"}
    lost = replace(report, scores={"run": report.scores["run"], **worse}, differences={})
    assert "Use" in policy_card(lost.card).splitlines()[0]
    for own, verdict in (
        (0.90, "beats the best"),
        (0.99, "No difference shown"),
        (1.01, "No difference shown"),
        (1.1, "Use random instead"),
    ):
        near = replace(report, scores={"run": {"m": own}, "random": {"m": 1.0}}, differences={})
        assert verdict in near.verdict


def test_equal_seeds_give_equal_bytes_and_others_do_not(model: str, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(recipe(model, seed=seed), tmp_path / name / "run")
    assert content(tmp_path / "a" / "run") == content(tmp_path / "b" / "run")
    assert content(tmp_path / "a" / "run")[METRICS] != content(tmp_path / "c" / "run")[METRICS]


@pytest.mark.parametrize("dies_at", [1, 3, 4, 6])
def test_an_interrupted_run_resumes_to_the_same_bytes(
    model: str, tmp_path: Path, interrupt_at: Callable[..., None], dies_at: int
) -> None:
    train(recipe(model), tmp_path / "whole" / "run")
    interrupt_at(Reinforce, "step", dies_at)
    with pytest.raises(KeyboardInterrupt):
        train(recipe(model), tmp_path / "cut" / "run")
    torch.rand(3)
    train(recipe(model), tmp_path / "cut" / "run", resume=True)
    assert content(tmp_path / "cut" / "run") == content(tmp_path / "whole" / "run")


KILLED = """
import os, signal, sys
from pathlib import Path
from prunepolicy.agents.training.recipe_file import load_recipe
from prunepolicy.agents.training.train import train
left = int(sys.argv[3])
replace = os.replace
def dying(*paths):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(*paths)
os.replace = dying
train(load_recipe(Path(sys.argv[1])), Path(sys.argv[2]), resume=True)
"""


def test_a_run_killed_while_it_writes_resumes_to_the_same_bytes(model: str, tmp_path: Path) -> None:
    train(recipe(model), tmp_path / "whole" / "run")
    source, folder = tmp_path / "whole" / "run" / "recipe.yaml", tmp_path / "killed" / "run"
    command = [sys.executable, "-c", KILLED, str(source), str(folder)]
    for number in (9, 4):
        died = subprocess.run([*command, str(number)], env={**os.environ}, capture_output=True)
        assert died.returncode == -signal.SIGKILL, died.stderr.decode()
    train(recipe(model), folder, resume=True)
    assert content(folder) == content(tmp_path / "whole" / "run")


def test_a_state_that_a_killed_run_had_no_time_to_remove_goes(model: str, tmp_path: Path) -> None:
    train(recipe(model), tmp_path / "run")
    whole = content(tmp_path / "run")
    (tmp_path / "run" / "state-1.safetensors").write_bytes(b"of an earlier checkpoint")
    train(recipe(model), tmp_path / "run", resume=True)
    assert content(tmp_path / "run") == whole


def test_training_stops_early_when_nothing_improves(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "prunepolicy.agents.learned_pruning.evaluator.Evaluator.scores", lambda self, policy: {"x": 1.0}
    )
    evaluation = {"every": 1, "patience": 2, "samples": 4, "length": 12, "baselines": []}
    report = train(recipe(model, evaluation=evaluation), tmp_path / "run")
    assert (report.steps, report.best_step) == (3, 1)


def test_a_loss_that_is_no_number_stops_the_run_and_spoils_nothing(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Reinforce.step
    monkeypatch.setattr(
        Reinforce, "step", lambda self: step(self) if self.optimiser.state_dict()["state"] == {} else broken()
    )
    with pytest.raises(PrunePolicyError, match=r"step 2: loss is nan.*learning_rate"):
        train(recipe(model, checkpoint_every=1), tmp_path / "run")
    progress, _ = RunFolder(tmp_path / "run", recipe(model)).latest()
    assert progress.step == 1


def broken() -> dict[str, float]:
    return {"reward": 0.0, "loss": float("nan")}


def test_a_recipe_that_could_not_begin_does_not_block_its_correction(model: str, tmp_path: Path) -> None:
    wrong, right = recipe(model, learner={"sample": 3}), recipe(model, max_steps=2)
    for folder, resume in ((tmp_path / "new", False), (tmp_path / "resumed", True)):
        with pytest.raises(UsageError, match="choices_per_layer"):
            train(wrong, folder)
        assert train(right, folder, resume=resume).steps == 2


def test_a_resumed_run_keeps_its_recipe_but_may_go_on_longer(model: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    train(recipe(model, max_steps=2), folder)
    with pytest.raises(UsageError, match="not empty"):
        train(recipe(model), folder)
    with pytest.raises(UsageError, match="can't be called 'random'"):
        train(recipe(model), tmp_path / "random")
    with pytest.raises(UsageError, match="other seed"):
        train(recipe(model, seed=5), folder, resume=True)
    assert train(recipe(model, max_steps=4), folder, resume=True).steps == 4


def test_the_command_trains_and_its_policy_prunes(model: str, tmp_path: Path) -> None:
    source = tmp_path / "small.yaml"
    source.write_text(json.dumps(recipe(model).model_dump(mode="json")))
    run = str(tmp_path / "runs" / "small")
    assert main(["train", str(source), "--out", run, "--seed", "3", "--set", "max_steps=2", "--json"]) == 0
    out = str(tmp_path / "smaller")
    options = ["--of", "ffn", "--keep", "0.75", "--no-measure", "--no-verify", "--multiple-of", "4"]
    assert main(["prune", model, "--policy", run, "--out", out, *options]) == 0
    assert json.loads((tmp_path / "smaller" / "config.json").read_text())["intermediate_size"] == 36
    assert main(["train", str(source), "--out", run, "--set", "episods=2"]) == 2
