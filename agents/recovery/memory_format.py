"""In which order a network's weights lie in memory while it learns."""

from __future__ import annotations

import torch
from torch import nn

LEAST = 8
"""Channels that a vector register of AVX2 holds."""


def memory_format_for(model: nn.Module) -> torch.memory_format:
    """Return channels last, with which convolutions learn a fifth faster on a CPU, where that is safe.

    On processors with AVX2 and without AVX-512, oneDNN (3.12, in torch 2.13) writes past its buffer in the
    backward pass of a strided 1x1 convolution with fewer than eight input channels, and the process may die.
    """
    unsafe = any(
        isinstance(layer, nn.Conv2d)
        and layer.kernel_size == (1, 1)
        and max(layer.stride) > 1
        and layer.in_channels // layer.groups < LEAST
        for layer in model.modules()
    )
    return torch.contiguous_format if unsafe else torch.channels_last
