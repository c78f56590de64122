"""`prunepolicy eval`: perplexity, multiple choice and lm-eval tasks, side by side for two models."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Self

from rich.table import Table

from prunepolicy.commands.evaluate.harness import harness_scores, task_manager
from prunepolicy.commands.evaluate.score import Measured, Score
from prunepolicy.pruning.errors import UnsupportedModelError, UsageError
from prunepolicy.pruning.io import bounded
from prunepolicy.pruning.io.console import Console
from prunepolicy.pruning.io.machine import versions
from prunepolicy.pruning.io.progress import Listener, ProgressReporter
from prunepolicy.pruning.io.text_file import read_text
from prunepolicy.pruning.measure.intervals import Interval
from prunepolicy.pruning.measure.multiple_choice import answers_to, read_choices
from prunepolicy.pruning.measure.perplexity import WINDOW, text_losses
from prunepolicy.pruning.session.opened_model import Hardware, OpenedModel

Files = str | Path | Sequence[str | Path]


def _paths(files: Files) -> tuple[Path, ...]:
    return tuple(map(Path, [files] if isinstance(files, str | Path) else files))


@dataclass(frozen=True)
class EvalRequest:
    """What to measure.

    Attributes:
        text: files whose perplexity is measured.
        choices: files of PIQA or BLiMP lines.
        tasks: names of lm-eval tasks.
        include_path: folder with lm-eval tasks of one's own.
        limit: questions per task or choice file at most; texts are read whole.
        window: tokens that the model sees at once in texts; None means 512, or the whole context where
            that is shorter.
        batch: windows or questions in one forward pass.
    """

    text: tuple[Path, ...] = ()
    choices: tuple[Path, ...] = ()
    tasks: tuple[str, ...] = ()
    include_path: Path | None = None
    limit: int | None = None
    window: int | None = None
    batch: int = 4

    @classmethod
    def of(
        cls,
        text: Files = (),
        choices: Files = (),
        tasks: str | Sequence[str] = (),
        include_path: str | Path | None = None,
        **numbers: int | None,
    ) -> Self:
        """Return what was meant by one file or several, given as paths or strings."""
        names = (tasks,) if isinstance(tasks, str) else tuple(tasks)
        folder = None if include_path is None else Path(include_path)
        return cls(_paths(text), _paths(choices), names, folder, **numbers)  # type: ignore[arg-type]

    def check(self) -> None:
        """Raise `UsageError` when there is nothing to measure, or a file can't be read."""
        if not (self.text or self.choices or self.tasks):
            raise UsageError(
                "Say what to measure: --text FILE for perplexity, --choices FILE for PIQA or BLiMP lines, "
                "or --tasks arc_easy,piqa for lm-eval tasks."
            )
        for file in (*self.text, *self.choices):
            if not file.is_file():
                raise UsageError(f"There is no file {file} to measure on.")
        for file in self.text:
            read_text(file)
        if self.include_path is not None and not self.include_path.is_dir():
            raise UsageError(f"There is no folder of tasks at {self.include_path}.")
        if self.batch < 1 or (self.limit is not None and self.limit < 1):
            raise UsageError(f"batch and limit must be at least 1; got {self.batch} and {self.limit}.")
        for file in self.choices:
            read_choices(file, self.limit)


@dataclass(frozen=True)
class EvalReport:
    """The scores of one or two models, measured in one run.

    Attributes:
        scores: model name to its scores, the same tasks and metrics in the same order.
        settings: everything that the numbers depend on.
        changes: the interval of every change from the first model to the second, of perplexities as a
            ratio; None where no error is known.
    """

    scores: Mapping[str, tuple[Score, ...]]
    settings: Mapping[str, object]
    versions: Mapping[str, str]
    changes: tuple[Interval | None, ...] = ()

    def to_json(self) -> str:
        """Return the report as JSON text."""
        return json.dumps(asdict(self), indent=1, default=str) + "\n"

    def render(self, console: Console) -> None:
        """Print a table with one column per model, then the settings."""
        table = Table("Task", "Metric", box=None, pad_edge=False)
        for name in [*self.scores, "change"][: 2 * len(self.scores) - 1]:
            table.add_column(name, justify="right")
        for row in zip(*self.scores.values(), strict=True):
            first, last = row[0], row[-1]
            change = [last.change_from(first)] if len(row) > 1 else []
            table.add_row(first.task, first.metric, *(score.written() for score in row), *change)
        console.print(table)
        for score, interval in zip(next(iter(self.scores.values())), self.changes, strict=False):
            console.print(_said(score, interval), soft_wrap=True)
        settings = {**self.settings, **self.versions}
        listing = ", ".join(f"{name} {value}" for name, value in settings.items() if value is not None)
        console.print(listing, style="dim")


def evaluate(
    model: str,
    request: EvalRequest | None = None,
    against: str | None = None,
    hardware: Hardware | None = None,
    progress: bool | Listener | ProgressReporter = False,
    **measures: Any,
) -> EvalReport:
    """Score `model`, and `against` in the same run and precision.

    Args:
        model: a folder, a hub id or an alias.
        request: what to measure; or `measures` says it, as in `text="held_out.txt"` or `tasks=["piqa"]`.
        against: usually the model before pruning; it comes first in the report.
        progress: True for lines on standard error, or what is called with every event.
        measures: attributes of an `EvalRequest`; one file or name stands for a list of one.

    Raises:
        UsageError: when there is nothing to measure, or both names mean one model.
        UnsupportedModelError: for models that don't write text.
    """
    request = request or EvalRequest.of(**measures)
    request.check()
    if against == model:
        raise UsageError(f"{model!r} can't be compared with itself.")
    hardware = hardware or Hardware()
    names = [model] if against is None else [against, model]
    settings = hardware.described() | _settings(request)
    for name in names:
        _check_writes(OpenedModel.named(name, hardware))
    manager = task_manager(request.tasks, request.include_path) if request.tasks else None
    # One model at a time: together they might not fit into memory.
    shown = ProgressReporter.of(progress)
    found = [list(_measured(OpenedModel.named(name, hardware), request, manager, shown)) for name in names]
    scores = {name: tuple(each.score for each in of) for name, of in zip(names, found, strict=True)}
    pairs = zip(*found, strict=True) if against else ()
    changes = tuple(last.change_from(first) for first, last in pairs)
    used = versions("prunepolicy", "torch", "transformers", "lm_eval")
    return EvalReport(scores, settings, used, changes)


def _said(score: Score, change: Interval | None) -> str:
    """Say whether a change was shown."""
    if change is None:
        return f"{score.task}, {score.metric}: how sure the change is isn't known."
    null = 1.0 if score.metric == "perplexity" else 0.0
    shown = "a difference" if change.excludes(null) else "no difference shown"
    return f"{score.task}, {score.metric}: {shown}, change {change.written(3, null)} (95 %)."


def _check_writes(opened: OpenedModel) -> None:
    if opened.checkpoint.adapter.task != "causal":
        raise UnsupportedModelError(
            f"{opened.name} isn't a causal language model; perplexity and these tasks need one."
        )


def _measured(
    opened: OpenedModel, request: EvalRequest, manager: Any, progress: ProgressReporter
) -> Iterator[Measured]:
    for file in request.text:
        progress.note(f"{opened.name} on {file.name}")
        text = read_text(file)
        losses = text_losses(
            opened.model, opened.tokenizer, text, request.window, request.batch, progress=progress
        )
        whole = losses.score
        yield Measured(Score(file.name, "perplexity", whole.perplexity, whole.tokens), losses)
    for file in request.choices:
        items = read_choices(file, request.limit)
        progress.note(f"{opened.name} on {file.name}")
        answers = answers_to(opened.model, opened.tokenizer, items, request.batch, progress)
        found = answers.score
        yield Measured(Score(file.name, "acc", found.acc, found.n, found.stderr), answers.right)
        if any(item.context for item in items):  # Lengths mean nothing between minimal pairs.
            score = Score(file.name, "acc_norm", found.acc_norm, found.n, found.stderr_norm)
            yield Measured(score, answers.right_norm)
    if request.tasks:
        progress.note(f"{opened.name} on {', '.join(request.tasks)}")
        scores = harness_scores(
            opened.model, opened.tokenizer, request.tasks, manager, request.limit, request.batch
        )
        yield from map(Measured, scores)


def _settings(request: EvalRequest) -> dict[str, object]:
    """Return what the numbers depend on: the request, with a hash for every file."""
    contents = {
        file.name: bounded.read_bytes(file, bounded.MOST_TEXT) for file in (*request.text, *request.choices)
    }
    hashes = {name: sha256(content).hexdigest()[:12] for name, content in contents.items()}
    return {
        "window": (request.window or f"at most {WINDOW}") if request.text else None,
        "batch": request.batch,
        "limit": request.limit,
        "files": hashes or None,
    }
