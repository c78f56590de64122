"""A result goes to the hub whole, or not at all; a stand-in on this machine takes the push."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi

from prunepolicy.cli import main
from prunepolicy.commands.push.push import push
from prunepolicy.commands.report.card import write_card
from prunepolicy.commands.report.report import PruneReport
from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.errors import PrunePolicyError, UsageError

REPO = "me/tiny-pruned"
Sent = list[tuple[str, dict[str, bytes], str]]


@pytest.fixture
def result(tiny_checkpoint: Callable[..., Checkpoint], report: PruneReport) -> Path:
    """A folder as `prune` leaves one, with a few files that don't belong to the model."""
    folder = tiny_checkpoint("llama").folder
    report.save(folder)
    write_card(report, folder)
    (folder / "plan.json").write_text("{}")
    (folder / "tokenizer_config.json").write_text("{}")
    (folder / ".secret").write_text("token")
    (folder / "training_args.bin").write_bytes(b"pickle")
    return folder


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Sent:
    """What the hub was sent: repository, files and message of every commit."""
    commits: Sent = []

    def create_commit(api: HfApi, repo: str, operations: Any, *, commit_message: str) -> Any:
        files = {one.path_in_repo: Path(one.path_or_fileobj).read_bytes() for one in operations}
        commits.append((repo, files, commit_message))
        return type("Commit", (), {"commit_url": f"https://hub/{repo}/commit/1"})

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(HfApi, "create_repo", lambda *args, **named: None)
    monkeypatch.setattr(HfApi, "create_commit", create_commit)
    return commits


def test_everything_that_belongs_to_the_result_is_sent_in_one_commit(result: Path, sent: Sent) -> None:
    pushed = push(result, REPO)
    ((repo, files, message),) = sent
    assert (repo, message) == (REPO, f"Add {result.name}")
    assert {"config.json", "README.md", "plan.json", "prune_report.json", "model.safetensors"} <= set(files)
    assert "tokenizer_config.json" in files
    assert not {".secret", "training_args.bin"} & set(files)
    assert files["model.safetensors"] == (result / "model.safetensors").read_bytes()
    assert pushed.commit.endswith("/commit/1")
    assert pushed.files == {name: len(content) for name, content in sorted(files.items())}


def test_a_dry_run_lists_all_and_sends_nothing(
    result: Path, sent: Sent, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["push", str(result), f"hf://{REPO}", "--dry-run", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert not sent
    assert "model.safetensors" in listed["files"]
    assert listed["commit"] == ""
    assert main(["push", str(result), REPO, "--dry-run"]) == 0
    assert "Nothing was sent to me/tiny-pruned" in capsys.readouterr().out


def test_what_failed_its_proof_is_not_sent(result: Path, report: PruneReport, sent: Sent) -> None:
    assert report.proof is not None
    replace(report, proof=replace(report.proof, ok=False, sentence="It doesn't load.")).save(result)
    with pytest.raises(PrunePolicyError, match="failed its proof, so it isn't pushed: It doesn't load"):
        push(result, REPO)
    assert not sent


def test_what_the_page_would_lack_is_said(result: Path, report: PruneReport, sent: Sent) -> None:
    origin = replace(report.origin, licence=None, base_model=None)
    replace(report, proof=None, origin=origin).save(result)
    notes = " ".join(push(result, REPO, dry_run=True).warnings)
    assert "Loading wasn't tested" in notes
    assert "licence isn't known" in notes
    assert "no base model" in notes


def test_a_folder_without_a_report_and_a_wrong_place_are_wrong_usage(result: Path, sent: Sent) -> None:
    with pytest.raises(UsageError, match="no place to push to"):
        push(result, "not a repository")
    (result / "prune_report.json").unlink()
    with pytest.raises(UsageError, match="holds no result of prunepolicy"):
        push(result, REPO)
    assert not sent


def test_the_hubs_refusal_is_one_sentence(
    result: Path, sent: Sent, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*args: Any, **named: Any) -> None:
        raise OSError("401 Client Error\nlong story")

    monkeypatch.setattr(HfApi, "create_repo", refuse)
    assert main(["push", str(result), REPO]) == 1
    assert "The hub doesn't take a push to me/tiny-pruned: 401 Client Error." in capsys.readouterr().err
