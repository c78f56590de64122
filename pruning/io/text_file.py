"""The user's texts."""

from __future__ import annotations

from pathlib import Path

from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.io import bounded


def read_text(file: Path, what: str = "text") -> str:
    """Return what a UTF-8 file says.

    Args:
        what: the file is, for the error's sentence.

    Raises:
        UsageError: when there is no such file, it is no regular one, or isn't text.
    """
    try:
        return bounded.read_text(file, bounded.MOST_TEXT)
    except (OSError, ValueError) as error:
        raise UsageError(f"Can't read the {what} {file}: {bounded.why(error)}.") from error
