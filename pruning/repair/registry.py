"""The registry of repairs: what mends a network after a cut, without training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor, nn

from prunepolicy.pruning.checkpoint import Checkpoint
from prunepolicy.pruning.cut import Edits
from prunepolicy.pruning.plan import Plan
from prunepolicy.pruning.probe import Inputs
from prunepolicy.pruning.registry import Registry


@dataclass(frozen=True)
class Patient:
    """What a repair works on.

    Attributes:
        model: the dense model, running.
        inputs: the probe on which it may be watched.
        known: second moments of `inputs` by group, for the next plan for the same network; whoever repairs
            again and again keeps it, and has the memory for it.
    """

    checkpoint: Checkpoint
    model: nn.Module
    plan: Plan
    inputs: Inputs
    known: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)


Repair = Callable[[Patient], Edits]
"""From dense model, plan and probe to the tensors that differ from a plain cut."""

repairs: Registry[Repair] = Registry("repair", "prunepolicy.pruning.repair")


def repair(function: Repair) -> Repair:
    """Register the decorated function under the name of its file."""
    repairs.add(function.__module__.rsplit(".", 1)[-1], function)
    return function
