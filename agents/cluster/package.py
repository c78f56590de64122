"""What of a working directory a job needs: sources and recipes, and only the models that a recipe names."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from prunepolicy.agents.training.recipe import RunRecipe
from prunepolicy.agents.training.run_folder import RECIPE, RUN
from prunepolicy.agents.training.run_report import SEEDS_REPORT
from prunepolicy.pruning.errors import NotEnoughSpaceError, UsageError

MIB = 1 << 20
LARGEST = 500 * MIB
"""What Ray takes; it complains from half of that on."""
WEIGHTS = {".safetensors", ".gguf", ".bin", ".pt", ".pth", ".ckpt", ".onnx", ".h5", ".npz", ".msgpack"}
SMALL = MIB
"""Weights up to this size belong to policies."""
OUTPUTS = {"build", "dist", "runs", "smaller", "venv", "node_modules", "__pycache__"}


@dataclass(frozen=True)
class Package:
    """Files of a working directory.

    Attributes:
        root: the working directory.
        files: to be sent, links among them as links, relative to `root`.
        elsewhere: what the recipe names that lies outside; the cluster has to have it.
    """

    root: Path
    files: tuple[Path, ...]
    elsewhere: tuple[str, ...]

    @classmethod
    def of(cls, root: Path, recipe: RunRecipe) -> Package:
        """Choose what a recipe needs: no hidden files, outputs and weights but what it names."""
        names = recipe.inputs
        inside = [name for name in names if _is_inside(root, name)]
        wanted = {root / name for name in inside}
        files = tuple(path.relative_to(root) for path in sorted(set(_chosen(root, root, wanted))))
        return cls(root, files, tuple(name for name in names if name not in inside))

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
        return (self.root / file).lstat().st_size

    def check(self) -> None:
        """Raise `NotEnoughSpaceError` when Ray wouldn't take it."""
        if self.size > LARGEST:
            large = ", ".join(file.as_posix() for file in self.largest[:3])
            raise NotEnoughSpaceError(
                f"{self.root} comes to {self.size / MIB:,.0f} MiB, and Ray takes {LARGEST / MIB:.0f}; the "
                f"largest are {large}. Move them out, or put models where the whole cluster sees them."
            )

    def stage(self, folder: Path) -> None:
        """Copy the files into an empty folder, where Ray takes them from."""
        for file in self.files:
            target = folder / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(self.root / file, target, follow_symlinks=False)


def _chosen(folder: Path, root: Path, wanted: set[Path]) -> Iterator[Path]:
    """Yield what goes of `folder`; everything of what is wanted, and of folders above it what goes anyway."""
    for entry in sorted(folder.iterdir()):
        if entry in wanted:
            yield from [entry] if entry.is_file() else (path for path in entry.rglob("*") if path.is_file())
        elif entry.is_symlink():
            if entry.resolve().is_relative_to(root):
                yield entry
        elif entry.is_dir():
            above = any(path.is_relative_to(entry) for path in wanted)
            if above or not _stays(entry):
                yield from _chosen(entry, root, wanted)
        elif not entry.name.startswith(".") and not _is_weights(entry):
            yield entry


def _stays(folder: Path) -> bool:
    """Return whether a folder is hidden, an output, an environment, a run, or a model."""
    if folder.name in OUTPUTS or folder.name.startswith(".") or folder.name.endswith(".egg-info"):
        return True
    names = set(os.listdir(folder))
    if "pyvenv.cfg" in names or SEEDS_REPORT in names or {RECIPE, RUN} <= names:
        return True
    return "config.json" in names and any(_is_weights(folder / name, 0) for name in names)


def _is_weights(file: Path, small: int = SMALL) -> bool:
    return file.suffix in WEIGHTS and file.stat().st_size > small


def _is_inside(root: Path, name: str) -> bool:
    path = Path(name)
    if ".." in path.parts:
        raise UsageError(f"{name} lies outside the working directory; a job can't take it along.")
    return not path.is_absolute() and (root / path).exists()
