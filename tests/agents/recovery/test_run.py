"""A training that brings nothing leaves its student as it was, also after a kill or where it breaks."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from prunepolicy.agents.recovery.budget import RecoveryBudget
from prunepolicy.agents.recovery.distil import Distillation, Distiller
from prunepolicy.agents.recovery.facts import RecoveryFacts
from prunepolicy.agents.recovery.language import freeze
from prunepolicy.agents.recovery.learning_texts import LearningTexts
from prunepolicy.agents.recovery.recipe import RecoveryRecipe
from prunepolicy.agents.recovery.run import RecoveryRun
from prunepolicy.agents.recovery.savepoint import Savepoint
from prunepolicy.pruning.session.model_session import ModelSession
from prunepolicy.pruning.session.opened_model import Hardware
from prunepolicy.pruning.statistics.probe import Probe

HARMFUL = RecoveryRecipe(window=16, learning_rate=1.0, evaluations=3)
Train = Callable[..., RecoveryFacts]


@pytest.fixture
def teacher(model: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModelSession:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return ModelSession.named(model(), Hardware("cpu", "float32"))


@pytest.fixture
def train(teacher: ModelSession, tmp_path: Path) -> Train:
    """A function that lets a student learn at a rate that can only harm it."""

    def trained(student: nn.Module, rank: int = 0) -> RecoveryFacts:
        texts = LearningTexts.of(teacher, Probe(samples=8, length=16), 16)
        recipe = HARMFUL.model_copy(update={"lora_rank": rank})
        savepoint = Savepoint(tmp_path / "state", "one")
        freeze(student, {name for name, _ in student.named_parameters()})
        return RecoveryRun(teacher, texts, RecoveryBudget(12, "steps"), recipe, savepoint).train(student)

    return trained


def noisy(network: nn.Module) -> nn.Module:
    """Return a copy that predicts a little otherwise."""
    copied, generator = copy.deepcopy(network), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in copied.parameters():
            weight += 0.02 * torch.randn(weight.shape, generator=generator)
    return copied


def assert_same(one: nn.Module, other: nn.Module) -> None:
    torch.testing.assert_close(one.state_dict(), other.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("rank", [0, 2], ids=["weights", "lora"])
def test_learning_that_brings_nothing_leaves_the_student_as_it_was(
    rank: int, teacher: ModelSession, train: Train
) -> None:
    if rank:
        pytest.importorskip("peft")
    before = noisy(teacher.model)
    student = copy.deepcopy(before)
    facts = train(student, rank)
    assert facts.kept == 0
    assert facts.after == facts.before
    assert_same(student, before)


def test_it_does_so_after_a_kill(
    teacher: ModelSession, train: Train, interrupt_at: Callable[..., None]
) -> None:
    before = noisy(teacher.model)
    interrupt_at(Distiller, "_step", 6)
    with pytest.raises(KeyboardInterrupt):
        train(copy.deepcopy(before))
    student = copy.deepcopy(before)
    assert train(student).kept == 0
    assert_same(student, before)


def test_it_does_so_where_the_first_loss_is_no_number(
    teacher: ModelSession, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(distillation: Distillation, student: nn.Module) -> float:
        return 1.0 if distillation.steps == 1 else math.nan

    monkeypatch.setattr(Distillation, "held_out_loss", broken)
    before = noisy(teacher.model)
    student = copy.deepcopy(before)
    assert train(student).kept == 0
    assert_same(student, before)
