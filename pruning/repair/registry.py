"""The registry of repairs: what mends a network after a cut, without training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor, nn

from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.checkpoint.cut import Edits
from prunepolicy.pruning.plan import Plan
from prunepolicy.pruning.registry import Registry, file_name
from prunepolicy.pruning.statistics.probe import Inputs, Tick


@dataclass(frozen=True)
class RepairContext:
    """What a repair works on.

    Attributes:
        model: the dense model, running.
        inputs: calibration inputs.
        known: second moments of `inputs` by group, kept for further plans of the same network.
        dense: outputs of the dense model's layers on `inputs`, kept likewise.
        tick: called with 1 for every FFN block that is done.
    """

    checkpoint: Checkpoint
    model: nn.Module
    plan: Plan
    inputs: Inputs
    known: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    dense: dict[str, Tensor] = field(default_factory=dict)
    tick: Tick = lambda done: None


@dataclass(frozen=True)
class Repair:
    """From dense model, plan and calibration inputs to the tensors that differ from a plain cut.

    Attributes:
        kinds: of unit whose loss it makes up for.
    """

    mend: Callable[[RepairContext], Edits]
    kinds: tuple[str, ...]

    def __call__(self, context: RepairContext) -> Edits:
        """Return the tensors."""
        return self.mend(context)


repairs: Registry[Repair] = Registry("repair", "prunepolicy.pruning.repair")


def repair(*kinds: str) -> Callable[[Callable[[RepairContext], Edits]], Repair]:
    """Register the decorated function, which mends losses of these kinds, under the name of its file."""

    def register(function: Callable[[RepairContext], Edits]) -> Repair:
        made = Repair(function, kinds)
        repairs.add(file_name(function), made)
        return made

    return register
