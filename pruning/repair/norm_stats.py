"""Measure batch-norm statistics again: a cut changes what every norm behind it sees.

Source: Li et al., "EagleEye: Fast Sub-net Evaluation for Efficient Neural Network Pruning", adaptive
batch normalisation.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from prunepolicy.pruning.checkpoint.cut import Edits
from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.io.safetensors_file import DTYPES
from prunepolicy.pruning.keep_masks import kept_indices, removed_units
from prunepolicy.pruning.repair.registry import RepairContext, repair
from prunepolicy.pruning.statistics.gates import masked
from prunepolicy.pruning.statistics.probe import Inputs

BATCH = 128


@repair("channel")
def norm_stats(context: RepairContext) -> Edits:
    """Return the statistics that the pruned network's norms see on the context's inputs.

    Raises:
        UsageError: when the network has no batch norms, or the inputs are too few for statistics.
    """
    checkpoint, plan = context.checkpoint, context.plan
    with masked(context.model, checkpoint.graph, plan):
        measured = recalibrate(context.model, equal_batches(context.inputs))
    if not measured:
        raise UsageError(
            f"{checkpoint.graph.family} networks have no batch norms that this repair could mend."
        )
    removed = removed_units(checkpoint.graph, plan.keep)
    tensors = {}
    for name, buffer in measured.items():
        kept = kept_indices(checkpoint.graph, removed, name)
        tensors[name] = (buffer[kept[0]] if kept else buffer).to(DTYPES[checkpoint.tensors[name].dtype])
    return Edits(tensors)


def recalibrate(model: nn.Module, batches: Iterable[Inputs]) -> dict[str, Tensor]:
    """Return the running statistics of all batch norms as plain averages over `batches`.

    The model itself stays as it is; gates that are open on it act.
    """
    watched = copy.deepcopy(model).eval()
    norms = {name: module for name, module in watched.named_modules() if _has_statistics(module)}
    if not norms:
        return {}
    for norm in norms.values():
        norm.reset_running_stats()
        norm.momentum = None  # every batch counts the same
        norm.train()
    with torch.no_grad():
        for batch in batches:
            watched(**batch)
    return {
        f"{name}.{buffer}": value.cpu()
        for name, norm in norms.items()
        for buffer, value in norm.named_buffers()
    }


def equal_batches(inputs: Inputs) -> list[dict[str, Tensor]]:
    """Split `inputs` into batches of nearly equal size, since each has the same say.

    Raises:
        UsageError: when there are fewer than two samples, which have no variance.
    """
    count = len(next(iter(inputs.values())))
    if count < 2:
        raise UsageError(
            "Batch-norm statistics need at least two calibration images; give the probe more samples."
        )
    parts = -(-count // BATCH)
    return [
        {name: tensor.tensor_split(parts)[part] for name, tensor in inputs.items()} for part in range(parts)
    ]


def _has_statistics(module: nn.Module) -> bool:
    return isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and module.running_mean is not None
