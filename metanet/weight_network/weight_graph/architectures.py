"""The weight graph of a network that an adapter knows, from its configuration alone."""

from __future__ import annotations

import json
from functools import lru_cache

import torch
from torch import Tensor

from prunepolicy.metanet.weight_network.weight_graph.graph import WeightGraph
from prunepolicy.metanet.weight_network.weight_graph.tracing import trace
from prunepolicy.pruning.adapters import adapter_for
from prunepolicy.pruning.adapters.base import Config
from prunepolicy.pruning.adapters.convolution import DEFAULT_SIDE

REMEMBERED = 64
"""Architectures whose graphs are kept."""
TOKENS = 2


def weight_graph_of(config: Config) -> WeightGraph:
    """Return the weight graph of what a configuration describes; the same object for equal ones."""
    return _traced(json.dumps(config, sort_keys=True))


@lru_cache(maxsize=REMEMBERED)
def _traced(config: str) -> WeightGraph:
    described: Config = json.loads(config)
    adapter = adapter_for(described).for_config(described)
    # Experts run in bfloat16 only, where they have no values; to follow them, no precision is needed.
    model = adapter.build_on_meta(described).eval().to(torch.bfloat16)
    return trace(model, _inputs(described, adapter.task))


def _inputs(config: Config, task: str) -> dict[str, Tensor]:
    """Return one input without values."""
    if task == "vision":
        side = int(config.get("image_size", DEFAULT_SIDE))
        shape = (1, int(config.get("num_channels", 3)), side, side)
        return {"pixel_values": torch.zeros(shape, dtype=torch.bfloat16, device="meta")}
    return {"input_ids": torch.zeros(1, TOKENS, dtype=torch.long, device="meta")}
