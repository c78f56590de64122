"""What runs write about themselves when they end: a report of each, and one over all seeds."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from dataclasses import asdict
from pathlib import Path
from typing import Any, Generic, Protocol, Self, TypeVar

from pydantic import TypeAdapter

from prunepolicy.agents.runtime.html_page import framed
from prunepolicy.agents.training.recipe import SMOKE_SENTENCE
from prunepolicy.pruning.errors import PrunePolicyError
from prunepolicy.pruning.io import bounded
from prunepolicy.pruning.io.atomic import write_text
from prunepolicy.pruning.io.console import Console

PAGE = "report.html"
REPORT, SEEDS_REPORT = "train_report.json", "seeds_report.json"


class Presentable(Protocol):
    """What a command can show, to people or to programs."""

    def to_json(self) -> str:
        """Return it as JSON text."""

    def render(self, console: Console) -> None:
        """Print it."""


class Report(ABC):
    """What one run or several came to."""

    file: str
    """Its name in the run's folder."""

    @abstractmethod
    def to_json(self) -> str:
        """Return the report as JSON text."""

    @abstractmethod
    def render(self, console: Console) -> None:
        """Print it."""

    def save(self, folder: Path) -> None:
        """Write the report into `folder`."""
        write_text(folder / self.file, self.to_json())


class RunReport(Report):
    """What one run came to; kinds of runs are frozen dataclasses.

    Attributes:
        folder: of the run.
        recipe: everything that decided it.
        selected: the score that chose the best step, higher is better; it may choose among runs, too.
    """

    file = REPORT
    folder: str
    recipe: dict[str, Any]
    selected: float

    @property
    @abstractmethod
    def verdict(self) -> str:
        """One sentence: what was learned."""

    @property
    def derived(self) -> dict[str, Any]:
        """What follows from the rest, for those who read the file."""
        return {"verdict": self.verdict} | ({"smoke": SMOKE_SENTENCE} if self.recipe.get("smoke") else {})

    def to_json(self) -> str:
        """Return the report as JSON text."""
        fields: dict[str, Any] = asdict(self)  # type: ignore[call-overload]
        return json.dumps(fields | self.derived, indent=1, sort_keys=True) + "\n"

    def _repr_html_(self) -> str | None:
        """Return what notebooks show: the page in the run's folder; None where it has none."""
        try:
            page = bounded.read_text(Path(self.folder) / PAGE, bounded.MOST_TEXT)
        except (OSError, ValueError):
            return None
        return framed(page)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the report that `save` wrote into `folder`.

        Raises:
            PrunePolicyError: when it is missing or damaged.
        """
        try:
            return TypeAdapter(cls).validate_python(bounded.read_json(folder / REPORT))
        except (OSError, ValueError) as error:
            raise PrunePolicyError(
                f"Can't read {folder / REPORT}: it is missing or damaged. Delete it and add --resume."
            ) from error


Run = TypeVar("Run", bound=RunReport)


class RunsReport(Report, Generic[Run]):
    """What runs that differ in their seed came to.

    Attributes:
        runs: one report per seed.
    """

    file = SEEDS_REPORT
    runs: tuple[Run, ...]

    @property
    def chosen(self) -> Run:
        """The run that scored best where steps were chosen; the final scores have no say in it."""
        return max(self.runs, key=lambda run: run.selected)
