"""Cut language models that learn from the dense one: nearer to it, as proven, and the same bytes again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from prunepolicy import Budget, Plan, PrunePolicyError, PruneSettings, prune
from prunepolicy.agents.recovery import language
from prunepolicy.agents.recovery.distil import Distiller
from prunepolicy.agents.recovery.distillation import divergence
from prunepolicy.agents.recovery.language import WEIGHTS
from prunepolicy.agents.recovery.learning_texts import LearningTexts
from prunepolicy.cli import main
from prunepolicy.commands.prune.job import open_session
from prunepolicy.pruning.checkpoint.loading import load_model
from prunepolicy.pruning.io import atomic
from prunepolicy.pruning.session.opened_model import Hardware
from prunepolicy.pruning.statistics.probe import Probe

Model = Callable[..., str]
FAMILIES = ("llama", "gpt2", "gemma3_text", "mixtral")
"""Tied and untied heads, norms of other kinds, layers named otherwise, experts."""
QUICK = {"window": 16, "learning_rate": 1e-3, "epoch_tokens": 16 * 128, "batch_size": 4, "evaluations": 3}


@pytest.fixture(autouse=True)
def _few_texts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(language.RECIPES, WEIGHTS, language.RECIPES[WEIGHTS].model_copy(update=QUICK))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def settings(**changes: Any) -> PruneSettings:
    given = {"hardware": Hardware("cpu", "float32"), "measure": False, "verify": False}
    return PruneSettings(**given | changes)


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def distance(name: str, folder: Path) -> float:
    """Return how far the result's predictions are from the dense model's, on the text that was learned."""
    session = open_session(name, settings())
    pruned = load_model(folder, session.checkpoint.adapter, torch.float32, torch.device("cpu"), True)
    tokens = LearningTexts.of(session, Probe(samples=4, length=16), 16).first(16)
    with torch.no_grad():
        answers = [model(input_ids=tokens).logits for model in (pruned, session.model)]
    return float(divergence(answers[0], answers[1], 1.0))


@pytest.mark.parametrize("family", FAMILIES)
def test_what_was_learned_brings_it_nearer_and_is_what_was_proven(
    family: str, model: Model, quick: str, tmp_path: Path
) -> None:
    name, budget = model(family), Budget(0.5, "ffn")
    prune(name, tmp_path / "plain", budget, quick, settings(repair="none"))
    learning = settings(recover=2, verify=True, repair="none")
    report = prune(name, tmp_path / "learned", budget, quick, learning)
    assert report.proof is not None
    assert report.proof.ok, report.proof.sentence
    assert report.origin.recover == "2 epochs"
    (facts,) = report.recoveries
    assert facts.after < facts.before
    assert facts.tokens == facts.steps * 4 * 16
    assert distance(name, tmp_path / "learned") < 0.95 * distance(name, tmp_path / "plain")
    assert not list(tmp_path.glob(".*"))


def test_layers_that_went_and_widths_that_differ_are_learned_around(model: Model, tmp_path: Path) -> None:
    name = model("llama", num_hidden_layers=4)
    asked = (("random", Budget(0.5, "layers")), ("taylor", Budget(0.4, "ffn", uniform=False)))
    for policy, budget in asked:
        plain, learned = tmp_path / f"plain-{policy}", tmp_path / f"learned-{policy}"
        prune(name, plain, budget, policy, settings())
        report = prune(name, learned, budget, policy, settings(recover=2, verify=True))
        assert report.proof is not None
        assert report.proof.ok, report.proof.sentence
        assert distance(name, learned) < 0.95 * distance(name, plain)


@pytest.mark.parametrize("call", [3, 19], ids=["before an evaluation", "after one"])
def test_a_killed_run_goes_on_to_the_same_bytes(
    call: int, model: Model, quick: str, tmp_path: Path, interrupt_at: Callable[..., None]
) -> None:
    name, budget = model(), Budget(0.5, "ffn")
    prune(name, tmp_path / "whole", budget, quick, settings(recover="30 steps"))
    interrupt_at(Distiller, "_step", call)
    with pytest.raises(KeyboardInterrupt):
        prune(name, tmp_path / "out", budget, quick, settings(recover="30 steps"))
    assert not (tmp_path / "out").exists()
    prune(name, tmp_path / "out", budget, quick, settings(recover="30 steps"))
    assert weights(tmp_path / "out") == weights(tmp_path / "whole")
    assert not language.recovery_of(tmp_path / "out").exists()


def test_a_time_comes_to_steps_that_lead_to_the_same_bytes(
    model: Model, quick: str, tmp_path: Path, interrupt_at: Callable[..., None]
) -> None:
    name, budget = model(), Budget(0.5, "ffn")
    interrupt_at(Distiller, "_step", 5)
    with pytest.raises(KeyboardInterrupt):
        prune(name, tmp_path / "timed", budget, quick, settings(recover="3s"))
    report = prune(name, tmp_path / "timed", budget, quick, settings(recover="3s"))
    (facts,) = report.recoveries
    assert facts.budget == "3s"
    counted = settings(recover=f"{facts.steps} steps")
    prune(name, tmp_path / "counted", budget, quick, counted)
    assert weights(tmp_path / "timed") == weights(tmp_path / "counted")


def test_a_time_is_kept_and_one_too_short_for_a_step_is_refused(
    model: Model, quick: str, tmp_path: Path
) -> None:
    name, budget = model(), Budget(0.5, "ffn")
    (facts,) = prune(name, tmp_path / "out", budget, quick, settings(recover="4s")).recoveries
    assert 1 < facts.seconds < 8
    with pytest.raises(PrunePolicyError, match=r"0\.001s is too short to learn in: a first step ends after"):
        prune(name, tmp_path / "none", budget, quick, settings(recover="0.001s"))


def test_a_disk_that_fills_up_keeps_what_was_saved(
    model: Model, quick: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, budget = model(), Budget(0.5, "ffn")
    prune(name, tmp_path / "whole", budget, quick, settings(recover="30 steps"))
    written = atomic.write_pieces

    def full(path: Path, pieces: Any, nbytes: int | None = None) -> None:
        if path.name == "fit-20.safetensors":
            raise atomic.as_sentence(OSError(28, "No space left on device"), path, nbytes)
        written(path, pieces, nbytes)

    monkeypatch.setattr("prunepolicy.agents.recovery.savepoint.write_pieces", full)
    with pytest.raises(PrunePolicyError, match="The disk is full"):
        prune(name, tmp_path / "out", budget, quick, settings(recover="30 steps"))
    state = json.loads((language.recovery_of(tmp_path / "out") / "fit.json").read_text())
    assert state["epoch"] == 10
    monkeypatch.undo()
    monkeypatch.setitem(language.RECIPES, WEIGHTS, language.RECIPES[WEIGHTS].model_copy(update=QUICK))
    prune(name, tmp_path / "out", budget, quick, settings(recover="30 steps"))
    assert weights(tmp_path / "out") == weights(tmp_path / "whole")


def test_a_loss_that_is_no_number_keeps_the_best_weights(
    model: Model, quick: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, budget = model(), Budget(0.5, "ffn")
    step = Distiller._step
    monkeypatch.setattr(
        Distiller, "_step", lambda self, number: step(self, number) if number < 15 else float("nan")
    )
    report = prune(name, tmp_path / "out", budget, quick, settings(recover="30 steps", verify=True))
    assert report.recoveries[0].kept == 10
    assert report.recoveries[0].broken_at == 16
    assert any("broke in step 16" in warning for warning in report.warnings)
    assert report.proof is not None
    assert report.proof.ok


def test_the_plan_remembers(model: Model, quick: str, tmp_path: Path) -> None:
    name, file, data = model(), tmp_path / "plan.json", tmp_path / "data.txt"
    data.write_text("a few words " * 60)
    arguments = ["plan", name, "--keep", "0.5", "--of", "ffn", "--policy", quick, "--recover", "2"]
    assert main([*arguments, "--on", str(data), "--out", str(file)]) == 0
    assert Plan.load(file).settings["recover"] == "2 epochs"
    cut = ["cut", name, str(file), "--out", str(tmp_path / "cut"), "--no-measure", "--no-verify"]
    assert main(cut) == 2
    assert main([*cut, "--on", str(data)]) == 0
    asked = PruneSettings(recover=2, on=data, measure=False, verify=False)
    prune(name, tmp_path / "direct", Budget(0.5, "ffn"), quick, asked)
    assert weights(tmp_path / "cut") == weights(tmp_path / "direct")


def test_other_models_are_refused_before_anything_runs(model: Model, tmp_path: Path) -> None:
    with pytest.raises(PrunePolicyError, match="writes no text; --recover is for language models"):
        prune(model("vit"), tmp_path / "out", Budget(0.5, "ffn"), "magnitude", settings(recover=1))
    with pytest.raises(PrunePolicyError, match="add for how long"):
        prune(model(), tmp_path / "out", Budget(0.5, "ffn"), "magnitude", settings(on=tmp_path / "x.txt"))
    text = tmp_path / "short.txt"
    text.write_text("a" * 20)
    for wanted in (settings(recover=1, probe=str(text), repair="none"), settings(recover=1, on=text)):
        with pytest.raises(PrunePolicyError, match="too short to learn from"):
            prune(model(), tmp_path / "out", Budget(0.5, "ffn"), "magnitude", wanted)
    assert not (tmp_path / "out").exists()
