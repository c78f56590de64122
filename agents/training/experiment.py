"""What one kind of training run needs beside its learner: models, an evaluation, pictures, a report."""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from prunepolicy.agents.runtime import Runner
from prunepolicy.agents.training.learner import SteppedLearner
from prunepolicy.agents.training.recipe import RunRecipe
from prunepolicy.agents.training.run_folder import BEST, RunFolder, RunProgress
from prunepolicy.agents.training.run_report import Presentable, Report, RunReport, RunsReport
from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.io.progress import ProgressReporter


@dataclass(frozen=True)
class EvalResult:
    """An evaluation during training.

    Attributes:
        score: that chooses the best step, higher is better.
        scores: to be logged; they must be finite, as must everything that is.
        sentence: for the progress shown.
    """

    score: float
    scores: Mapping[str, float]
    sentence: str


class Experiment(ABC):
    """Prepares, evaluates and reports runs of one kind.

    Attributes:
        report_type: of one run, with `load` to read it back.
        seeds_report_type: of runs that differ in their seed.
    """

    learner: SteppedLearner
    report_type: ClassVar[Any]
    seeds_report_type: ClassVar[Any]

    @classmethod
    @abstractmethod
    def prepare(
        cls, algorithm: type[SteppedLearner], run: RunFolder, progress: ProgressReporter, runner: Runner
    ) -> Self:
        """Open what the run's recipe names, and make the learner; seeding comes first.

        Args:
            runner: carries out what can be done apart.
        """

    @classmethod
    def estimate(cls, recipe: Any) -> Presentable:
        """Return what a recipe's run will need, before it starts.

        Raises:
            UsageError: where nobody knows.
        """
        raise UsageError(f"There is no estimate for the algorithm {recipe.algorithm}.")

    @abstractmethod
    def evaluate(self) -> EvalResult:
        """Evaluate what was learned so far on validation data."""

    @abstractmethod
    def save(self, name: str) -> None:
        """Save what was learned so far as `best` or `last` of the run."""

    @abstractmethod
    def conclude(self, progress: RunProgress) -> RunReport:
        """Draw the run's pictures, compare its best with baselines, and write the report."""

    @classmethod
    def summarise(cls, folder: Path, recipe: RunRecipe, reports: Sequence[Any]) -> Report:
        """Sum up runs that differ in their seed, and copy what the best of them learned into `folder`."""
        report: RunsReport[Any] = cls.seeds_report_type(folder.name, str(folder), tuple(reports))
        chosen = folder / f"seed-{report.chosen.recipe['seed']}" / BEST
        RunFolder(folder, recipe).keep(lambda place: shutil.copytree(chosen, place), BEST)
        return report
