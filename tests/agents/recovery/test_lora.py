"""Adapters that learn in the place of the weights, and a result without any."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers.modeling_layers import GradientCheckpointingLayer

from prunepolicy import Budget, PrunePolicyError, PruneSettings, prune
from prunepolicy.agents.recovery import language
from prunepolicy.agents.recovery.distil import Distiller
from prunepolicy.agents.recovery.lora import with_adapters
from prunepolicy.cli import main
from prunepolicy.pruning.session.model_session import ModelSession
from prunepolicy.pruning.session.opened_model import Hardware

pytest.importorskip("peft")
Model = Callable[..., str]
QUICK = {"window": 16, "learning_rate": 2e-3, "batch_size": 4, "evaluations": 3}


@pytest.fixture(autouse=True)
def _few_texts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for learns, recipe in language.RECIPES.items():
        monkeypatch.setitem(language.RECIPES, learns, recipe.model_copy(update=QUICK))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def settings(**changes: Any) -> PruneSettings:
    given = {"hardware": Hardware("cpu", "float32"), "measure": False, "repair": "none"}
    learns = {"recover": "24 steps", "recover_with": "lora", "verify": False}
    return PruneSettings(**given | learns | changes)


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_merged_adapters_are_what_was_proven(family: str, model: Model, quick: str, tmp_path: Path) -> None:
    name, budget = model(family), Budget(0.5, "ffn")
    plain = prune(name, tmp_path / "plain", budget, quick, settings(recover=0, recover_with="weights"))
    report = prune(name, tmp_path / "out", budget, quick, settings(verify=True))
    assert report.proof is not None
    assert report.proof.ok, report.proof.sentence
    (facts,) = report.recoveries
    assert facts.after < facts.before
    assert "LoRA of rank 32, merged" in facts.sentence
    assert report.after.cost.params == plain.after.cost.params
    assert weights(tmp_path / "out") != weights(tmp_path / "plain")


def test_a_killed_run_goes_on_to_the_same_bytes(
    model: Model, quick: str, tmp_path: Path, interrupt_at: Callable[..., None]
) -> None:
    name, budget = model(), Budget(0.5, "ffn")
    assert prune(name, tmp_path / "whole", budget, quick, settings()).recoveries[0].kept > 0
    interrupt_at(Distiller, "_step", 12)
    with pytest.raises(KeyboardInterrupt):
        prune(name, tmp_path / "out", budget, quick, settings())
    prune(name, tmp_path / "out", budget, quick, settings())
    assert weights(tmp_path / "out") == weights(tmp_path / "whole")


@pytest.mark.parametrize("learns", ["lora", "weights"])
def test_activations_computed_again_give_the_same_bytes(
    learns: str, model: Model, quick: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, budget, asked = model(), Budget(0.5, "ffn"), settings(recover_with=learns)
    prune(name, tmp_path / "whole", budget, quick, asked)
    fits, most = ModelSession.fits, language.COPIES[learns]
    monkeypatch.setattr(
        ModelSession, "fits", lambda self, dtype, copies=1: copies <= most and fits(self, dtype, copies)
    )
    again = []
    checkpointed = GradientCheckpointingLayer.__call__

    def seen(layer: Any, *arguments: Any, **named: Any) -> Any:
        again.append(layer.gradient_checkpointing)
        return checkpointed(layer, *arguments, **named)

    monkeypatch.setattr(GradientCheckpointingLayer, "__call__", seen)
    prune(name, tmp_path / "out", budget, quick, asked)
    assert any(again)
    assert weights(tmp_path / "out") == weights(tmp_path / "whole")


def test_only_adapters_beside_what_would_have_learned_do(model: Model) -> None:
    student: Any = ModelSession.named(model("llama"), Hardware("cpu", "float32")).model
    language.freeze(student, {name for name, _ in student.named_parameters() if "mlp" in name})
    adapted = with_adapters(student, 2, seed=0)
    learning = {name for name, weight in adapted.named_parameters() if weight.requires_grad}
    assert learning
    assert all(".mlp." in name and ".lora_" in name for name in learning)
    language.freeze(student, set())
    with pytest.raises(PrunePolicyError, match="none of this model learns"):
        with_adapters(student, 2, seed=0)


def test_bad_requests_are_refused(model: Model, tmp_path: Path, capsys: Any) -> None:
    line = ["prune", model(), "--keep", "0.5", "--of", "ffn", "--out", str(tmp_path / "out")]
    assert main([*line, "--recover", "1", "--recover-with", "dora"]) == 2
    assert "--recover-with takes weights or lora; got 'dora'." in capsys.readouterr().err
    assert main([*line, "--recover-with", "lora"]) == 2
    assert "add for how long" in capsys.readouterr().err


def test_what_to_install_is_said(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    line = ["prune", model(), "--keep", "0.5", "--of", "ffn", "--out", str(tmp_path / "out")]
    assert main([*line, "--recover", "1", "--recover-with", "lora"]) == 1
    assert "prunepolicy[lora]" in capsys.readouterr().err
