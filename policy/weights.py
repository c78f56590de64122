"""What a policy has learned, as a safetensors file whose hash is checked before it is parsed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from prunepolicy.pruning.errors import BadCheckpointError, PrunePolicyError
from prunepolicy.pruning.io.atomic import write_bytes
from prunepolicy.pruning.io.bounded import open_regular, why
from prunepolicy.pruning.io.safetensors_file import safetensors_bytes

WEIGHTS_FILE: Final = "weights.safetensors"
MOST_BYTES = 1 << 30
"""A policy is small; a larger file is not one."""


def checked_weights(
    data: bytes, sha256: str | None, like: Mapping[str, Tensor], where: str
) -> dict[str, Tensor]:
    """Return a policy's weights, which must have the names, types and shapes of `like`.

    Args:
        data: the content of a safetensors file.
        where: what it is called in sentences.

    Raises:
        PrunePolicyError: when they were changed, are of other shapes, or no numbers.
    """
    tensors = _tensors_in(data, sha256 or "", where)
    expected = {name: (tensor.dtype, tensor.shape) for name, tensor in like.items()}
    if {name: (tensor.dtype, tensor.shape) for name, tensor in tensors.items()} != expected:
        raise PrunePolicyError(f"{where} doesn't hold the tensors that its policy.json describes.")
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise PrunePolicyError(f"{where}: {name!r} holds NaN or infinity, so the policy is useless.")
    return tensors


def write_tensors(file: Path, tensors: Mapping[str, Tensor]) -> str:
    """Write tensors as safetensors, whole or not at all, and return the file's SHA-256."""
    data = safetensors_bytes(tensors)
    write_bytes(file, data)
    return hashlib.sha256(data).hexdigest()


def read_tensors(file: Path, sha256: str) -> dict[str, Tensor]:
    """Read a safetensors file once, check that it is the one whose hash was recorded, and return its tensors.

    Raises:
        PrunePolicyError: when it is missing, too large, a link, or has another hash.
    """
    return _tensors_in(read_regular(file), sha256, str(file))


def read_regular(file: Path, most: int = MOST_BYTES) -> bytes:
    """Return the content of a regular file, read once; links, pipes and devices are refused.

    Raises:
        PrunePolicyError: when there is none, or it has more than `most` bytes.
    """
    try:
        with open_regular(file, follow=False) as stream:
            data = stream.read(most + 1)
    except (OSError, ValueError) as error:
        raise PrunePolicyError(f"{file} is missing, or a link that leads elsewhere.") from error
    if len(data) > most:
        raise PrunePolicyError(f"{file} is larger than {most:,} bytes, so it belongs to no policy.")
    return data


def _tensors_in(data: bytes, sha256: str, where: str) -> dict[str, Tensor]:
    if hashlib.sha256(data).hexdigest() != sha256:
        raise PrunePolicyError(
            f"{where} is not what was saved: its SHA-256 differs from the recorded one. Fetch it again."
        )
    try:
        return load(data)
    except (SafetensorError, KeyError, ValueError) as error:
        raise BadCheckpointError(f"{where} is damaged: {why(error)}.") from error
