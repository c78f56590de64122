"""What a recipe for a model that learns when to think says."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, PositiveFloat, model_validator

from prunepolicy.agents.thinking.lm.demonstrations import DemonstrationRecipe
from prunepolicy.agents.thinking.lm.engines import engines
from prunepolicy.agents.thinking.lm.health import AlarmRecipe
from prunepolicy.agents.thinking.lm.objective import PolicyLossRecipe
from prunepolicy.agents.thinking.lm.problem_set import ProblemsRecipe
from prunepolicy.agents.thinking.lm.prompting import PromptRecipe
from prunepolicy.agents.thinking.lm.tiny_model import NewModel
from prunepolicy.agents.training.recipe import RunEvaluation, RunRecipe
from prunepolicy.envs.thinking.schedule import checked_stage
from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.io.config import OldNames, StrictConfig

TRL = "trl"
"""The engine that is no engine of ours: its trainer learns, too."""


def _listed(value: Any) -> Any:
    """Return one number as the only one of a list."""
    return value if isinstance(value, list | tuple) else (value,)


Rates = Annotated[tuple[PositiveFloat, ...], BeforeValidator(_listed), Field(min_length=1)]


class WarmUpRecipe(StrictConfig):
    """Imitation before anything else.

    Attributes:
        steps: at most.
        final_lr_fraction: share of the learning rate that is left at the last step; it falls linearly.
        check_every: steps between measurements of the gain of thinking; the warm-up ends when all three
            thresholds are met.
        max_easy_gain: accuracy that thinking may gain over answering at once, on the easiest third of the
            problems.
        min_hard_gain: accuracy that it must gain on the hardest third.
        min_think_accuracy: accuracy of thinking on the hardest third, at least.
        problems: to measure on.
    """

    renamed: ClassVar[OldNames] = {
        "decay": "final_lr_fraction",
        "check": "check_every",
        "easy": "max_easy_gain",
        "hard": "min_hard_gain",
        "thinking": "min_think_accuracy",
    }
    steps: int = Field(default=0, ge=0)
    final_lr_fraction: float = Field(default=1.0, gt=0, le=1)
    check_every: int = Field(default=50, ge=1)
    max_easy_gain: float = Field(default=0.1, ge=0, le=1)
    min_hard_gain: float = Field(default=0.4, ge=-1, le=1)
    min_think_accuracy: float = Field(default=0.9, ge=0, le=1)
    problems: int = Field(default=96, ge=3)


class ImitationRecipe(StrictConfig):
    """One step of imitation.

    Attributes:
        batch_size: demonstrations per step.
        token_weight: weigh tokens by p (1 - p), as CHORD does, so that neither the known nor the
            outlandish dominates.
        mean: over all tokens, or over demonstrations, so that short ones aren't drowned by long ones.
    """

    renamed: ClassVar[OldNames] = {"batch": "batch_size"}
    batch_size: int = Field(default=64, ge=1)
    learning_rate: float = Field(default=2e-3, gt=0)
    token_weight: bool = False
    mean: Literal["tokens", "demonstrations"] = "tokens"


class ReinforcementRecipe(StrictConfig):
    """One step of reinforcement learning.

    Attributes:
        steps: after the warm-up, imitation included, with which the run ends; None goes on until `max_steps`.
        prompts_per_step: groups of completions.
        num_generations: completions per prompt.
        max_tokens: of a completion, for every stage or one number for all of them; so are `temperature`
            and `learning_rate`.
        force: `half` makes half of every group answer at once, whatever the model would do.
        minibatches: optimiser steps on one batch.
        engine: `transformers` for models that fit a CPU, or `trl`, whose trainer learns and writes the
            completions that are learned from.
        chunk: prompts that an engine gets at once; it decides the bytes, the number of workers doesn't.
        min_mixed_groups: least share of groups with both modes in the first batch; without them no reward
            could teach when to think.
        reference_generations: completions per prompt of the reference model, made to think, whose accuracy
            the reward adapt_think compares with.
        reference_kl_every: steps between measurements of the KL divergence from the reference model.
        shuffle_outcomes: a control that keeps mode averages: outcomes are shuffled among the completions of
            each mode, so that the difficulty says nothing about them.
    """

    renamed: ClassVar[OldNames] = {
        "prompts": "prompts_per_step",
        "group": "num_generations",
        "mixed": "min_mixed_groups",
        "references": "reference_generations",
        "drift": "reference_kl_every",
        "shuffle": "shuffle_outcomes",
    }
    steps: int | None = Field(default=None, ge=1)
    prompts_per_step: int = Field(default=16, ge=1)
    num_generations: int = Field(default=8, ge=2)
    max_tokens: tuple[int, ...] = Field(default=(96,), min_length=1)
    temperature: Rates = (1.0,)
    learning_rate: Rates = (3e-4,)
    force: Literal["free", "half"] = "free"
    minibatches: int = Field(default=1, ge=1)
    objective: PolicyLossRecipe = PolicyLossRecipe()
    sampler: dict[str, Any] = Field(default_factory=lambda: {"name": "random"})
    engine: str = "transformers"
    chunk: int = Field(default=64, ge=1)
    min_mixed_groups: float = Field(default=0.0, ge=0, le=1)
    reference_generations: int = Field(default=0, ge=0)
    reference_kl_every: int = Field(default=10, ge=1)
    shuffle_outcomes: bool = False

    @property
    def generator(self) -> str:
        """The engine that writes completions which nothing is learned from."""
        return "transformers" if self.engine == TRL else self.engine

    def check_engine(self) -> None:
        """Raise `UsageError` where there is no such engine, or it can't do what other keys ask for."""
        if self.engine == "vllm":
            raise UsageError(
                "vLLM is run by TRL now: instead of reinforcement.engine=vllm set "
                "reinforcement.engine=trl and trl.use_vllm=true."
            )
        engines[self.generator]
        if self.engine == TRL and (self.force != "free" or self.shuffle_outcomes):
            key = "shuffle_outcomes" if self.shuffle_outcomes else "force"
            raise UsageError(
                f"TRL can't do what reinforcement.{key} asks for: leave it out, or set "
                "reinforcement.engine=transformers."
            )
        if self.engine == TRL and self.objective.mode_weight and self.objective.ratio == "sequence":
            raise UsageError(
                "TRL can't weigh the mode token in the ratio of a sequence: leave "
                "reinforcement.objective.mode_weight out, or set reinforcement.objective.ratio=token."
            )
        if self.engine == TRL and self.prompts_per_step * self.num_generations % self.minibatches:
            raise UsageError(
                "TRL splits a step's completions evenly: reinforcement.minibatches must divide "
                "prompts_per_step times num_generations."
            )


class TrlRecipe(StrictConfig):
    """Settings of TRL's trainer that no other key has, under its names.

    Attributes:
        use_vllm: let vLLM write completions; transformers does otherwise.
        vllm_mode: on the learner's own device (`colocate`), or in a server that `trl vllm-serve` runs.
        vllm_server_base_url: of that server.
        vllm_gpu_memory_utilization: share of the device's memory that a colocated vLLM takes.
        vllm_enable_sleep_mode: let a colocated vLLM give that memory back while the model learns.
        gradient_checkpointing: compute activations twice instead of keeping them.
        max_prompt_length: tokens of the longest prompt, the prefix included.
        entropy_coef: weight of the mean entropy of tokens, which is rewarded.
    """

    use_vllm: bool = False
    vllm_mode: Literal["colocate", "server"] = "colocate"
    vllm_server_base_url: str | None = None
    vllm_gpu_memory_utilization: float = Field(default=0.3, gt=0, lt=1)
    vllm_enable_sleep_mode: bool = False
    gradient_checkpointing: bool = True
    max_prompt_length: int = Field(default=1024, ge=1)
    entropy_coef: float = Field(default=0.0, ge=0)


class ThinkEvaluation(RunEvaluation):
    """How the model is evaluated while it trains.

    Attributes:
        length_penalty: the validation score is the accuracy less this times the mean length, as a share of
            the longest completion allowed.
        samples: completions per test problem.
        temperature: of completions in evaluation, whatever it is in training.
    """

    renamed: ClassVar[OldNames] = {"price": "length_penalty"}
    length_penalty: float = Field(default=0.2, ge=0)
    samples: int = Field(default=2, ge=1)
    temperature: float = Field(default=1.0, gt=0)


class ThinkRecipe(RunRecipe):
    """Everything that decides what a reasoning model learns.

    Attributes:
        model: a folder or hub id to start from; None starts from random weights.
        new: sizes of a model that starts from random weights.
        warm_up: imitation before the stages.
        switch: what decides between imitation and reinforcement afterwards, by `name` and its settings.
        stages: of the reward, with the terms of each; see `envs/thinking`.
        micro_tokens: padded tokens in one forward pass.
        max_grad_norm: at which gradients are clipped.
    """

    renamed: ClassVar[OldNames] = {**RunRecipe.renamed, "clip": "max_grad_norm"}
    model: str | None = None
    new: NewModel = NewModel()
    problems: ProblemsRecipe
    prompt: PromptRecipe = PromptRecipe()
    demonstrations: DemonstrationRecipe = DemonstrationRecipe()
    warm_up: WarmUpRecipe = WarmUpRecipe()
    imitation: ImitationRecipe = ImitationRecipe()
    reinforcement: ReinforcementRecipe = ReinforcementRecipe()
    trl: TrlRecipe = TrlRecipe()
    switch: dict[str, Any] = Field(default_factory=lambda: {"name": "constant", "imitation": 0.0})
    stages: tuple[dict[str, Any], ...] = Field(min_length=1)
    alarms: AlarmRecipe = AlarmRecipe()
    evaluation: ThinkEvaluation = ThinkEvaluation()
    micro_tokens: int = Field(default=8192, ge=1)
    max_grad_norm: float = Field(default=1.0, gt=0)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The model to start from, and files of problems."""
        return (*([self.model] if self.model else []), *self.problems.files)

    @model_validator(mode="after")
    def _sizes(self) -> Self:
        how = self.reinforcement
        if self.warm_up.steps > self.max_steps:
            raise ValueError(
                f"warm_up.steps ({self.warm_up.steps}) is more than max_steps ({self.max_steps}): none "
                "would be left to learn from rewards"
            )
        completions = how.prompts_per_step * how.num_generations
        if how.minibatches > completions:
            raise ValueError(
                f"reinforcement.minibatches ({how.minibatches}) is more than the {completions} "
                "completions of a step (prompts_per_step times num_generations)"
            )
        begins = self.model is None and "new" in self.model_fields_set
        if begins and max(how.max_tokens) >= self.new.context:
            raise ValueError(
                f"reinforcement.max_tokens ({max(how.max_tokens)}) leaves no room for a problem in "
                f"new.context ({self.new.context})"
            )
        return self

    @model_validator(mode="after")
    def _imitated(self) -> Self:
        imitates = self.warm_up.steps or self.switch != {"name": "constant", "imitation": 0.0}
        if self.problems.file is not None and imitates:
            raise ValueError(
                "problems of a file come without steps to imitate: leave warm_up.steps and switch out"
            )
        return self

    @model_validator(mode="after")
    def _lengths(self) -> Self:
        for name in ("max_tokens", "temperature", "learning_rate"):
            if len(getattr(self.reinforcement, name)) not in (1, len(self.stages)):
                raise ValueError(f"reinforcement.{name} takes one number, or one for every stage")
        paid = {str(term.get("name")) for stage in map(checked_stage, self.stages) for term in stage.terms}
        if "adapt_think" in paid and not self.reinforcement.reference_generations:
            raise ValueError(
                "adapt_think needs a reference model: set reinforcement.reference_generations, such as 4"
            )
        return self
