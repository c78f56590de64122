"""Budgets as users write them, the user's files, and the windows that are learned from."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from prunepolicy import PrunePolicyError, PruneSettings
from prunepolicy.agents.recovery.budget import RecoveryBudget
from prunepolicy.agents.recovery.documents import documents
from prunepolicy.agents.recovery.learning_texts import BLOCK, LearningTexts
from prunepolicy.commands.prune.job import open_session
from prunepolicy.pruning.session.model_session import ModelSession
from prunepolicy.pruning.session.opened_model import Hardware
from prunepolicy.pruning.statistics.probe import Probe

WRITTEN = {
    "20m": (1200, "seconds"),
    "2h": (7200, "seconds"),
    "1.5 min": (90, "seconds"),
    "500k tokens": (500_000, "tokens"),
    "3 epochs": (3, "epochs"),
    "1 epoch": (1, "epochs"),
    "2": (2, "epochs"),
    "120 steps": (120, "steps"),
    "0": (0, "epochs"),
}


@pytest.mark.parametrize("text", WRITTEN)
def test_budgets_are_read_and_written_back(text: str) -> None:
    budget = RecoveryBudget.parse(text)
    assert (budget.amount, budget.unit) == WRITTEN[text]
    assert RecoveryBudget.parse(str(budget)) == budget
    assert bool(budget) is (text != "0")


@pytest.mark.parametrize("text", ["", "soon", "-3", "1.5 epochs", "5km", "3k m", "nan", "9" * 40, "1 2 m"])
def test_what_is_no_budget_is_refused_in_a_sentence(text: str) -> None:
    with pytest.raises(PrunePolicyError, match="budget for learning"):
        RecoveryBudget.parse(text)


@pytest.fixture
def session(model: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelSession:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return open_session(model("llama"), PruneSettings(hardware=Hardware("cpu", "float32")))


def lines(file: Path, *rows: Any) -> Path:
    file.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return file


def test_conversations_and_texts_are_documents(tmp_path: Path, byte_tokenizer: Any) -> None:
    said = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    file = lines(tmp_path / "chats.jsonl", {"messages": said}, {"text": "plain", "id": 3})
    assert documents(file, byte_tokenizer) == ["user: Hi\nassistant: Hello", "plain"]
    byte_tokenizer.chat_template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    assert documents(file, byte_tokenizer)[0] == "<user>Hi<assistant>Hello"
    byte_tokenizer.chat_template = "{{ raise_exception('no system role') }}"
    with pytest.raises(PrunePolicyError, match="chat template refuses it: no system role"):
        documents(file, byte_tokenizer)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ('{"prompt": "a", "answer": "b"}', "line 1 has neither 'messages' nor 'text'; its columns: 'prompt'"),
        ('{"text": "fine"}\n{"text": ', "line 2 is no JSON"),
        ("[1, 2]", "line 1 is no JSON object"),
        ('{"messages": [{"role": "user"}]}', "is a list of objects with 'role' and 'content'"),
        ("\n\n", "is empty: there is nothing to learn from"),
        ('{"text": ""}', "is empty: there is nothing to learn from"),
    ],
)
def test_files_without_what_is_needed_are_refused(
    content: str, sentence: str, tmp_path: Path, byte_tokenizer: Any
) -> None:
    file = tmp_path / "data.jsonl"
    file.write_text(content)
    with pytest.raises(PrunePolicyError, match=sentence):
        documents(file, byte_tokenizer)


def test_the_users_texts_are_packed_and_a_part_is_held_out(session: ModelSession, tmp_path: Path) -> None:
    file = lines(tmp_path / "data.jsonl", *({"text": f"text number {number}"} for number in range(40)))
    texts = LearningTexts.of(session, Probe(), 16, file)
    windows = torch.cat([texts.held_out(), texts.first(10_000)])
    assert windows.shape == (sum(len(f"text number {n}") + 1 for n in range(40)) // 16, 16)
    assert len(texts.held_out()) == 8
    assert torch.equal(texts.first(5), texts.first(10_000)[:5])
    again = LearningTexts.of(session, Probe(), 16, file)
    assert torch.equal(again.first(10_000), texts.first(10_000))
    assert again.fingerprint == texts.fingerprint != LearningTexts.of(session, Probe(), 16).fingerprint


def test_the_model_goes_on_with_the_probe_in_blocks(session: ModelSession) -> None:
    probe = Probe("varied", samples=4, length=8)
    texts = LearningTexts.of(session, probe, 16)
    own = session.probe(probe)["input_ids"].view(-1, 16)
    assert torch.equal(texts.first(len(own)), own)
    many = texts.first(len(own) + 2 * BLOCK)
    assert torch.equal(many[: len(own) + 3], texts.first(len(own) + 3))
    held_out = {tuple(row) for row in texts.held_out().tolist()}
    assert held_out.isdisjoint(map(tuple, many.tolist()))


def test_a_probe_of_both_kinds_is_learned_from_to_equal_parts(session: ModelSession, tmp_path: Path) -> None:
    file = tmp_path / "data.txt"
    file.write_text("words " * 200)
    texts = LearningTexts.of(session, Probe(f"self+{file}", samples=4, length=16), 16)
    found, ours = texts.first(20).tolist(), texts.packed.tolist()
    assert len(found) == 20
    assert sum(row in ours for row in found) == 10
