"""What a recipe for a model that learns when to think says."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, PositiveFloat, model_validator

from prunepolicy.agents.thinking.lm.demonstrations import DemonstrationRecipe
from prunepolicy.agents.thinking.lm.health import AlarmRecipe
from prunepolicy.agents.thinking.lm.objective import ObjectiveRecipe
from prunepolicy.agents.thinking.lm.problem_set import ProblemsRecipe
from prunepolicy.agents.thinking.lm.prompting import PromptRecipe
from prunepolicy.agents.thinking.lm.tiny_model import NewModel
from prunepolicy.agents.training.recipe import RunEvaluation, RunRecipe
from prunepolicy.pruning.io.config import StrictConfig


def _listed(value: Any) -> Any:
    """Return one number as the only one of a list."""
    return value if isinstance(value, list | tuple) else (value,)


Rates = Annotated[tuple[PositiveFloat, ...], BeforeValidator(_listed), Field(min_length=1)]


class WarmUpRecipe(StrictConfig):
    """Imitation before anything else.

    Attributes:
        steps: at most.
        decay: share of the learning rate that is left at the last of them; it falls linearly.
        check: steps between looks at what thinking is worth; the warm-up ends when that is right.
        easy: by how much thinking may be ahead of answering at once, on the easiest third of the problems.
        hard: by how much it must be ahead on the hardest third.
        thinking: accuracy that thinking must reach on the hardest third.
        problems: to look at.
    """

    steps: int = Field(default=0, ge=0)
    decay: float = Field(default=1.0, gt=0, le=1)
    check: int = Field(default=50, ge=1)
    easy: float = Field(default=0.1, ge=0, le=1)
    hard: float = Field(default=0.4, ge=-1, le=1)
    thinking: float = Field(default=0.9, ge=0, le=1)
    problems: int = Field(default=96, ge=3)


class ImitationRecipe(StrictConfig):
    """One step of imitation.

    Attributes:
        batch: demonstrations per step.
        token_weight: weigh tokens by p (1 - p), as CHORD does, so that neither the known nor the
            outlandish dominates.
        mean: over all tokens, or over demonstrations, so that short ones aren't drowned by long ones.
    """

    batch: int = Field(default=64, ge=1)
    learning_rate: float = Field(default=2e-3, gt=0)
    token_weight: bool = False
    mean: Literal["tokens", "demonstrations"] = "tokens"


class ReinforcementRecipe(StrictConfig):
    """One step of reinforcement learning.

    Attributes:
        steps: after the warm-up, imitation included, with which the run ends; None goes on until `episodes`.
        prompts: per step.
        group: completions per prompt.
        max_tokens: of a completion, for every stage or one number for all of them; so are `temperature`
            and `learning_rate`.
        force: `half` makes half of every group answer at once, whatever the model would do.
        minibatches: optimiser steps on one batch.
        chunk: prompts that an engine gets at once; it decides the bytes, the number of workers doesn't.
        mixed: least share of groups with both modes in the first batch; without them no reward could teach
            when to think.
        references: answers per prompt of the start, made to think, whose accuracy adapt_think compares with.
        drift: steps between measurements of the divergence from the start.
        shuffle: a control: outcomes are dealt anew among the completions of each mode, so that difficulty
            says nothing about them.
    """

    steps: int | None = Field(default=None, ge=1)
    prompts: int = Field(default=16, ge=1)
    group: int = Field(default=8, ge=2)
    max_tokens: tuple[int, ...] = Field(default=(96,), min_length=1)
    temperature: Rates = (1.0,)
    learning_rate: Rates = (3e-4,)
    force: Literal["free", "half"] = "free"
    minibatches: int = Field(default=1, ge=1)
    objective: ObjectiveRecipe = ObjectiveRecipe()
    sampler: dict[str, Any] = Field(default_factory=lambda: {"name": "random"})
    engine: str = "transformers"
    chunk: int = Field(default=64, ge=1)
    mixed: float = Field(default=0.0, ge=0, le=1)
    references: int = Field(default=0, ge=0)
    drift: int = Field(default=10, ge=1)
    shuffle: bool = False


class ThinkEvaluation(RunEvaluation):
    """How the model is judged while it learns.

    Attributes:
        price: of a completion as long as allowed, in accuracy: what chooses the best step is the
            accuracy less that share of the tokens.
        samples: answers per problem in the end.
        temperature: at which answers are drawn, whatever it is in training.
    """

    price: float = Field(default=0.2, ge=0)
    samples: int = Field(default=2, ge=1)
    temperature: float = Field(default=1.0, gt=0)


class ThinkRecipe(RunRecipe):
    """Everything that decides what a reasoning model learns.

    Attributes:
        model: a folder or hub id to start from; None starts from random weights.
        new: sizes of a model that starts from random weights.
        warm_up: imitation before the stages.
        switch: what decides between imitation and reinforcement afterwards, by `name` and its settings.
        stages: of the reward, with the terms that are paid in each; see `envs/thinking`.
        micro_tokens: padded tokens in one pass of the model.
        clip: largest norm of a gradient.
    """

    model: str | None = None
    new: NewModel = NewModel()
    problems: ProblemsRecipe
    prompt: PromptRecipe = PromptRecipe()
    demonstrations: DemonstrationRecipe = DemonstrationRecipe()
    warm_up: WarmUpRecipe = WarmUpRecipe()
    imitation: ImitationRecipe = ImitationRecipe()
    reinforcement: ReinforcementRecipe = ReinforcementRecipe()
    switch: dict[str, Any] = Field(default_factory=lambda: {"name": "constant", "imitation": 0.0})
    stages: tuple[dict[str, Any], ...] = Field(min_length=1)
    alarms: AlarmRecipe = AlarmRecipe()
    evaluation: ThinkEvaluation = ThinkEvaluation()
    micro_tokens: int = Field(default=8192, ge=1)
    clip: float = Field(default=1.0, gt=0)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The model to start from."""
        return (self.model,) if self.model else ()

    @model_validator(mode="after")
    def _sizes(self) -> Self:
        how = self.reinforcement
        if self.warm_up.steps > self.episodes:
            raise ValueError(
                f"warm_up.steps ({self.warm_up.steps}) is more than episodes ({self.episodes}): none "
                "would be left to learn from rewards"
            )
        if how.minibatches > how.prompts * how.group:
            raise ValueError(
                f"reinforcement.minibatches ({how.minibatches}) is more than the {how.prompts * how.group} "
                "completions of a step (prompts times group)"
            )
        begins = self.model is None and "new" in self.model_fields_set
        if begins and max(how.max_tokens) >= self.new.context:
            raise ValueError(
                f"reinforcement.max_tokens ({max(how.max_tokens)}) leaves no room for a problem in "
                f"new.context ({self.new.context})"
            )
        return self

    @model_validator(mode="after")
    def _lengths(self) -> Self:
        for name in ("max_tokens", "temperature", "learning_rate"):
            if len(getattr(self.reinforcement, name)) not in (1, len(self.stages)):
                raise ValueError(f"reinforcement.{name} takes one number, or one for every stage")
        paid = {term.get("name") for stage in self.stages for term in stage.get("terms", ())}
        if "adapt_think" in paid and not self.reinforcement.references:
            raise ValueError("adapt_think compares with a reference: set reinforcement.references, such as 4")
        return self
