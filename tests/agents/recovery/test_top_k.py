"""The teacher's answers: the divergence of coarser distributions, cached once, recomputed when damaged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from prunepolicy.agents.recovery.distillation import divergence
from prunepolicy.agents.recovery.teacher_answers import TeacherAnswers
from prunepolicy.agents.recovery.top_k import TopK
from prunepolicy.pruning.session.opened_model import Hardware, OpenedModel


def some_logits(seed: int) -> torch.Tensor:
    return 3 * torch.randn(2, 5, 50, generator=torch.Generator().manual_seed(seed))


def test_all_tokens_give_the_whole_divergence_and_fewer_a_part_of_it() -> None:
    teacher, student = some_logits(0), some_logits(1)
    whole = float(divergence(student, teacher, 1.0))
    found = {k: float(TopK.of(teacher, k).divergence(student)) for k in (1, 8, 49, 50)}
    assert found[50] == pytest.approx(whole, rel=2e-3)
    assert found[49] == pytest.approx(whole, rel=2e-3)
    assert 0 < found[1] < found[8] < whole


def test_the_teacher_itself_is_where_the_loss_has_its_minimum() -> None:
    teacher = some_logits(0)
    student = teacher.clone().requires_grad_()
    loss = TopK.of(teacher, 8).divergence(student)
    loss.backward()
    assert abs(float(loss.detach())) < 1e-4
    assert student.grad is not None
    assert float(student.grad.abs().max()) < 1e-4


def test_answers_are_computed_once_and_again_where_they_are_damaged(
    model: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    answers = TeacherAnswers(OpenedModel.named(model("llama"), Hardware("cpu", "float32")), 8)
    windows = torch.arange(24).view(2, 12)
    first = answers(windows)
    (file,) = (tmp_path / "cache").rglob("answers/*.safetensors")
    monkeypatch.setattr(TeacherAnswers, "computed", lambda self, windows: pytest.fail("computed twice"))
    again = answers(windows)
    assert torch.equal(first.tokens, again.tokens)
    assert torch.equal(first.log_probs, again.log_probs)
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    file.write_bytes(file.read_bytes()[:-5])
    assert torch.equal(answers(windows).tokens, first.tokens)
