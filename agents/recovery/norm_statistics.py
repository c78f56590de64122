"""Batch norms forget what a changed network no longer sees: measure their statistics again, in place."""

from __future__ import annotations

import itertools

from torch import nn

from prunepolicy.agents.recovery.task import LearningTask
from prunepolicy.pruning.repair.norm_stats import recalibrate

SAMPLES = 256
BATCHES = 8


def remeasure_norms(model: nn.Module, task: LearningTask, batches: int = BATCHES) -> nn.Module:
    """Give the batch norms of `model` the statistics of training samples, and return the model."""
    measured = recalibrate(model, itertools.islice(task.inputs(SAMPLES), batches))
    device = next(model.parameters()).device
    model.load_state_dict({**model.state_dict(), **{n: v.to(device) for n, v in measured.items()}})
    return model
