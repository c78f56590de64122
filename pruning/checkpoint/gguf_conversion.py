"""Convert a GGUF file, once, into a model folder that plain transformers opens."""

from __future__ import annotations

import errno
import hashlib
import importlib.util
import json
from pathlib import Path
from typing import Any

from prunepolicy.pruning.checkpoint.checkpoint import CONFIG, read_json
from prunepolicy.pruning.checkpoint.model_files import CARD
from prunepolicy.pruning.checkpoint.older_keys import add_older_keys
from prunepolicy.pruning.errors import BadCheckpointError, MissingExtraError, PrunePolicyError
from prunepolicy.pruning.io.bounded import open_regular
from prunepolicy.pruning.io.cache import made_once

READER = ("gguf", "accelerate")
"""What transformers needs to read a GGUF file, and doesn't install."""
LEFTOVERS = {
    CONFIG: ("quantization_config", "_name_or_path", "_model_name_or_path"),
    "tokenizer_config.json": ("is_local", "local_files_only", "gguf_file"),
}
"""Keys that speak of the GGUF file or of how it was read, per file of the converted folder."""

FORM = b"3"
"""Goes into the folder's name; raised when conversion writes something else, so that it is done anew."""


def convert_gguf(file: Path, cache: Path | None = None) -> Path:
    """Return the folder that holds the model of a GGUF file in bfloat16, converting it the first time.

    Args:
        cache: where converted models are kept; by default the user's cache folder.

    Raises:
        PrunePolicyError: when the file is damaged, its architecture unknown, or the disk full.
    """
    return made_once(f"{file.stem}-{_content_hash(file)}", lambda folder: _convert(file, folder), cache)


def _content_hash(file: Path) -> str:
    try:
        with open_regular(file) as stream:
            return hashlib.file_digest(stream, lambda: hashlib.sha256(FORM)).hexdigest()[:16]
    except OSError as error:
        raise PrunePolicyError(f"Can't read {file}: {error.strerror or error}.") from error


def _convert(file: Path, folder: Path) -> None:
    import torch
    from safetensors import SafetensorError

    from prunepolicy.pruning.io.transformers_loading import without_bars

    with without_bars():
        model, tokenizer = _load(file)
        _forget_quantisation(model)
        try:
            model.to(torch.bfloat16).save_pretrained(folder)
        except SafetensorError as error:  # What the system said, in words alone.
            raise OSError(errno.EIO, str(error)) from error
        tokenizer.save_pretrained(folder)
    for name, keys in LEFTOVERS.items():
        content = read_json(folder / name)
        kept = {key: value for key, value in content.items() if key not in keys}
        (folder / name).write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
    add_older_keys(folder)
    if licence := _licence_of(file):
        head = f"---\nlicense: {json.dumps(licence)}\n---\n"
        card = f"{head}\nConverted from {file.name}, which names this licence.\n"
        (folder / CARD).write_text(card, encoding="utf-8")


def _licence_of(file: Path) -> str | None:
    """Return the licence that the file names."""
    import gguf

    named = gguf.GGUFReader(file).get_field("general.license")
    return str(named.contents()) if named is not None else None


def _load(file: Path) -> tuple[Any, Any]:
    """Read model and tokenizer; float32 is the only type the file's blocks unpack to without rounding."""
    if any(importlib.util.find_spec(package) is None for package in READER):
        raise MissingExtraError("Reading GGUF files needs", "demo")
    import torch
    import transformers

    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            file.parent, gguf_file=file.name, trust_remote_code=False
        )
        model = transformers.AutoModelForCausalLM.from_pretrained(
            file.parent, gguf_file=file.name, dtype=torch.float32, trust_remote_code=False
        )
    # The reader trusts the file, so a damaged one can raise anything.
    except Exception as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")
        raise BadCheckpointError(f"{file.name} can't be converted: {reason}.") from error
    return model, tokenizer


def _forget_quantisation(model: Any) -> None:
    """Unmark a model whose weights were unpacked: transformers refuses to save one marked as packed."""
    for name in ("hf_quantizer", "quantization_method", "is_quantized"):
        if name in vars(model):
            delattr(model, name)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
