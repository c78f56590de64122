"""The user's texts."""

from __future__ import annotations

from pathlib import Path

from prunepolicy.pruning.errors import UsageError


def read_text(file: Path, what: str = "text") -> str:
    """Return what a UTF-8 file says.

    Args:
        what: the file is, for the error's sentence.

    Raises:
        UsageError: when there is no such file, or it isn't text.
    """
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"Can't read the {what} {file}: it isn't UTF-8, byte {error.start}.") from error
    except OSError as error:
        raise UsageError(f"Can't read the {what} {file}: {error.strerror or error}.") from error
