"""Recipes from YAML files, with overrides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prunepolicy.agents.training.algorithms import algorithms
from prunepolicy.agents.training.learner import SteppedLearner
from prunepolicy.agents.training.recipe import RunRecipe
from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.io import bounded
from prunepolicy.pruning.io.config import checked


def load_recipe(source: str | Path, overrides: Sequence[str] = ()) -> RunRecipe:
    """Read a recipe and apply `--set key=value` overrides to it; its algorithm says which keys it has.

    Raises:
        UsageError: when the file is no YAML, or a key or value is wrong; the sentence names it.
    """
    source = Path(source)
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
    if not isinstance(data.get("algorithm"), str):
        raise UsageError(f"{source}: algorithm: Field required. Known: {', '.join(algorithms)}.")
    return algorithms[data["algorithm"]].learner_type


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
