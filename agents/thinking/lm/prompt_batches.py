"""Which prompts a step rolls out, from which seeds, and against which reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from prunepolicy.agents.thinking.lm.engines import Sampling
from prunepolicy.agents.thinking.lm.recipe import ThinkRecipe
from prunepolicy.agents.thinking.lm.rollout_batch import (
    Group,
    RolloutBatch,
    RolloutWorker,
    seed_of,
    shuffle_outcomes_within_mode,
)
from prunepolicy.agents.thinking.lm.tasks import Problem
from prunepolicy.envs.thinking.diversity import diversity
from prunepolicy.envs.thinking.sampling import Sampler, samplers
from prunepolicy.envs.thinking.sampling.registry import Weights
from prunepolicy.envs.thinking.settings import built


@dataclass
class PromptBatches:
    """Draws prompts, rolls them out, and lets the sampler observe the outcomes.

    Attributes:
        references: accuracy on every problem of the reference model made to think; empty until a step needs
            them.
    """

    recipe: ThinkRecipe
    problems: tuple[Problem, ...]
    rollout_worker: RolloutWorker
    sampler: Sampler
    references: list[float] = field(default_factory=list)

    @classmethod
    def of(
        cls, recipe: ThinkRecipe, problems: tuple[Problem, ...], rollout_worker: RolloutWorker
    ) -> PromptBatches:
        """Make the sampler that the recipe names."""
        drawing = {"prompts": len(problems), "seed": recipe.seed}
        return cls(
            recipe, problems, rollout_worker, built(samplers, {**recipe.reinforcement.sampler, **drawing})
        )

    def roll(self, step: int, sampling: Sampling) -> RolloutBatch:
        """Draw the next prompts, roll them out, and let the sampler observe the outcomes."""
        groups = self.draw(step, sampling)
        batch = self.rollout_worker.roll(groups, sampling)
        self.observe(groups, batch)
        if self.recipe.reinforcement.shuffle_outcomes:
            table = shuffle_outcomes_within_mode(batch.table, seed_of(self.recipe.seed, step))
            batch = replace(batch, table=table)
        return batch

    def draw(self, step: int, sampling: Sampling) -> list[Group]:
        """Return the next prompts; seeds come from run, step, prompt and how often it was drawn before."""
        how = self.recipe.reinforcement
        if how.reference_generations and not self.references:
            self.references = self._reference_accuracies(sampling)
        drawn = self.sampler.sample(how.prompts_per_step)
        groups, seen = [], dict.fromkeys(drawn.tolist(), 0)
        for number, prompt in enumerate(drawn.tolist()):
            seed = seed_of(self.recipe.seed, step, prompt, seen[prompt])
            seen[prompt] += 1
            reference = self.references[prompt] if self.references else 0.0
            groups.append(
                Group(self.problems[prompt], number, how.num_generations, seed, how.force, reference, prompt)
            )
        return groups

    def observe(self, groups: Sequence[Group], batch: RolloutBatch) -> None:
        """Let the sampler know how the completions of what `draw` returned went."""
        differences = self._diversity(batch) if self.sampler.reads_diversity else None
        prompts = np.repeat([one.prompt for one in groups], self.recipe.reinforcement.num_generations)
        self.sampler.observe(prompts, batch.table.correct, differences)

    def state(self) -> dict[str, Any]:
        """Return what decides the next batches as JSON can hold it."""
        return {"sampler": self.sampler.state(), "references": self.references}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` returned."""
        self.sampler.restore(state["sampler"])
        self.references = list(state["references"])

    def _diversity(self, batch: RolloutBatch) -> Weights:
        """Return how different the completions of each row's prompt are from each other."""
        texts = self.rollout_worker.prompting.tokenizer.batch_decode(batch.tokens)
        count = self.recipe.reinforcement.num_generations
        each = [diversity(texts[start : start + count]) for start in range(0, len(texts), count)]
        return np.repeat(each, count)

    def _reference_accuracies(self, sampling: Sampling) -> list[float]:
        count = self.recipe.reinforcement.reference_generations
        groups = [
            Group(problem, number, count, seed_of(self.recipe.seed, 0, number), "think")
            for number, problem in enumerate(self.problems)
        ]
        table = self.rollout_worker.roll(groups, sampling).table
        return [float(mean) for mean in table.correct.reshape(len(groups), count).mean(1)]
