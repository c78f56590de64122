"""The one call of `from_pretrained`: local files only, and no weight left to chance."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import transformers
from torch import nn
from transformers.utils import logging

from prunepolicy.pruning.errors import BadCheckpointError


def load_folder(
    folder: Path, auto_class: str, dtype: torch.dtype, trust_remote_code: bool = False
) -> nn.Module:
    """Load `folder` with a transformers class, in evaluation mode on the CPU.

    Raises:
        BadCheckpointError: when it doesn't load, or a weight is missing or of another shape.
    """
    try:
        with without_bars():
            model, info = getattr(transformers, auto_class).from_pretrained(
                folder,
                dtype=dtype,
                output_loading_info=True,
                local_files_only=True,
                trust_remote_code=trust_remote_code,
                ignore_mismatched_sizes=True,  # They are refused below, by name.
            )
    except Exception as error:  # transformers trusts the folder, so a damaged one can raise anything.
        raise BadCheckpointError(f"{folder} doesn't load with transformers: {first_line(error)}") from error
    for name, stored, implied in sorted(info["mismatched_keys"]):
        raise BadCheckpointError(
            f"{folder} stores {name!r} as {tuple(stored)}, but its config.json implies {tuple(implied)}."
        )
    missing = sorted(info["missing_keys"])
    if missing:
        raise BadCheckpointError(f"{folder} lacks {len(missing)} weights, the first is {missing[0]!r}.")
    loaded: nn.Module = model.eval()
    return loaded


@contextmanager
def without_bars() -> Iterator[None]:
    """Keep transformers from drawing progress bars into our output while the context lasts."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, ended by a full stop.

    Where the text alone says little (a missing key), the error's name precedes it.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    speaks = lines and isinstance(error, OSError | ValueError | RuntimeError | ImportError)
    parts = lines[:1] if speaks else [type(error).__name__, *lines[:1]]
    return ": ".join(parts).rstrip(".:") + "."
