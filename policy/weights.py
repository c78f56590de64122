"""What a policy has learned, as a safetensors file whose hash is checked before it is parsed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from prunepolicy.pruning.atomic import write_bytes
from prunepolicy.pruning.errors import PrunePolicyError
from prunepolicy.pruning.safetensors_file import NAMES, TensorHeader, header_bytes, read_header, tensor_bytes

WEIGHTS_FILE: Final = "weights.safetensors"
MOST_BYTES = 1 << 30
"""A policy is small; a larger file is not one."""


def read_weights(folder: Path, sha256: str | None, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Read a policy's weights, which must have the names, types and shapes of `like`.

    Raises:
        PrunePolicyError: when they are missing, changed, of other shapes, or no numbers.
    """
    file = folder / WEIGHTS_FILE
    tensors = read_tensors(file, sha256 or "")
    expected = {name: (tensor.dtype, tensor.shape) for name, tensor in like.items()}
    if {name: (tensor.dtype, tensor.shape) for name, tensor in tensors.items()} != expected:
        raise PrunePolicyError(f"{file} doesn't hold the tensors that its policy.json describes.")
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise PrunePolicyError(f"{file}: {name!r} holds NaN or infinity, so the policy is useless.")
    return tensors


def write_tensors(file: Path, tensors: Mapping[str, Tensor]) -> str:
    """Write tensors as safetensors, whole or not at all, and return the file's SHA-256."""
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(tensors.items())}
    headers = [TensorHeader(name, NAMES[t.dtype], tuple(t.shape)) for name, t in stored.items()]
    data = b"".join([header_bytes(headers), *(bytes(tensor_bytes(tensor)) for tensor in stored.values())])
    write_bytes(file, data)
    return hashlib.sha256(data).hexdigest()


def read_tensors(file: Path, sha256: str) -> dict[str, Tensor]:
    """Read a safetensors file after checking that it is the one whose hash was recorded.

    Raises:
        PrunePolicyError: when it is missing, too large, a link, or has another hash.
    """
    if file.is_symlink() or not file.is_file():
        raise PrunePolicyError(f"{file} is missing, or a link that leads elsewhere.")
    if file.stat().st_size > MOST_BYTES:
        raise PrunePolicyError(f"{file} is larger than any policy.")
    if hashlib.sha256(file.read_bytes()).hexdigest() != sha256:
        raise PrunePolicyError(
            f"{file} is not what was saved: its SHA-256 differs from the recorded one. Fetch it again."
        )
    return {entry.name: entry.read() for entry in read_header(file)}
