"""How many steps a budget comes to, and how many texts they take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from prunepolicy.agents.recovery.budget import RecoveryBudget
from prunepolicy.agents.recovery.distil import Distillation, optimiser_of
from prunepolicy.agents.recovery.learning_texts import BLOCK, LearningTexts
from prunepolicy.agents.recovery.recipe import RecoveryRecipe
from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.statistics.probe import Tick

SPARE = 0.05
"""Share of a time that isn't planned for: saving, and steps that take longer than the one measured."""
TRIALS = 2


@dataclass(frozen=True)
class RecoverySchedule:
    """What a budget comes to. Equal schedules of equal texts lead to equal weights.

    Attributes:
        steps: of the optimiser.
        windows: texts that are learned from.
    """

    steps: int
    windows: int


@dataclass(frozen=True)
class Planner:
    """Turns budgets into schedules.

    Attributes:
        clock: seconds that count.
        began: when the time of a budget begins.
    """

    texts: LearningTexts
    recipe: RecoveryRecipe
    clock: Callable[[], float]
    began: float

    def of_count(self, budget: RecoveryBudget) -> RecoverySchedule:
        """Return the schedule of a budget that counts steps, tokens or epochs.

        Raises:
            UsageError: when it is less than one step.
        """
        size, length = self.recipe.batch_size, self.texts.length
        if budget.unit == "epochs":
            own = -(-self.recipe.epoch_tokens // length) if self.texts.written else 0
            windows = own + len(self.texts.packed)
            return RecoverySchedule(int(budget.amount) * -(-windows // size), windows)
        steps = int(budget.amount) if budget.unit == "steps" else int(budget.amount) // (size * length)
        if steps < 1:
            raise UsageError(f"{budget} is too little to learn from: a step takes {size * length:,} tokens.")
        return RecoverySchedule(steps, self.windows_for(steps))

    def of_time(
        self, budget: RecoveryBudget, trial: Distillation, student: nn.Module, tick: Tick
    ) -> RecoverySchedule:
        """Write as many texts as a time allows for, and return what it comes to.

        Args:
            trial: a distillation whose steps are measured.
            tick: hears of the tokens that are written.

        Raises:
            UsageError: when the time is too short for one step.
        """
        per_step, per_evaluation = self._seconds(trial, student)
        end = self.began + budget.amount * (1 - SPARE) - self.recipe.evaluations * per_evaluation
        windows = len(self.texts.first(self.recipe.batch_size, tick))
        while True:
            affordable = int((end - self.clock()) / per_step)
            wanted = self.windows_for(affordable)
            if wanted <= windows:
                break
            windows = len(self.texts.first(min(wanted, windows + BLOCK), tick))
        most = self.recipe.passes * (windows // self.recipe.batch_size)
        steps = min(affordable, most) if self.texts.written else affordable
        if steps < 1:
            needed = self.clock() - self.began + per_step
            raise UsageError(
                f"{budget} is too short to learn in: a first step ends after {needed:.1f} s here."
            )
        return RecoverySchedule(steps, self.windows_for(steps))

    def windows_for(self, steps: int) -> int:
        """Return how many texts so many steps learn from."""
        size, passes = self.recipe.batch_size, self.recipe.passes
        if self.texts.written:
            return size * -(-max(1, steps) // passes)
        return min(len(self.texts.packed), size * max(1, steps))

    def _seconds(self, trial: Distillation, student: nn.Module) -> tuple[float, float]:
        """Measure a step of no length, which leaves the student as it is, and an evaluation.

        The teacher's part of a step is paid in the first pass only.
        """
        recipe, batch = trial.recipe, trial.held_out[: trial.recipe.batch_size]
        optimiser = optimiser_of(student, recipe)
        for group in optimiser.param_groups:
            group["lr"] = 0.0
        began, _ = self.clock(), trial.held_out_loss(student)
        evaluating, answering, learning = self.clock() - began, 0.0, 0.0
        student.train()
        for _ in range(TRIALS):  # The last one counts: the first sets up what later ones find.
            began = self.clock()
            trial.answers.computed(batch)
            answered = self.clock()
            trial.loss(student, batch).backward()
            optimiser.step()
            optimiser.zero_grad()
            answering, learning = answered - began, self.clock() - answered
        return learning + answering / (recipe.passes if self.texts.written else 1) + 1e-9, evaluating
