"""Training recipes: YAML in, checked settings out; unknown keys are refused with the nearest name."""

from __future__ import annotations

import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from prunepolicy.policy.base import Policy, policies
from prunepolicy.policy.load import is_place
from prunepolicy.pruning import bounded
from prunepolicy.pruning.errors import UsageError, did_you_mean
from prunepolicy.pruning.plan import Budget, Of

if TYPE_CHECKING:
    from prunepolicy.agents.algorithms import SteppedLearner

Settings = TypeVar("Settings", bound=BaseModel)


class RecipePart(BaseModel):
    """A part of a recipe; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class BudgetRecipe(RecipePart):
    """Budgets that differ in size only: one for every number in `keep`."""

    keep: tuple[float, ...] = Field(default=(0.9, 0.8, 0.7), min_length=1)
    of: Of = "ffn"
    units: tuple[str, ...] = ()
    uniform: bool = True

    def listed(self) -> tuple[Budget, ...]:
        """Return the budgets, one for every size."""
        return tuple(Budget(keep, self.of, uniform=self.uniform, units=self.units) for keep in self.keep)


class RunEvaluation(RecipePart):
    """When a run is judged while it learns.

    Attributes:
        every: learning steps between evaluations.
        patience: evaluations without improvement after which training stops; None never stops early.
    """

    every: int = Field(default=20, ge=1)
    patience: int | None = Field(default=None, ge=1)


class EvaluationRecipe(RunEvaluation):
    """How a pruning policy is judged while it learns.

    Attributes:
        samples: texts to score, written by the dense model with a seed no training probe uses; four
            times as many, of yet another seed, decide in the end.
        length: tokens of each.
        text: file to score in the end, instead.
        baselines: policies to compare with at the end.
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


class RunRecipe(RecipePart):
    """What every recipe says, whatever is learned.

    Attributes:
        algorithm: what learns; it knows which other keys there are.
        episodes: learning steps.
        checkpoint_every: learning steps between checkpoints.
    """

    algorithm: str
    evaluation: RunEvaluation = RunEvaluation()
    seed: int = 0
    episodes: int = Field(default=200, ge=1)
    checkpoint_every: int = Field(default=20, ge=1)
    device: str = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"

    @model_validator(mode="after")
    def _patience(self) -> Self:
        how = self.evaluation
        if how.patience is not None and how.every > self.episodes:
            raise ValueError(
                f"evaluation.patience waits for judgements, but the first comes after step {how.every} "
                f"(evaluation.every) of {self.episodes} (episodes)"
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
        held_out: models that only judge; without any, the training models judge on other text.
        budgets: one kind of budget or a list of kinds; a policy learns all of them.
    """

    models: tuple[str, ...] = Field(min_length=1)
    held_out: tuple[str, ...] = ()
    budgets: Annotated[tuple[BudgetRecipe, ...], BeforeValidator(_listed), Field(min_length=1)] = (
        BudgetRecipe(),
    )
    evaluation: EvaluationRecipe = EvaluationRecipe()

    @model_validator(mode="after")
    def _judges(self) -> Self:
        both = [name for name in self.models if name in self.held_out]
        if both:
            raise ValueError(f"{both[0]} is held out, and learned on: name it once")
        return self

    @property
    def inputs(self) -> tuple[str, ...]:
        """The models, the text that judges, and the folders of policies to compare with."""
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


def load_recipe(source: Path, overrides: Sequence[str] = ()) -> RunRecipe:
    """Read a recipe and apply `--set key=value` overrides to it; its algorithm says which keys it has.

    Raises:
        UsageError: when the file is no YAML, or a key or value is wrong; the sentence names it.
    """
    try:
        data = bounded.read_yaml(source)
    except (OSError, ValueError) as error:
        raise UsageError(f"Can't read the recipe {source}: {bounded.why(error)}.") from error
    if not isinstance(data, dict):
        raise UsageError(f"The recipe {source} must be a mapping of keys to values.")
    for override in overrides:
        override_key(data, override)
    learner = _learner_of(data, source)
    recipe = checked(learner.recipe_type, data, str(source))
    learner.check(recipe)
    return recipe


def _learner_of(data: Mapping[str, Any], source: Path) -> type[SteppedLearner]:
    from prunepolicy.agents.algorithms import algorithms  # algorithms read recipes, so they import this

    if not isinstance(data.get("algorithm"), str):
        raise UsageError(f"{source}: algorithm: Field required. Known: {', '.join(algorithms)}.")
    return algorithms[data["algorithm"]]


def override_key(data: dict[str, Any], override: str) -> None:
    """Set one dotted key to a value with YAML's types: `learner.samples=8`.

    Raises:
        UsageError: when the override has no `=`, or goes through something that has no keys.
    """
    key, sign, text = override.partition("=")
    if not sign or not all(key.split(".")):
        raise UsageError(f"--set takes key=value, for example learner.samples=8; got {override!r}.")
    try:
        value = bounded.parsed_yaml(text)
    except ValueError as error:
        raise UsageError(f"--set {key}: {text!r} is no YAML value.") from error
    *path, last = key.split(".")
    place: Any = data
    for name in path:
        place = place.setdefault(name, {})
        if not isinstance(place, dict):
            raise UsageError(f"--set {key}: {name!r} has no keys of its own.")
    place[last] = value


def checked(model: type[Settings], data: Any, where: str) -> Settings:
    """Validate `data`, or raise `UsageError` with the place, the reason and the nearest known key."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        # Where a part may be of several types, all have their say: what is wrong beats what is unknown.
        first = min(error.errors(), key=lambda one: one["type"] == "extra_forbidden")
        keys = [str(name) for name in first["loc"] if not str(name)[:1].isupper()]
        place = ".".join(keys) or "the whole"
        if first["type"] != "extra_forbidden":
            raise UsageError(f"{where}: {place}: {first['msg'].removeprefix('Value error, ')}.") from error
        known = _keys_at(model, first["loc"][:-1])
        raise UsageError(
            f"{where}: unknown key {place!r}.{did_you_mean(str(first['loc'][-1]), known)}"
        ) from error


def _keys_at(model: type[BaseModel], path: Iterable[int | str]) -> Iterable[str]:
    """Return the keys that are known at `path` inside `model`."""
    for name in path:
        field = model.model_fields.get(str(name))
        inner: list[Any] = [] if field is None else [field.annotation, *typing.get_args(field.annotation)]
        model = next((t for t in inner if isinstance(t, type) and issubclass(t, BaseModel)), model)
    return model.model_fields
