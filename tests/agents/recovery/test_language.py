"""Cut language models that learn from the dense one: nearer to it, as proven, and the same bytes again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from prunepolicy import Budget, Plan, PrunePolicyError, PruneSettings, prune
from prunepolicy.agents.recovery import language
from prunepolicy.agents.recovery.distillation import divergence
from prunepolicy.agents.recovery.fit import Fit
from prunepolicy.cli import main
from prunepolicy.commands.prune.job import open_session
from prunepolicy.pruning.checkpoint.loading import load_model
from prunepolicy.pruning.session.opened_model import Hardware
from prunepolicy.pruning.statistics.probe import Probe

Model = Callable[..., str]
FAMILIES = ("llama", "gpt2", "gemma3_text", "mixtral")
"""Tied and untied heads, norms of other kinds, layers named otherwise, experts."""


@pytest.fixture(autouse=True)
def _few_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(language, "WINDOWS", 24)
    monkeypatch.setattr(language, "VALIDATION", 4)
    monkeypatch.setattr(language, "TRAINING", language.TRAINING.model_copy(update={"learning_rate": 3e-3}))


def settings(**changes: Any) -> PruneSettings:
    given = {"hardware": Hardware("cpu", "float32"), "measure": False, "verify": False}
    return PruneSettings(**given | changes)


def distance(name: str, folder: Path) -> float:
    """Return how far the result's predictions are from the dense model's, on the text that was learned."""
    session = open_session(name, settings())
    pruned = load_model(folder, session.checkpoint.adapter, torch.float32, torch.device("cpu"), True)
    tokens = language.task_for(session, Probe(samples=4, length=16)).windows
    with torch.no_grad():
        answers = [model(input_ids=tokens).logits for model in (pruned, session.model)]
    return float(divergence(answers[0], answers[1], 1.0))


def test_the_model_learns_from_its_own_writing_and_a_file(model: Model, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("words " * 400, encoding="utf-8")
    count = language.WINDOWS + language.VALIDATION
    session = open_session(model("llama"), settings())
    windows = language.task_for(session, Probe(f"self+{text}", samples=4, length=16)).windows
    own = session.probe(Probe(samples=count, length=16, seed=1))["input_ids"]
    file = session.probe(Probe(str(text), samples=count, length=16))["input_ids"]
    assert torch.equal(windows, torch.cat([own, file])[language.VALIDATION :])


@pytest.mark.parametrize(("watched", "taught"), [("self", "self"), ("varied", "varied"), ("start", "self")])
def test_the_model_learns_from_other_writing_of_the_kind_it_was_watched_on(
    watched: str, taught: str, model: Model
) -> None:
    count = language.WINDOWS + language.VALIDATION
    session = open_session(model("llama"), settings())
    windows = language.task_for(session, Probe(watched, samples=4, length=16)).windows
    written = session.probe(Probe(taught, samples=count, length=16, seed=1))["input_ids"]
    assert len(windows) >= language.WINDOWS
    assert torch.equal(windows, written[-len(windows) :])


@pytest.mark.parametrize("family", FAMILIES)
def test_what_was_learned_brings_it_nearer_and_is_what_was_proven(
    family: str, model: Model, quick: str, tmp_path: Path
) -> None:
    name, budget = model(family), Budget(0.5, "ffn")
    prune(name, tmp_path / "plain", budget, quick, settings(repair="none"))
    learning = settings(recover=6, verify=True, repair="none")
    report = prune(name, tmp_path / "learned", budget, quick, learning)
    assert report.proof is not None
    assert report.proof.ok, report.proof.sentence
    assert report.origin.recover == 6
    assert distance(name, tmp_path / "learned") < 0.9 * distance(name, tmp_path / "plain")
    assert not list(tmp_path.glob(".*"))


def test_layers_that_went_and_widths_that_differ_are_learned_around(model: Model, tmp_path: Path) -> None:
    name = model("llama", num_hidden_layers=4)
    asked = (("random", Budget(0.5, "layers")), ("taylor", Budget(0.4, "ffn", uniform=False)))
    for policy, budget in asked:
        plain, learned = tmp_path / f"plain-{policy}", tmp_path / f"learned-{policy}"
        prune(name, plain, budget, policy, settings())
        report = prune(name, learned, budget, policy, settings(recover=6, verify=True))
        assert report.proof is not None
        assert report.proof.ok, report.proof.sentence
        assert distance(name, learned) < 0.9 * distance(name, plain)


def test_a_killed_run_goes_on_to_the_same_bytes(
    model: Model, quick: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, budget, done = model(), Budget(0.5, "ffn"), list[int]()
    prune(name, tmp_path / "whole", budget, quick, settings(recover=3))

    def killed(fit: Fit, student: Any, trained: Any = Fit.train) -> Any:
        def count(steps: int) -> None:
            done.append(steps)
            if len(done) == 7:  # of 9, in the third pass
                raise KeyboardInterrupt

        return trained(Fit(**{**vars(fit), "tick": count}), student)

    monkeypatch.setattr(Fit, "train", killed)
    with pytest.raises(KeyboardInterrupt):
        prune(name, tmp_path / "out", budget, quick, settings(recover=3))
    assert not (tmp_path / "out").exists()
    assert len(done) == 7
    prune(name, tmp_path / "out", budget, quick, settings(recover=3))
    results = [(tmp_path / place / "model.safetensors").read_bytes() for place in ("whole", "out")]
    assert results[0] == results[1]


def test_the_plan_remembers(model: Model, quick: str, tmp_path: Path) -> None:
    name, file = model(), tmp_path / "plan.json"
    arguments = ["plan", name, "--keep", "0.5", "--of", "ffn", "--policy", quick, "--recover", "2"]
    assert main([*arguments, "--out", str(file)]) == 0
    assert Plan.load(file).settings["recover"] == 2
    assert main(["cut", name, str(file), "--out", str(tmp_path / "cut"), "--no-measure"]) == 0
    prune(name, tmp_path / "direct", Budget(0.5, "ffn"), quick, PruneSettings(recover=2, measure=False))
    results = [(tmp_path / place / "model.safetensors").read_bytes() for place in ("cut", "direct")]
    assert results[0] == results[1]


def test_other_models_are_refused_before_anything_runs(model: Model, tmp_path: Path) -> None:
    with pytest.raises(PrunePolicyError, match="writes no text; --recover is for language models"):
        prune(model("vit"), tmp_path / "out", Budget(0.5, "ffn"), "magnitude", settings(recover=1))
    text = tmp_path / "short.txt"
    text.write_text("a" * 70)
    wanted = settings(recover=1, probe=str(text), repair="none")
    with pytest.raises(PrunePolicyError, match="too short to learn from"):
        prune(model(), tmp_path / "out", Budget(0.5, "ffn"), "magnitude", wanted)
