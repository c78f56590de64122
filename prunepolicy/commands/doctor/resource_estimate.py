"""What the steps of a run take: disk for the result, memory to cut and to prove."""

from __future__ import annotations

from dataclasses import dataclass

from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.io.machine import GIB, available_memory
from prunepolicy.pruning.proof.proof import LIBRARIES

CUT_COPIES = 3
"""Copies of the largest tensor that cutting holds: read, cut, written."""


@dataclass(frozen=True)
class ResourceEstimate:
    """Bytes that the steps of a run take.

    Attributes:
        disk: of the result, at most.
        cut: memory for cutting, which streams.
        proof: memory for loading the result in float32, at most.
        available: memory that is free now.
    """

    disk: int
    cut: int
    proof: int
    available: int | None

    @property
    def sentence(self) -> str:
        """The needs in words."""
        free = f"; {self.available / GIB:.1f} GiB are free" if self.available is not None else ""
        return (
            f"Needs at most {self.disk / GIB:.2f} GiB of disk, {self.cut / GIB:.2f} GiB of memory to cut "
            f"and {self.proof / GIB:.2f} GiB to prove that the result loads{free}."
        )


def estimate_resources(checkpoint: Checkpoint, params: int, nbytes: int) -> ResourceEstimate:
    """Predict what cutting `checkpoint` takes, down to so many parameters in so many bytes."""
    largest = max((entry.nbytes for entry in checkpoint.tensors.values()), default=0)
    return ResourceEstimate(
        disk=nbytes,
        cut=CUT_COPIES * largest + LIBRARIES,
        proof=int(4.2 * params) + LIBRARIES,
        available=available_memory(),
    )
