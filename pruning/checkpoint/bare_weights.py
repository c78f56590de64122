"""Weights that come without a configuration: a file, and the name of its architecture, make a folder."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

from prunepolicy.pruning.checkpoint.checkpoint import CONFIG, WEIGHTS
from prunepolicy.pruning.convnets.shapes import config_for
from prunepolicy.pruning.errors import PrunePolicyError, UsageError
from prunepolicy.pruning.io.bounded import open_regular
from prunepolicy.pruning.io.cache import made_once
from prunepolicy.pruning.io.safetensors_file import read_header


def folder_with_weights(file: Path, arch: str, cache: Path | None = None) -> Path:
    """Return a folder that holds the weights of `file` and the configuration that their shapes imply.

    Args:
        arch: such as `resnet20`, `vgg19` or `efficientnet-lite0`.
        cache: where such folders are kept; by default the user's cache folder.

    Raises:
        UsageError: when the weights are not those of `arch`.
        PrunePolicyError: when the file is damaged, or the disk full.
    """
    shapes = {entry.name: entry.shape for entry in read_header(file)}
    try:
        config = config_for(arch, shapes)
    except (ValueError, IndexError) as error:
        raise UsageError(f"{file} with --arch {arch}: {error}") from error

    def make(folder: Path) -> None:
        shutil.copyfile(file, folder / WEIGHTS)
        (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")

    return made_once(f"{file.stem}-{_content_hash(file, arch)}", make, cache)


def _content_hash(file: Path, arch: str) -> str:
    try:
        with open_regular(file) as stream:
            digest = hashlib.file_digest(stream, lambda: hashlib.sha256(arch.encode()))
    except OSError as error:
        raise PrunePolicyError(f"Can't read {file}: {error.strerror or error}.") from error
    return digest.hexdigest()[:16]
