"""Open a model folder to run it: the model on its device, and its tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from prunepolicy.pruning.adapters import ModelAdapter
from prunepolicy.pruning.checkpoint.checkpoint import CONFIG, read_json
from prunepolicy.pruning.checkpoint.per_layer import SIZES
from prunepolicy.pruning.errors import BadCheckpointError, NotEnoughSpaceError, PrunePolicyError

TOKENIZERS = (
    "tokenizer.json",
    "tokenizer.model",
    "sentencepiece.bpe.model",
    "sentencepiece.model",
    "spiece.model",
    "spm.model",
    "vocab.json",
    "vocab.txt",
)
"""Files of which every tokenizer has one."""

CLASSIFIER = "AutoModelForSequenceClassification"
NO_TOKEN = -1
"""Padding of classifiers that have none: no text holds it, and without any they refuse several rows."""


def load_model(
    folder: Path,
    adapter: ModelAdapter,
    dtype: torch.dtype,
    device: torch.device,
    trust_remote_code: bool = False,
) -> nn.Module:
    """Load the model in `folder` onto `device`, in evaluation mode.

    Args:
        trust_remote_code: run the folder's own modelling file, where nothing else loads the model.

    Raises:
        BadCheckpointError: when it doesn't load, or when weights are missing.
        NotEnoughSpaceError: when it doesn't fit the device.
        PrunePolicyError: when the folder carries code that nobody has agreed to run.
    """
    from prunepolicy.pruning.io.transformers_loading import load_folder

    own_code = carries_code(folder)
    if own_code and not trust_remote_code:
        raise PrunePolicyError(
            f"{folder} carries its own modelling code. Read it, then add --trust-remote-code to run it."
        )
    model = load_folder(folder, adapter.auto_class, dtype, True) if own_code else adapter.load(folder, dtype)
    let_read_rows(model, adapter)
    try:
        return model.to(device)
    except torch.OutOfMemoryError as error:
        raise NotEnoughSpaceError(f"{folder} doesn't fit the memory of {device}.") from error


def let_read_rows(model: nn.Module, adapter: ModelAdapter) -> None:
    """Let a classifier without a padding token read several rows at once."""
    config: Any = model.config
    if adapter.auto_class == CLASSIFIER and config.pad_token_id is None:
        config.pad_token_id = NO_TOKEN


def load_tokenizer(folder: Path, trust_remote_code: bool = False) -> Any:
    """Load the tokenizer in `folder`.

    Args:
        trust_remote_code: run the file of the folder that the tokenizer's configuration names.

    Raises:
        BadCheckpointError: when the folder holds none that loads.
    """
    import transformers

    from prunepolicy.pruning.io.transformers_loading import first_line

    if not has_tokenizer(folder):
        raise BadCheckpointError(f"{folder} has no tokenizer; copy the model's tokenizer.json there.")
    try:
        return transformers.AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=trust_remote_code
        )
    except Exception as error:  # tokenizers trusts the folder, so a damaged one can raise anything.
        raise BadCheckpointError(f"{folder} has no tokenizer that loads: {first_line(error)}") from error


def has_tokenizer(folder: Path) -> bool:
    """Return whether there is a tokenizer in the folder."""
    return any((folder / name).is_file() for name in TOKENIZERS)


def carries_code(folder: Path) -> bool:
    """Return whether only code inside the folder loads the model.

    Configurations of families that transformers has since learned still name such code; it isn't needed.
    """
    import transformers

    config = read_json(folder / CONFIG)
    native = config.get("model_type") in transformers.CONFIG_MAPPING and SIZES not in config
    return bool(config.get("auto_map")) and not native
