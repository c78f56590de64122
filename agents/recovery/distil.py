"""Let a student learn from a teacher's answers for so many steps: evaluated, saved, the same bytes again."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from prunepolicy.agents.recovery.fit import autocast
from prunepolicy.agents.recovery.recipe import RecoveryRecipe
from prunepolicy.agents.recovery.savepoint import Savepoint
from prunepolicy.agents.recovery.task import logits_of
from prunepolicy.agents.recovery.teacher_answers import TeacherAnswers
from prunepolicy.agents.training.optimiser_state import packed, unpack

WEIGHTS = "model/"


@dataclass(frozen=True)
class HeldOutLoss:
    """The mean KL divergence from the teacher on held-out text after so many steps, in nats per token."""

    step: int
    loss: float


@dataclass(frozen=True)
class Distillation:
    """What is learned, and how.

    Attributes:
        windows: texts, shape (windows, length); a batch holds the same ones in every pass.
        held_out: texts that are never learned from.
        steps: of the optimiser, in all.
        seed: of the order in which batches come.
        dtype: activations are computed in; weights stay as they are.
        tick: called with the number of steps done.
        evaluated: called with every held-out loss.
    """

    answers: TeacherAnswers
    windows: Tensor
    held_out: Tensor
    recipe: RecoveryRecipe
    steps: int
    seed: int
    dtype: torch.dtype
    tick: Callable[[int], None] = lambda done: None
    evaluated: Callable[[HeldOutLoss], None] = lambda found: None

    def loss(self, student: nn.Module, windows: Tensor) -> Tensor:
        """Return the mean KL divergence of the student's next-token distributions from the teacher's."""
        wanted = self.answers(windows)
        batch = {"input_ids": windows.to(wanted.tokens.device)}
        with autocast(batch, self.dtype):
            logits = logits_of(student(**batch, use_cache=False))
        return wanted.divergence(logits)

    @torch.no_grad()
    def held_out_loss(self, student: nn.Module) -> float:
        """Return the loss on the held-out texts."""
        student.eval()
        losses = [
            self.loss(student, some) * len(some) for some in self.held_out.split(self.recipe.batch_size)
        ]
        return float(torch.stack(losses).double().sum() / len(self.held_out))

    def batch(self, step: int) -> Tensor:
        """Return the windows of one step."""
        batches = self.windows.split(self.recipe.batch_size)
        epoch, place = divmod(step, len(batches))
        generator = torch.Generator().manual_seed((self.seed << 20) + epoch)
        chosen: Tensor = batches[int(torch.randperm(len(batches), generator=generator)[place])]
        return chosen


@dataclass(frozen=True)
class Learned:
    """How a training went.

    Attributes:
        history: held-out losses, from before the first step on.
        best: the one whose weights the student has now.
        broken_at: the step whose loss was no number, after which nothing was learned; 0 for none.
    """

    history: tuple[HeldOutLoss, ...]
    best: HeldOutLoss
    broken_at: int = 0


class Distiller:
    """The moving parts of one training; `savepoint` and `best` hold what a kill would lose."""

    def __init__(
        self, distillation: Distillation, student: nn.Module, savepoint: Savepoint, start: HeldOutLoss
    ) -> None:
        self.what, self.student, self.savepoint = distillation, student, savepoint
        self.best = Savepoint(savepoint.folder / "best", savepoint.key)
        self.weights = {name: w for name, w in student.named_parameters() if w.requires_grad}
        self.optimiser = optimiser_of(student, distillation.recipe)
        self.history = [start]

    def run(self) -> Learned:
        """Train the student in place, from the start or the savepoint on; it ends with its best weights."""
        broken_at = 0
        marks = self.what.recipe.marks(self.what.steps)
        self._restore()
        for step in range(self.history[-1].step, self.what.steps):
            if not math.isfinite(self._step(step)):
                broken_at = step + 1
                break
            self.what.tick(1)
            if step + 1 in marks:
                self._evaluate(step + 1)
                self.save()
        best = self._best()
        if broken_at or best.step != self.history[-1].step:
            self._load(self.best)
        self.student.eval()
        return Learned(tuple(self.history), best, broken_at)

    def save(self) -> None:
        """Save everything that going on needs."""
        what = self.what
        data = {
            "steps": what.steps,
            "windows": len(what.windows),
            "history": [asdict(found) for found in self.history],
        }
        self.savepoint.save(self.history[-1].step, data, {**self._named(), **packed(self.optimiser)})

    def _step(self, step: int) -> float:
        """Learn from one batch, unless its loss is no number, and return the loss."""
        recipe = self.what.recipe
        self.student.train()
        for group in self.optimiser.param_groups:
            group["lr"] = recipe.rate((step + 1) / self.what.steps)
        loss = self.what.loss(self.student, self.what.batch(step))
        self.optimiser.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.weights.values(), recipe.max_grad_norm)
        found = float(loss.detach() + 0 * norm)  # No number where a gradient is none.
        if math.isfinite(found):
            self.optimiser.step()
        return found

    def _evaluate(self, step: int) -> None:
        self.history.append(HeldOutLoss(step, self.what.held_out_loss(self.student)))
        if self._best().step == step:
            self.best.save(step, {}, self._named())
        self.what.evaluated(self.history[-1])

    def _best(self) -> HeldOutLoss:
        finite = [found for found in self.history if math.isfinite(found.loss)]
        return min(finite, key=lambda found: found.loss, default=self.history[0])

    def _named(self) -> dict[str, Tensor]:
        return {f"{WEIGHTS}{name}": weight for name, weight in self.weights.items()}

    def _restore(self) -> None:
        found = self._load(self.savepoint)
        if found is None:
            self.best.save(0, {}, self._named())
            self.save()
            return
        data, tensors = found
        try:
            unpack(self.optimiser, tensors)
            self.history = [HeldOutLoss(int(row["step"]), float(row["loss"])) for row in data["history"]]
        except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise self.savepoint.damaged(error) from error
        self.what.tick(self.history[-1].step)

    @torch.no_grad()
    def _load(self, savepoint: Savepoint) -> tuple[dict[str, Any], Mapping[str, Tensor]] | None:
        """Give the student the weights that were saved, and return all that was; None where nothing was."""
        found = savepoint.load()
        if found is None:
            return None
        try:
            for name, weight in self.weights.items():
                weight.copy_(found[1][f"{WEIGHTS}{name}"])
        except (LookupError, RuntimeError) as error:
            raise savepoint.damaged(error) from error
        return found


def optimiser_of(student: nn.Module, recipe: RecoveryRecipe) -> torch.optim.Optimizer:
    """Return the optimiser of what the student learns."""
    learning = [weight for weight in student.parameters() if weight.requires_grad]
    fused = learning[0].device.type in ("cpu", "cuda")
    return torch.optim.AdamW(learning, recipe.learning_rate, weight_decay=0.0, fused=fused)
