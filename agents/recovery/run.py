"""One recovery from its budget to its facts: texts, schedule, training."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from prunepolicy.agents.recovery.budget import RecoveryBudget
from prunepolicy.agents.recovery.distil import Distillation, Distiller, HeldOutLoss
from prunepolicy.agents.recovery.facts import RecoveryFacts
from prunepolicy.agents.recovery.learning_texts import LearningTexts
from prunepolicy.agents.recovery.lora import with_adapters
from prunepolicy.agents.recovery.recipe import RecoveryRecipe
from prunepolicy.agents.recovery.savepoint import Savepoint
from prunepolicy.agents.recovery.schedule import Planner, RecoverySchedule
from prunepolicy.agents.recovery.teacher_answers import TeacherAnswers
from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.session.model_session import ModelSession


@dataclass(frozen=True)
class RecoveryRun:
    """A student's training on what a teacher answers.

    Attributes:
        savepoint: where it goes on after a kill, with the schedule that it had.
        gradient_checkpointing: compute activations again in the backward pass, which takes less memory.
        clock: seconds that count for budgets of time.
    """

    teacher: ModelSession
    texts: LearningTexts
    budget: RecoveryBudget
    recipe: RecoveryRecipe
    savepoint: Savepoint
    gradient_checkpointing: bool = field(default=False, kw_only=True)
    clock: Callable[[], float] = field(default=time.monotonic, kw_only=True)

    def train(self, student: nn.Module) -> RecoveryFacts:
        """Train `student` in place, and return what that came to.

        Raises:
            UsageError: when the budget is less than one step, or student and teacher know other tokens.
            NotEnoughSpaceError: when the disk is full; what was saved before is kept.
        """
        self._check_vocabulary(student)
        if self.gradient_checkpointing:
            _checkpoint_activations(student)
        if not self.recipe.lora_rank:
            return self._trained(student)
        adapted = with_adapters(student, self.recipe.lora_rank, self.texts.probe.seed)
        facts = self._trained(adapted)
        adapted.merge_and_unload()
        return facts

    def _trained(self, student: nn.Module) -> RecoveryFacts:
        """Train what may learn of `student`."""
        began, progress = self.clock(), self.teacher.progress
        what, start = self._planned(student, began)
        with progress.step("recover: knowledge distillation", what.steps) as tick:

            def evaluated(found: HeldOutLoss) -> None:
                left = tick.event().left
                progress.note(
                    f"  step {found.step:,} of {what.steps:,}: held-out loss {found.loss:.4f} nats per "
                    f"token, {start.loss:.4f} before" + (f"; about {left:.0f} s left" if left else "")
                )

            learning = replace(what, tick=tick, evaluated=evaluated)
            found = Distiller(learning, student, self.savepoint, start).run()
        what.answers.finish()
        steps = found.broken_at - 1 if found.broken_at else what.steps
        return RecoveryFacts(
            budget=str(self.budget),
            steps=steps,
            tokens=steps * self.recipe.batch_size * self.texts.length,
            seconds=self.clock() - began,
            before=found.history[0].loss,
            after=found.best.loss,
            kept=found.best.step,
            broken_at=found.broken_at,
            lora_rank=self.recipe.lora_rank,
        )

    def _check_vocabulary(self, student: Any) -> None:
        teacher: Any = self.teacher.model
        rows, known = (len(model.get_input_embeddings().weight) for model in (student, teacher))
        if rows != known:
            raise UsageError(
                f"{self.teacher.name} can't be the teacher: its vocabulary has {known:,} tokens, that of "
                f"the student {rows:,}."
            )

    def _planned(self, student: nn.Module, began: float) -> tuple[Distillation, HeldOutLoss]:
        """Return what is learned, as a run that was killed had planned it, and the loss before that."""
        with self.teacher.progress.step("recover: texts") as tick:
            answers = TeacherAnswers(self.teacher, self.recipe.top_k)
            held_out, seed = self.texts.held_out(tick), self.texts.probe.seed
            trial = Distillation(answers, held_out, held_out, self.recipe, 1, seed, self.teacher.dtype)
            earlier = self._earlier()
            if earlier is not None:
                schedule, start = earlier
            else:
                start = HeldOutLoss(0, trial.held_out_loss(student))
                planner = Planner(self.texts, self.recipe, self.clock, began)
                schedule = (
                    planner.of_time(self.budget, trial, student, tick)
                    if self.budget.unit == "seconds"
                    else planner.of_count(self.budget)
                )
            windows = self.texts.first(schedule.windows, tick)
        return replace(trial, windows=windows, steps=schedule.steps), start

    def _earlier(self) -> tuple[RecoverySchedule, HeldOutLoss] | None:
        """Return the schedule of a run that was killed, and its loss before the first step."""
        data = self.savepoint.data()
        if data is None:
            return None
        try:
            first: Any = data["history"][0]
            schedule = RecoverySchedule(int(data["steps"]), int(data["windows"]))
            return schedule, HeldOutLoss(int(first["step"]), float(first["loss"]))
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise self.savepoint.damaged(error) from error


def _checkpoint_activations(student: Any) -> None:
    """Let a model compute activations again in the backward pass, if its family can."""
    if student.supports_gradient_checkpointing:
        renamed = getattr(student, "activation_checkpointing_enable", None)  # Before transformers 6, both.
        (renamed or student.gradient_checkpointing_enable)({"use_reentrant": False})
