"""Ways to cut a trained network to some operations, from its weights or from unlabelled images."""

from __future__ import annotations

import copy
import itertools
from bisect import bisect_left
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from prunepolicy.agents.recovery.stored import cut_by_plan, load_network, operations, save_network
from prunepolicy.agents.recovery.task import LearningTask
from prunepolicy.policy.kinds.heuristic import Heuristic, HeuristicConfig
from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.convnets.shapes import config_for
from prunepolicy.pruning.plan import Budget
from prunepolicy.pruning.statistics.gate_gradients import gate_gradients
from prunepolicy.pruning.statistics.stats import Stats, weight_stats

WATCHED, BATCH = 256, 32
"""Images on which gradients are measured."""
STEPS = 200
"""Shares that torch-pruning may remove; the smallest that is enough is taken."""


@dataclass(frozen=True)
class Method:
    """A criterion of ours, or torch-pruning's own pruner where there is none.

    Attributes:
        uniform: every layer loses the same share.
        drawn: something is drawn, so that seeds differ.
    """

    criterion: str
    allocator: str = "global_rank"
    uniform: bool = False
    drawn: bool = False


METHODS = {
    "random": Method("random", uniform=True, drawn=True),
    "magnitude": Method("magnitude", uniform=True),
    "group norm": Method("group_norm", "global_score"),
    "taylor": Method("taylor", drawn=True),
    "fisher": Method("fisher", drawn=True),
    "torch-pruning, magnitude": Method(""),
}


def pruned(method: Method, source: Path, task: LearningTask, target: Path, drawn: tuple[int, float]) -> None:
    """Write what a method leaves of the network in `source` into `target`.

    Args:
        drawn: seed, and by how many times operations are reduced.
    """
    seed, speedup = drawn
    if not method.criterion:
        return by_torch_pruning(source, task, target, speedup)
    checkpoint = Checkpoint.open(source)
    graph, config = checkpoint.graph, HeuristicConfig(criterion=method.criterion, allocator=method.allocator)
    policy = Heuristic(config, method.criterion)
    budget = Budget(1 / speedup, "flops", uniform=method.uniform, multiple_of=1)
    stats = Stats(seed=seed).merged(weight_stats(checkpoint, graph.groups))
    if "gradients" in policy.needs(graph, budget):
        inputs = {"pixel_values": watched(task, seed)}
        stats = stats.merged(gate_gradients(load_network(source), graph, graph.groups, inputs, seed=seed))
    plan = policy.plan(graph, stats, budget).with_fingerprint(checkpoint.fingerprint)
    cut_by_plan(checkpoint, plan, target)


def watched(task: LearningTask, seed: int) -> Tensor:
    """Return images to fit on, in an order of the seed."""
    batches = itertools.islice(task.batches(BATCH, seed, 0), WATCHED // BATCH)
    return torch.cat([batch["pixel_values"] for batch in batches])


def by_torch_pruning(source: Path, task: LearningTask, target: Path, speedup: float) -> None:
    """Remove equal shares of all layers by group magnitude, torch-pruning's default, until it is enough."""
    whole, most = load_network(source), operations(source) / speedup
    pixels = next(iter(task.inputs(1)))["pixel_values"]

    def is_enough(step: int) -> bool:
        save_network(smaller(whole, pixels, step / STEPS), target)
        return operations(target) <= most

    is_enough(bisect_left(range(STEPS), True, key=is_enough))


def smaller(whole: nn.Module, pixels: Tensor, share: float) -> nn.Module:
    """Return a network without a share of its channels."""
    import torch_pruning as tp

    model: Any = copy.deepcopy(whole)
    last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    importance = tp.importance.GroupMagnitudeImportance(p=2)
    tp.pruner.BasePruner(model, pixels, importance, pruning_ratio=share, ignored_layers=[last]).step()
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    model.config.widths = config_for(model.config.arch, shapes)["widths"]
    pruned: nn.Module = model
    return pruned
