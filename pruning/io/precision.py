"""Which number type and which device to compute with."""

from __future__ import annotations

import torch

from prunepolicy.pruning.errors import UsageError, did_you_mean
from prunepolicy.pruning.io.machine import cpu_flags

DTYPE_NAMES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
DEVICE_NAMES = ("auto", "cpu", "cuda", "mps", "xpu")
FAST_BFLOAT16 = frozenset({"avx512_bf16", "amx_bf16"})


def default_device() -> torch.device:
    """Return the GPU where there is one, the CPU otherwise."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def compute_dtype(device: torch.device) -> torch.dtype:
    """Return bfloat16 where `device` multiplies it natively, float32 elsewhere.

    Use one type for everything that is compared: rounding to bfloat16 changes a perplexity by
    more than a careful cut does.
    """
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    return torch.bfloat16 if cpu_flags() & FAST_BFLOAT16 else torch.float32


def parse_dtype(name: str, device: torch.device) -> torch.dtype:
    """Return the type called `name`; `auto` means `compute_dtype`.

    Raises:
        UsageError: for a name that is none of ours.
    """
    if name == "auto":
        return compute_dtype(device)
    if name not in DTYPE_NAMES:
        raise UsageError(f"Unknown dtype {name!r}.{did_you_mean(name, ['auto', *DTYPE_NAMES])}")
    return DTYPE_NAMES[name]


def parse_device(name: str) -> torch.device:
    """Return the device called `name`; `auto` means `default_device`.

    Raises:
        UsageError: when torch knows no such device or doesn't find it here.
    """
    if name == "auto":
        return default_device()
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"Unknown device {name!r}.{did_you_mean(name, DEVICE_NAMES)}") from error
    try:
        torch.empty(0, device=device)
    except (RuntimeError, NotImplementedError, AssertionError) as error:  # Without CUDA, torch asserts.
        reason = str(error).splitlines()[0].rstrip(".")
        raise UsageError(f"There is no device {name!r} here: {reason}.") from error
    return device
