"""Training recipes: YAML in, checked settings out; unknown keys are refused with the nearest name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from prunepolicy.policy.base import Policy, policies
from prunepolicy.policy.load import is_place
from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.io.config import OldNames, Settings, StrictConfig, checked
from prunepolicy.pruning.plan import Budget, Of

SMOKE_SENTENCE = (
    "Smoke run: tiny random models, few steps, little data. It shows that everything runs; its numbers say "
    "nothing about what the recipe learns."
)


class BudgetRecipe(StrictConfig):
    """Budgets that differ in size only: one for every number in `keep`."""

    keep: tuple[float, ...] = Field(default=(0.9, 0.8, 0.7), min_length=1)
    of: Of = "ffn"
    units: tuple[str, ...] = ()
    uniform: bool = True

    def listed(self) -> tuple[Budget, ...]:
        """Return the budgets, one for every size."""
        return tuple(Budget(keep, self.of, uniform=self.uniform, units=self.units) for keep in self.keep)


class RunEvaluation(StrictConfig):
    """When a run is evaluated while it trains.

    Attributes:
        every: training steps between evaluations.
        patience: evaluations without improvement after which training stops; None never stops early.
    """

    every: int = Field(default=20, ge=1)
    patience: int | None = Field(default=None, ge=1)


class EvaluationRecipe(RunEvaluation):
    """How a pruning policy is evaluated while it trains.

    Attributes:
        samples: validation texts, sampled from the dense model with a seed that no calibration data uses;
            four times as many, of yet another seed, are the test.
        length: tokens of each.
        text: file to test on instead.
        baselines: policies to compare with in the test.
    """

    samples: int = Field(default=16, ge=1)
    length: int = Field(default=128, ge=2)
    text: Path | None = None
    baselines: tuple[str, ...] = (
        "random",
        "magnitude",
        "activation",
        "taylor",
        "fisher",
        "fisher_activation",
    )


def _listed(budgets: Any) -> Any:
    """Return a list of kinds of budgets where a recipe names one kind alone."""
    return [budgets] if isinstance(budgets, dict | BudgetRecipe) else budgets


class RunRecipe(StrictConfig):
    """What every recipe says, whatever is learned.

    Attributes:
        algorithm: what learns; it knows which other keys there are.
        max_steps: training steps.
        checkpoint_every: training steps between checkpoints.
        smoke: the recipe was shrunk by `train --smoke`: it shows that everything runs, and nothing else.
    """

    renamed: ClassVar[OldNames] = {"episodes": "max_steps"}
    algorithm: str
    evaluation: RunEvaluation = RunEvaluation()
    seed: int = 0
    max_steps: int = Field(default=200, ge=1)
    checkpoint_every: int = Field(default=20, ge=1)
    device: str = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    smoke: bool = False

    @model_validator(mode="after")
    def _patience(self) -> Self:
        how = self.evaluation
        if how.patience is not None and how.every > self.max_steps:
            raise ValueError(
                f"evaluation.patience counts evaluations, but the first comes after step {how.every} "
                f"(evaluation.every) of {self.max_steps} (max_steps)"
            )
        return self

    @property
    def inputs(self) -> tuple[str, ...]:
        """Models and files that a run reads, as the recipe names them."""
        return ()

    def check_name(self, name: str) -> None:
        """Raise `UsageError` when a run can't be called `name`."""


class PolicyRecipe(RunRecipe):
    """What is learned is a policy.

    Attributes:
        policy: the policy kind under `kind`, and its settings.
        learner: the algorithm's settings.
    """

    policy: dict[str, Any]
    learner: dict[str, Any] = Field(default_factory=dict)

    def policy_settings(self, kind: str, settings: type[Settings]) -> Settings:
        """Return the checked settings of the policy to learn.

        Raises:
            UsageError: when it is of another kind than the one that the algorithm learns.
        """
        if self.policy.get("kind") != kind:
            raise UsageError(f"The algorithm {self.algorithm} learns policies of the kind {kind}.")
        given = {key: value for key, value in self.policy.items() if key != "kind"}
        return checked(settings, given, "policy")

    def beginner(self) -> Policy:
        """Return the policy to learn, as it is before it has learned anything."""
        kind = str(self.policy.get("kind"))
        return policies[kind](self.policy_settings(kind, policies[kind].config_type))


class Recipe(PolicyRecipe):
    """Everything that decides what a pruning policy learns.

    Attributes:
        models: folders, files, aliases or hub ids to learn on.
        held_out: models for evaluation only; without any, the training models are evaluated on other text.
        budgets: one kind of budget or a list of kinds; a policy learns all of them.
    """

    models: tuple[str, ...] = Field(min_length=1)
    held_out: tuple[str, ...] = ()
    budgets: Annotated[tuple[BudgetRecipe, ...], BeforeValidator(_listed), Field(min_length=1)] = (
        BudgetRecipe(),
    )
    evaluation: EvaluationRecipe = EvaluationRecipe()

    @model_validator(mode="after")
    def _held_out_apart(self) -> Self:
        both = [name for name in self.models if name in self.held_out]
        if both:
            raise ValueError(f"{both[0]} is held out, and trained on: name it once")
        return self

    @property
    def inputs(self) -> tuple[str, ...]:
        """The models, the test text, and the folders of policies to compare with."""
        text = self.evaluation.text
        rivals = (name for name in self.evaluation.baselines if is_place(name))
        return (*self.models, *self.held_out, *([str(text)] if text else []), *rivals)

    def check_name(self, name: str) -> None:
        """Raise `UsageError` for the name of a policy that the run is compared with."""
        if name in self.evaluation.baselines:
            raise UsageError(f"A run can't be called {name!r}, like a policy that it is compared with.")

    @property
    def every_budget(self) -> tuple[Budget, ...]:
        """All budgets, kind by kind."""
        return tuple(budget for kind in self.budgets for budget in kind.listed())

    @property
    def sizes(self) -> tuple[float, ...]:
        """The sizes of all budgets, largest first."""
        return tuple(sorted({budget.keep for budget in self.every_budget}, reverse=True))


def check_heads(hidden: int, heads: int, kv_heads: int) -> None:
    """Raise `ValueError` where a LLaMA-type model of such sizes can't be built."""
    if hidden % (2 * heads):
        raise ValueError(f"hidden ({hidden}) must be a multiple of twice the heads ({heads})")
    if heads % kv_heads:
        raise ValueError(f"heads ({heads}) must be a multiple of kv_heads ({kv_heads})")
