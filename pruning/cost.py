"""What a network costs, exactly, before and after a plan."""

from __future__ import annotations

import math
from dataclasses import dataclass

from prunepolicy.pruning.keep_masks import is_dropped, kept_shape, removed_units
from prunepolicy.pruning.units import Keep, UnitGraph


@dataclass(frozen=True)
class Cost:
    """Price of one network.

    Attributes:
        params: entries of all tensors that can be trained (tied tensors once).
        flops: floating-point operations of all weights for one token (one image for convolution
            networks); attention scores, which grow with the context, are not counted.
        weight_bytes: bytes of all tensors as stored.
        cache_entries: numbers the KV-cache holds per token.
    """

    params: int
    flops: float
    weight_bytes: int
    cache_entries: int

    def memory(self, context: int, bytes_per_entry: int = 2) -> int:
        """Return bytes of weights plus the KV-cache of one sequence of `context` tokens."""
        return self.weight_bytes + context * self.cache_entries * bytes_per_entry


def cost_of(graph: UnitGraph, keep: Keep | None = None) -> Cost:
    """Count what stays of `graph` under `keep` (everything, when None)."""
    removed = removed_units(graph, keep or {})
    params, flops, weight_bytes = 0, 0.0, 0
    for name, spec in graph.tensors.items():
        if is_dropped(graph, removed, name):
            continue
        entries = math.prod(kept_shape(graph, removed, name))
        params += entries if spec.is_parameter else 0
        weight_bytes += entries * spec.bytes_per_entry
        share = graph[spec.average_over].size if spec.average_over else 1
        if spec.average_over and spec.average_over in removed:
            share -= len(removed[spec.average_over])
        flops += entries * spec.flops / share
    gone_layers = set(removed["layers"].tolist()) if "layers" in removed else set()
    cache = sum(
        group.cache * (group.size - len(removed.get(group.name, ())))
        for group in graph.groups
        if group.layer not in gone_layers
    )
    return Cost(params, flops, weight_bytes, cache)
