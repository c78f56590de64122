"""Load a model folder with transformers: local files only, weights complete, ready to run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from prunepolicy.pruning.adapters import ModelAdapter
from prunepolicy.pruning.checkpoint import CONFIG, read_json
from prunepolicy.pruning.errors import BadCheckpointError, PrunePolicyError

LOADING_ERRORS = (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, ImportError)
"""What transformers, tokenizers and safetensors raise on damaged folders."""


def load_model(
    folder: Path,
    adapter: ModelAdapter,
    dtype: torch.dtype,
    device: torch.device,
    trust_remote_code: bool = False,
) -> nn.Module:
    """Load the model in `folder` onto `device`, in evaluation mode.

    Args:
        trust_remote_code: run the modelling file that the folder carries, when it carries one.

    Raises:
        BadCheckpointError: when it doesn't load, or when weights are missing.
        PrunePolicyError: when the folder carries code that nobody has agreed to run.
    """
    import transformers

    if carries_code(folder) and not trust_remote_code:
        raise PrunePolicyError(
            f"{folder} carries its own modelling code. Read it, then add --trust-remote-code to run it."
        )
    try:
        model, info = getattr(transformers, adapter.auto_class).from_pretrained(
            folder,
            dtype=dtype,
            output_loading_info=True,
            local_files_only=True,
            trust_remote_code=trust_remote_code,
            ignore_mismatched_sizes=True,  # They are refused below, by name.
        )
        model = model.to(device).eval()
    except LOADING_ERRORS as error:
        raise BadCheckpointError(f"{folder} doesn't load with transformers: {first_line(error)}") from error
    _check_complete(folder, info)
    loaded: nn.Module = model
    return loaded


def _check_complete(folder: Path, info: dict[str, Any]) -> None:
    """Refuse what transformers would fill with random numbers."""
    for name, stored, implied in sorted(info["mismatched_keys"]):
        raise BadCheckpointError(
            f"{folder} stores {name!r} as {tuple(stored)}, but its config.json implies {tuple(implied)}."
        )
    missing = sorted(info["missing_keys"])
    if missing:
        raise BadCheckpointError(f"{folder} lacks {len(missing)} weights, the first is {missing[0]!r}.")


def load_tokenizer(folder: Path) -> Any:
    """Load the tokenizer in `folder`.

    Raises:
        BadCheckpointError: when the folder holds none that loads.
    """
    import transformers

    try:
        return transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except LOADING_ERRORS as error:
        raise BadCheckpointError(f"{folder} has no tokenizer that loads: {first_line(error)}") from error


def carries_code(folder: Path) -> bool:
    """Return whether the configuration names a modelling file inside the folder."""
    return bool(read_json(folder / CONFIG).get("auto_map"))


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text that says something, ended by a full stop."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__).rstrip(".:") + "."
