"""Send a pruned model to a repository of the Hugging Face hub, in one commit."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from prunepolicy.commands.report.report import REPORT, PruneReport
from prunepolicy.policy.zoo.hub_upload import hub_api, one_sentence, repository_of
from prunepolicy.pruning.checkpoint.checkpoint import CONFIG, INDEX, Checkpoint
from prunepolicy.pruning.checkpoint.cut import side_files_of
from prunepolicy.pruning.checkpoint.model_files import CARD, EVIDENCE
from prunepolicy.pruning.errors import PrunePolicyError, UsageError

if TYPE_CHECKING:
    from prunepolicy.pruning.io.console import Console


@dataclass(frozen=True)
class ModelPush:
    """What goes to the hub.

    Attributes:
        folder: of the result.
        repo: USER/REPO.
        files: path in the repository to bytes.
        verdict: of the result's report, in a sentence.
        warnings: what a reader of the hub's page would miss.
        commit: address of the commit; empty before it was made.
    """

    folder: str
    repo: str
    files: dict[str, int]
    verdict: str
    warnings: tuple[str, ...]
    commit: str = ""

    def to_json(self) -> str:
        """Return all of it as JSON text."""
        return json.dumps(asdict(self), indent=1) + "\n"

    def render(self, console: Console) -> None:
        """Print every file with its size, and what becomes of them."""
        for path, size in self.files.items():
            console.print(f"  {size:>15,}  {path}", soft_wrap=True, markup=False, highlight=False)
        total = sum(self.files.values())
        console.print(f"{len(self.files)} files, {total:,} bytes. {self.verdict}", markup=False)
        for warning in self.warnings:
            console.print(f"Note: {warning}", style="yellow", soft_wrap=True)
        done = f"Pushed: {self.commit}" if self.commit else f"Nothing was sent to {self.repo} (--dry-run)."
        console.print(done, soft_wrap=True, markup=False)


def push(
    folder: str | Path, repo: str, private: bool | None = None, dry_run: bool = False, message: str = ""
) -> ModelPush:
    """Send the result in `folder` to the hub, or only say what would be sent.

    Args:
        repo: USER/REPO, or hf://USER/REPO; made where it doesn't exist.
        private: whether a new repository is; None leaves that to the user's settings there.

    Raises:
        UsageError: when the folder holds no result, or `repo` names no repository.
        PrunePolicyError: when the result failed its proof, or the hub refuses.
    """
    place = Path(folder)
    repo = repository_of(repo if repo.startswith("hf://") else f"hf://{repo}")
    prepared = prepare(place, repo)
    if dry_run:
        return prepared
    from huggingface_hub import CommitOperationAdd

    with one_sentence(repo):
        api = hub_api()
        api.create_repo(repo, private=private, exist_ok=True)
        operations = [CommitOperationAdd(path, place / path) for path in prepared.files]
        commit = api.create_commit(repo, operations, commit_message=message or f"Add {place.name}")
    return replace(prepared, commit=str(commit.commit_url))


def prepare(folder: Path, repo: str) -> ModelPush:
    """Return what would be sent, without touching the network.

    Raises:
        UsageError: when the folder holds no result.
        PrunePolicyError: when the result failed its proof.
    """
    try:
        report = PruneReport.read(folder)
    except OSError as error:
        raise UsageError(
            f"{folder} holds no result of prunepolicy: there is no {REPORT}; policies go to a zoo, by "
            "`prunepolicy zoo push`."
        ) from error
    if report.proof is not None and not report.proof.ok:
        raise PrunePolicyError(f"{folder} failed its proof, so it isn't pushed: {report.proof.sentence}")
    checkpoint = Checkpoint.open(folder)
    beside = side_files_of(checkpoint)
    evidence = (path for path, reason in beside.behind.items() if reason == EVIDENCE)
    weights = (file.name for file in checkpoint.files)
    paths = {CONFIG, INDEX, CARD, *weights, *beside.travelling, *evidence}
    files = {path: (folder / path).stat().st_size for path in sorted(paths) if (folder / path).is_file()}
    return ModelPush(str(folder), repo, files, report.verdict, tuple(_missing(report, files)))


def _missing(report: PruneReport, files: dict[str, int]) -> list[str]:
    """Return what the hub's page would lack, in sentences."""
    notes = []
    if CARD not in files:
        notes.append(f"There is no {CARD}, so the page would say nothing.")
    if report.proof is None:
        notes.append("Loading wasn't tested (--no-verify).")
    if report.origin.licence is None:
        notes.append(f"The source's licence isn't known; add `license:` to the head of {CARD}.")
    if report.origin.base_model is None:
        notes.append(
            "The source is no model of the hub by name, so the page links to no base model; add "
            f"`base_model:` to the head of {CARD}."
        )
    return notes
