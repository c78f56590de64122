"""What a model imitates before it learns from rewards: answers with and without a thought, by a fair coin.

The coin doesn't look at the difficulty, so that the start switches without direction, as models with the
ellipsis prompt do (AutoThink, section 3).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random

from pydantic import Field

from prunepolicy.agents.thinking.lm.prompting import Prompting
from prunepolicy.agents.thinking.lm.tasks import Problem
from prunepolicy.agents.thinking.lm.tokens import ANSWER, ANSWERED, CLOSE
from prunepolicy.pruning.io.config import StrictConfig


class DemonstrationRecipe(StrictConfig):
    """How demonstrations are written.

    Attributes:
        think: share that thinks before it answers.
        recheck: probability that a step is written twice, with a `wait`: length to be saved.
    """

    think: float = Field(default=0.5, ge=0, le=1)
    recheck: float = Field(default=0.5, ge=0, le=1)


@dataclass(frozen=True)
class Demonstrator:
    """Writes demonstrations as token ids."""

    prompting: Prompting
    how: DemonstrationRecipe = field(default_factory=DemonstrationRecipe)

    def completion(self, problem: Problem, generator: Random) -> str:
        """Return what the model should write after the prompt, without the end token."""
        thinks = generator.random() < self.how.think
        thought = self._thought(problem, generator) if thinks else ""
        answer = f"{ANSWER}{problem.answer}{ANSWERED}"
        if self.prompting.how.answer == "boxed":
            answer = f"\n\n\\boxed{{{problem.answer}}}"
        return f"{thought}{CLOSE}{answer}"

    def batch(
        self, problems: Iterator[Problem], count: int, generator: Random
    ) -> list[tuple[list[int], list[int]]]:
        """Return `count` pairs of prompt ids and completion ids, the end token included."""
        tokenizer, rows = self.prompting.tokenizer, []
        for _ in range(count):
            problem = next(problems)
            text = self.completion(problem, generator)
            ids = list(tokenizer(text, add_special_tokens=False)["input_ids"])
            rows.append((self.prompting.ids(problem.question), [*ids, tokenizer.eos_token_id]))
        return rows

    def _thought(self, problem: Problem, generator: Random) -> str:
        lines = []
        for step in problem.steps:
            lines.append(step)
            if generator.random() < self.how.recheck:
                lines.append(f"wait,{step}")
        return "\n".join(lines) + "\n"
