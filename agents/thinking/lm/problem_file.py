"""Problems from a file of JSON lines: a question and its right answer under names that the recipe gives."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import Field

from prunepolicy.agents.thinking.lm.tasks import Problem
from prunepolicy.envs.thinking.verifiers import verifiers
from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.io import bounded
from prunepolicy.pruning.io.config import StrictConfig

FILE = "file"
"""What problems of a file have for a task."""


class Columns(StrictConfig):
    """Where a line of a file has what.

    Attributes:
        question: name of the text that is asked.
        answer: name of the right answer, a text or a number.
        difficulty: name of a whole number by which evaluations are broken down; None calls all equally hard.
        verifier: what checks answers, one of `envs/thinking/verifiers/`.
    """

    question: str = "question"
    answer: str = "answer"
    difficulty: str | None = None
    verifier: str = Field(default="math_verify", min_length=1)

    def check(self) -> None:
        """Raise `UsageError` when there is no such verifier."""
        verifiers[self.verifier]


def read_problems(file: Path, columns: Columns) -> list[Problem]:
    """Return the problems of a file, one per line that isn't empty; a question that comes again is left out.

    Raises:
        UsageError: when the file can't be read, holds no problem, or a line isn't one; the sentence names it.
    """
    try:
        lines = bounded.read_text(file).splitlines()
    except (OSError, ValueError) as error:
        raise UsageError(f"Can't read the problems in {file}: {bounded.why(error)}.") from error
    numbered = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not numbered:
        raise UsageError(f"{file} holds no problems.")
    problems = (_problem(line, columns, f"{file}, line {number}") for number, line in numbered)
    return list({problem.question: problem for problem in problems}.values())


def _problem(line: str, columns: Columns, where: str) -> Problem:
    try:
        row = bounded.parsed_json(line)
    except ValueError as error:
        raise UsageError(f"{where} is no JSON: {bounded.why(error)}.") from error
    if not isinstance(row, dict):
        raise UsageError(f"{where} must be a JSON object, such as {{'question': ..., 'answer': ...}}.")
    question, answer = (_text(row, name, where) for name in (columns.question, columns.answer))
    return Problem(FILE, question, answer, _difficulty(row, columns, where), (), {}, columns.verifier)


def _text(row: dict[str, Any], name: str, where: str) -> str:
    value = row.get(name)
    if isinstance(value, bool) or not isinstance(value, str | int | float) or not str(value).strip():
        known = ", ".join(_shown(row))
        raise UsageError(f"{where} has no text under {name!r}; it has {known or 'nothing'}.")
    return str(value).strip()


def _difficulty(row: dict[str, Any], columns: Columns, where: str) -> int:
    level = 1 if columns.difficulty is None else row.get(columns.difficulty)
    if isinstance(level, bool) or not isinstance(level, int) or abs(level) > 1 << 31:
        raise UsageError(f"{where} has no whole number under {columns.difficulty!r}.")
    return level


def _shown(row: dict[str, Any]) -> Iterator[str]:
    return (f"{name:.40}" for name, _ in zip(row, range(10), strict=False))
