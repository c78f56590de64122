"""Chance: the baseline that every other criterion has to beat at the same ratio."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from prunepolicy.pruning.criteria.registry import criterion
from prunepolicy.pruning.statistics.stats import Stats
from prunepolicy.pruning.units import UnitGraph, UnitGroup


@criterion()
def random(graph: UnitGraph, group: UnitGroup, stats: Stats) -> Tensor:
    """Return uniform draws that depend on the seed in `stats.seed` and the group's name alone."""
    digest = hashlib.sha256(f"{stats.seed}/{group.name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
    return torch.rand(group.size, generator=generator)
