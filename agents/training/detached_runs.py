"""Whole runs that workers train, in the run's own folder where they see it."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from prunepolicy.agents.runtime import Runner
from prunepolicy.agents.runtime.files import Files, read_folder, write_folder
from prunepolicy.agents.training.algorithms import algorithms
from prunepolicy.agents.training.recipe import RunRecipe
from prunepolicy.agents.training.run_report import RunReport
from prunepolicy.agents.training.train import train
from prunepolicy.pruning.io.progress import ProgressReporter
from prunepolicy.pruning.io.temporary import temporary_folder


@dataclass(frozen=True)
class RunRequest:
    """One run.

    Attributes:
        folder: of the run.
        inode: of the folder that this one lies in, by which a worker knows whether it sees the same disk.
        files: of the run so far, for workers that don't.
    """

    recipe: RunRecipe
    folder: Path
    inode: int
    files: Files

    @classmethod
    def of(cls, recipe: RunRecipe, folder: Path) -> RunRequest:
        """Return the order to train `recipe` in `folder`, whose parent is made."""
        folder.parent.mkdir(parents=True, exist_ok=True)
        return cls(recipe, folder, folder.parent.stat().st_ino, read_folder(folder))

    @property
    def report(self) -> Any:
        """The report of the finished run, as it lies in its folder."""
        return algorithms[self.recipe.algorithm].experiment_type.report_type.load(self.folder)


@dataclass(frozen=True)
class DetachedRuns:
    """Trains whole runs, each in one worker; what is there of them is continued.

    Attributes:
        command: for their records.
        where: the folder that relative paths start from.
    """

    command: str
    progress: ProgressReporter
    where: Path = field(default_factory=Path.cwd)

    def reports(self, runner: Runner, orders: Sequence[RunRequest]) -> Iterator[RunReport]:
        """Yield the report of every run as its turn comes; its folder is complete then."""
        for order, files in zip(orders, runner.map(self, orders, math.inf), strict=True):
            if files is not None:
                write_folder(order.folder, files)
                replace(order.report, folder=str(order.folder)).save(order.folder)
            yield order.report

    def __call__(self, order: RunRequest) -> Files | None:
        """Train in the run's folder; elsewhere, where the disk is another one, and return the files."""
        if self._sees(order):
            with contextlib.chdir(self.where):
                self._train(order, order.folder)
            return None
        with temporary_folder() as elsewhere:
            folder = elsewhere / order.folder.name
            if order.files:
                write_folder(folder, order.files)
            self._train(order, folder)
            return read_folder(folder)

    def _sees(self, order: RunRequest) -> bool:
        try:
            return os.stat(self.where / order.folder.parent).st_ino == order.inode
        except OSError:
            return False

    def _train(self, order: RunRequest, folder: Path) -> None:
        # A worker that was lost may have left a part of the run, which the next one continues.
        train(order.recipe, folder, True, self.progress, self.command)
