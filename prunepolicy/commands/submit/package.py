"""What a job takes along: its recipe, what that names, this package, and what the user includes."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from prunepolicy.agents.training.recipe import RunRecipe
from prunepolicy.commands.submit.sendable import named_files, project_files
from prunepolicy.pruning.errors import NotEnoughSpaceError, UsageError
from prunepolicy.pruning.io.atomic import as_sentence

MIB = 1 << 20
LARGEST = 500 * MIB
"""What Ray takes; it complains from half of that on."""
ANYTHING = ("*",)


@dataclass(frozen=True)
class JobPackage:
    """Files for a job.

    Attributes:
        root: the working directory.
        files: place in the job's folder to the file that goes there; links are followed already.
        elsewhere: what the recipe names that isn't in `root`; the cluster has to have it.
    """

    root: Path
    files: Mapping[Path, Path]
    elsewhere: tuple[str, ...]

    @classmethod
    def of(cls, root: Path, recipe: RunRecipe, include: Sequence[str] = ()) -> JobPackage:
        """Choose what a recipe needs, and what the user includes.

        Raises:
            UsageError: when something lies outside `root`, or a link leads to what wouldn't go itself.
        """
        root = root.resolve()
        here = [name for name in recipe.inputs if _is_here(root, name)]
        chosen = project_files()
        for name in here:
            chosen |= named_files(root, name)
        for name in include:
            chosen |= named_files(root, name, ANYTHING)
        elsewhere = tuple(name for name in recipe.inputs if name not in here)
        return cls(root, dict(sorted(chosen.items())), elsewhere)

    @property
    def size(self) -> int:
        """Bytes, before Ray packs them."""
        return sum(map(self.bytes_of, self.files))

    @property
    def largest(self) -> list[Path]:
        """The files, those with most bytes first."""
        return sorted(self.files, key=self.bytes_of, reverse=True)

    def bytes_of(self, file: Path) -> int:
        """Return the size of one of the files."""
        return self.files[file].stat().st_size

    def check(self) -> None:
        """Raise `NotEnoughSpaceError` when Ray wouldn't take it."""
        if self.size > LARGEST:
            large = ", ".join(file.as_posix() for file in self.largest[:3])
            raise NotEnoughSpaceError(
                f"The job comes to {self.size / MIB:,.0f} MiB, and Ray takes {LARGEST / MIB:.0f}; the "
                f"largest are {large}. Put models where the whole cluster sees them."
            )

    def stage(self, folder: Path) -> None:
        """Copy the files into an empty folder, where Ray takes them from.

        Raises:
            PrunePolicyError: when they can't be written there.
        """
        for place, file in self.files.items():
            target = folder / place
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, target)
            except OSError as error:
                raise as_sentence(error, target) from error


def _is_here(root: Path, name: str) -> bool:
    path = Path(name)
    if ".." in path.parts:
        raise UsageError(f"{name} lies outside the working directory; a job can't take it along.")
    return not path.is_absolute() and (root / path).exists()
