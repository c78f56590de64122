"""Channels last only where the CPU's library survives it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from prunepolicy.agents.recovery.memory_format import memory_format_for


@pytest.mark.parametrize(
    ("channels", "kernel", "stride", "safe"),
    [(8, 1, 2, True), (4, 3, 2, True), (4, 1, 1, True), (4, 1, 2, False), (1, 1, (1, 2), False)],
)
def test_narrow_strided_pointwise_convolutions_keep_their_order(
    channels: int, kernel: int, stride: int | tuple[int, int], safe: bool
) -> None:
    network = nn.Sequential(nn.Conv2d(channels, 16, kernel, stride=stride), nn.ReLU())
    expected = torch.channels_last if safe else torch.contiguous_format
    assert memory_format_for(network) is expected


def test_groups_make_convolutions_narrow() -> None:
    assert memory_format_for(nn.Conv2d(16, 16, 1, stride=2, groups=4)) is torch.contiguous_format
