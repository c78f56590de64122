"""Programs of others that convert models: found where users have them, run, and quoted where they fail."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from prunepolicy.pruning.errors import PrunePolicyError

MOST_LETTERS = 300
"""Of what a failed program is quoted with."""


def found(name: str, folders: Iterable[Path] = ()) -> Path | None:
    """Return the program or script `name` on PATH or in one of `folders`; None where it isn't."""
    places = [shutil.which(name), *(folder / name for folder in folders)]
    on_path = next((Path(place) for place in places if place is not None and Path(place).is_file()), None)
    if on_path is not None:
        return on_path
    everywhere = (Path(folder) / name for folder in os.get_exec_path())  # A script needn't be executable.
    return next((file for file in everywhere if file.is_file()), None)


def run_program(words: Sequence[str | Path], what: str) -> None:
    """Run a program to its end, without a shell.

    Raises:
        PrunePolicyError: when it fails; the sentence has the last line that it said.
    """
    try:
        done = subprocess.run(
            list(map(str, words)), capture_output=True, encoding="utf-8", errors="replace", check=False
        )
    except OSError as error:
        raise PrunePolicyError(f"{what} can't be started: {error.strerror or error}.") from error
    if done.returncode:
        lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        said = lines[-1][:MOST_LETTERS].rstrip(".") if lines else f"exit code {done.returncode}"
        raise PrunePolicyError(f"{what} failed: {said}.")
