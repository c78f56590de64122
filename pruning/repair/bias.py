"""Give back the mean of what was cut, as a bias of the projection that read it.

The family's own bias switch carries it (`mlp_bias` in LLaMA), so that the result loads wherever
the family does.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from prunepolicy.pruning.checkpoint.cut import Edits
from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.keep_masks import removed_units
from prunepolicy.pruning.repair.registry import RepairContext, repair
from prunepolicy.pruning.statistics.activations import activation_stats
from prunepolicy.pruning.units import UnitGroup, consumer_of


@repair("ffn")
def bias(context: RepairContext) -> Edits:
    """Return biases that hold the mean contribution of every removed FFN channel.

    Raises:
        UsageError: when the family's feed-forward block can't carry a bias.
    """
    checkpoint, plan = context.checkpoint, context.plan
    graph, key = checkpoint.graph, checkpoint.adapter.bias_key
    gone = plan.dropped_layers(graph)
    groups = [g for g in graph.of_kind("ffn") if g.layer not in gone]
    if not groups or (key is None and _bias_name(groups[0]) not in checkpoint.tensors):
        raise UsageError(f"{graph.family} networks can't carry the bias that this repair needs.")
    removed = removed_units(graph, plan.keep)
    means = activation_stats(context.model, graph, groups, context.inputs).values["mean"]
    tensors: dict[str, Tensor] = {}
    for group in groups:
        name = _bias_name(group)
        weight = checkpoint.read(consumer_of(group).tensor)
        columns = weight.float().movedim(consumer_of(group).axis, 1)
        cut = torch.from_numpy(removed.get(group.name, np.empty(0, dtype=np.int64)))
        lost = columns[:, cut] @ means[group.name][cut]
        before = checkpoint.read(name).float() if name in checkpoint.tensors else 0.0
        tensors[name] = (lost + before).to(weight.dtype)
        for row in _row_biases(group):
            if row not in checkpoint.tensors:
                tensors[row] = torch.zeros(len(plan.kept(group)), dtype=weight.dtype)
    return Edits(tensors, {key: True} if key else {})


def _bias_name(group: UnitGroup) -> str:
    return consumer_of(group).tensor.removesuffix("weight") + "bias"


def _row_biases(group: UnitGroup) -> list[str]:
    weights = [p.tensor for p in group.slices if not p.consumer and p.tensor.endswith("weight")]
    return [name.removesuffix("weight") + "bias" for name in dict.fromkeys(weights)]
