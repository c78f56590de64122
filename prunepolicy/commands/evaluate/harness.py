"""Run tasks of lm-evaluation-harness on a loaded model."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from prunepolicy.commands.evaluate.score import Score
from prunepolicy.pruning.errors import MissingExtraError, PrunePolicyError, UsageError, did_you_mean

BOOTSTRAPS = 1000
"""Resamples for metrics whose standard error has no formula."""


def harness_scores(
    model: nn.Module,
    tokenizer: Any,
    tasks: Sequence[str],
    manager: Any,
    limit: int | None = None,
    batch: int = 4,
) -> list[Score]:
    """Score a model on lm-eval tasks with the tasks' own prompts and number of examples.

    Args:
        manager: of `task_manager`, which has checked the tasks.
        limit: questions per task at most.

    Raises:
        PrunePolicyError: when the data of a task can't be had.
    """
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    try:
        results = simple_evaluate(
            HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch),
            tasks=list(tasks),
            limit=limit,
            task_manager=manager,
            bootstrap_iters=BOOTSTRAPS,
            log_samples=False,
        )
    # Data sets come from the network through several libraries, whose errors share no base.
    except Exception as error:
        raise PrunePolicyError(_sentence(tasks, error)) from error
    return [score for task in results["results"] for score in _scores(task, results)]


def task_manager(tasks: Sequence[str], include_path: Path | None = None) -> Any:
    """Return lm-eval's task manager; one's own folder alone, where it suffices, takes no seconds to read.

    Args:
        include_path: folder with task descriptions (YAML) that lm-eval itself lacks.

    Raises:
        MissingExtraError: when lm-eval isn't installed.
        UsageError: for a task that nobody knows.
    """
    try:
        from lm_eval import tasks as known
    except ImportError as error:
        raise MissingExtraError("lm-eval tasks need", "eval") from error

    if include_path is not None:
        own = known.TaskManager(include_path=str(include_path), include_defaults=False)
        if set(tasks) <= set(own.all_tasks):
            return own
    manager = known.TaskManager(include_path=str(include_path) if include_path else None)
    for task in tasks:
        if task not in manager.all_tasks:
            raise UsageError(f"lm-eval knows no task {task!r}.{did_you_mean(task, manager.all_tasks)}")
    return manager


def _sentence(tasks: Sequence[str], error: Exception) -> str:
    reason = (" ".join(str(error).split())[:200] or type(error).__name__).rstrip(".")
    return (
        f"lm-eval couldn't run {', '.join(tasks)}: {reason}. Tasks download their questions on first use; "
        "without a network give --include-path with tasks over local files."
    )


def _scores(task: str, results: Mapping[str, Any]) -> Iterator[Score]:
    """Yield the metrics of one task; lm-eval names them `acc,none` and `acc_stderr,none`."""
    values = results["results"][task]
    n = results.get("n-samples", {}).get(task, {}).get("effective", 0)
    for key, value in values.items():
        metric, _, variant = key.partition(",")
        if isinstance(value, float) and not metric.endswith("_stderr"):
            error = values.get(f"{metric}_stderr,{variant}")
            known = isinstance(error, float) and math.isfinite(error)
            yield Score(
                task,
                metric if variant in ("", "none") else f"{metric} ({variant})",
                value,
                n,
                error if known else None,
            )
