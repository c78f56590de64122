"""The control of recovery: one epoch on texts that the dense model writes, against its whole distribution."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from prunepolicy.agents.recovery.distillation import Teacher
from prunepolicy.agents.recovery.fit import Fit, FitRecipe
from prunepolicy.agents.recovery.next_token import NextToken
from prunepolicy.agents.recovery.task import Batch
from prunepolicy.pruning.session.model_session import ModelSession
from prunepolicy.pruning.statistics.probe import Probe

LENGTH, VALIDATION, PIECE = 128, 4, 32
RECIPE = FitRecipe(
    epochs=1,
    learning_rate=3e-4,
    warm_up=0.1,
    weight_decay=0.0,
    batch_size=8,
    optimiser="adamw",
    max_grad_norm=1.0,
)


@dataclass(frozen=True)
class Windows(NextToken):
    """Learns every window once per epoch; shape (windows, length)."""

    windows: Tensor

    def steps(self, size: int) -> int:
        """Return the number of batches, the last of which may be smaller."""
        return -(-len(self.windows) // size)

    def batches(self, size: int, seed: int, epoch: int) -> Iterator[Batch]:
        """Yield all windows in an order of their own in every epoch."""
        generator = torch.Generator().manual_seed((seed << 20) + epoch)
        for chosen in torch.randperm(len(self.windows), generator=generator).split(size):
            yield self.placed(self.windows[chosen])

    def inputs(self, size: int) -> Iterator[dict[str, Tensor]]:
        """Yield the windows in their own order."""
        for some in self.windows.split(size):
            yield dict(self.placed(some))


def flat_pass(student: nn.Module, teacher: ModelSession, cpu_seconds: float, seed: int) -> int:
    """Train `student` for about so long, writing included, and return the number of tokens it read."""
    began = time.process_time()
    first = _written(teacher, PIECE, seed)
    per_window = (time.process_time() - began) / PIECE + _training_seconds(student, teacher, first)
    left = cpu_seconds - (time.process_time() - began)
    number = max(PIECE, int(left / per_window))
    windows = torch.cat([first[: number - PIECE], _written(teacher, number, seed + 1)])[:number]
    held_out = windows[:VALIDATION]
    task = Windows({"validation": held_out, "test": held_out}, teacher.device, windows)
    Fit(task, RECIPE, seed, Teacher(teacher.model, 1.0, 1.0), dtype=teacher.dtype).train(student)
    return int(windows.numel())


def _written(teacher: ModelSession, number: int, seed: int) -> Tensor:
    probe = Probe("varied", samples=number, length=LENGTH, seed=1_000 + seed)
    return teacher.probe(probe)["input_ids"].cpu()


def _training_seconds(student: nn.Module, teacher: ModelSession, windows: Tensor) -> float:
    """Return the CPU seconds that learning from one window takes."""
    task = Windows({"validation": windows, "test": windows}, teacher.device, windows)
    fit = Fit(task, RECIPE, 0, Teacher(teacher.model, 1.0, 1.0), dtype=teacher.dtype)
    for _ in range(2):  # The first sets up what the second finds.
        began = time.process_time()
        fit.loss(student, task.placed(windows[: RECIPE.batch_size])).backward()
        student.zero_grad()
        took = time.process_time() - began
    return took / RECIPE.batch_size
