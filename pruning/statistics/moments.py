"""Second moments of what units write, and what they say about the error of removing units."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack

import torch
from torch import Tensor, nn

from prunepolicy.pruning.statistics.gates import find_module
from prunepolicy.pruning.statistics.probe import Inputs, read_inputs
from prunepolicy.pruning.units import UnitGroup


def second_moments(model: nn.Module, groups: Iterable[UnitGroup], inputs: Inputs) -> dict[str, Tensor]:
    """Return, per group with an input gate, the mean of x x^T over all tokens, shape (units, units)."""
    chosen = [group for group in groups if group.gate is not None and group.gate.how == "input"]
    sums = {group.name: torch.zeros(group.size, group.size) for group in chosen}
    with ExitStack() as stack:
        for group in chosen:
            assert group.gate is not None

            def hook(module: object, seen: tuple[Tensor, ...], total: Tensor = sums[group.name]) -> None:
                flat = seen[0].detach().reshape(-1, seen[0].shape[-1]).float()
                total += (flat.T @ flat).cpu()

            handle = find_module(model, group.gate.module).register_forward_pre_hook(hook)
            stack.callback(handle.remove)
        read_inputs(model, inputs)
    rows = next(iter(inputs.values())).numel()
    return {name: total / rows for name, total in sums.items()}


def output_interactions(columns: Tensor, moments: Tensor) -> Tensor:
    """Return Q with which removing the units r (0 or 1 each) changes the output by the share r^T Q r.

    With W the weight (outputs, units) that reads the units and C their second moments, the output's
    mean squared error is tr((W - W_K) C (W - W_K)^T), which is the sum of C * (W^T W) over the
    removed units' rows and columns. Divided by the output's own mean square, all entries sum to 1.
    """
    energy = moments * (columns.T @ columns)
    return energy / energy.sum().clamp(min=torch.finfo(energy.dtype).tiny)
