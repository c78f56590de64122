"""Recipes from YAML files, with overrides."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prunepolicy.agents.training.algorithms import algorithms
from prunepolicy.agents.training.learner import SteppedLearner
from prunepolicy.agents.training.recipe import RunRecipe
from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.io import bounded
from prunepolicy.pruning.io.config import OldKeys, checked


def load_recipe(source: str | Path, overrides: Sequence[str] = ()) -> RunRecipe:
    """Read a recipe and apply `--set key=value` overrides to it; its algorithm says which keys it has.

    Keys may have the names of earlier versions, in the file and in the overrides.

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
    changes = [override_of(override) for override in overrides]
    learner = _learner_of(ChainMap(*({path[0]: value} for path, value in reversed(changes)), data), source)
    keys = OldKeys(str(source))
    data = _current(learner, data, keys)
    for path, value in changes:
        set_key(data, *_current_override(learner, path, value, keys))
    keys.warn()
    recipe = checked(learner.recipe_type, data, str(source))
    learner.check(recipe)
    return recipe


def current_recipe(data: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return a recipe that a report or a card holds with the names that its keys have today.

    Args:
        where: it comes from, for sentences.

    Raises:
        UsageError: when there is no such algorithm.
    """
    current: dict[str, Any] = _current(_learner_of(data, where), data, OldKeys(where))
    return current


def is_same_recipe(saved: Mapping[str, Any], recipe: RunRecipe) -> bool:
    """Return whether a recipe that some version of this package saved is `recipe`."""
    recipe_type = _learner_of(saved, "the saved recipe").recipe_type
    old = checked(recipe_type, current_recipe(saved, "the saved recipe"), "the saved recipe")
    return old.model_dump(mode="json") == recipe.model_dump(mode="json")


def _current(learner: type[SteppedLearner], data: Mapping[str, Any], keys: OldKeys) -> Any:
    return keys.replaced(learner.recipe_type, data, {"learner": learner.config_type})


def _current_override(
    learner: type[SteppedLearner], path: Sequence[str], value: Any, keys: OldKeys
) -> tuple[tuple[str, ...], Any]:
    """Return an override's path and value with the names that keys have today."""
    nested: dict[str, Any] = {}
    set_key(nested, path, value)
    inside, names = _current(learner, nested, keys), []
    for _ in path:
        ((name, inside),) = inside.items()
        names.append(name)
    return tuple(names), inside


def _learner_of(data: Mapping[str, Any], source: Path | str) -> type[SteppedLearner]:
    if not isinstance(data.get("algorithm"), str):
        raise UsageError(f"{source}: algorithm: Field required. Known: {', '.join(algorithms)}.")
    return algorithms[data["algorithm"]].learner_type


def override_of(text: str) -> tuple[tuple[str, ...], Any]:
    """Return the path and the value, of YAML's types, of an override such as `learner.choices_per_layer=8`.

    Raises:
        UsageError: when it has no `=`, or its value is no YAML.
    """
    key, sign, written = text.partition("=")
    if not sign or not all(key.split(".")):
        raise UsageError(f"--set takes key=value, for example learner.learning_rate=0.001; got {text!r}.")
    try:
        return tuple(key.split(".")), bounded.parsed_yaml(written)
    except ValueError as error:
        raise UsageError(f"--set {key}: {written!r} is no YAML value.") from error


def set_key(data: dict[str, Any], path: Sequence[str], value: Any) -> None:
    """Set the key at a path inside `data`.

    Raises:
        UsageError: when the path goes through something that has no keys.
    """
    place: Any = data
    for name in path[:-1]:
        place = place.setdefault(name, {})
        if not isinstance(place, dict):
            raise UsageError(f"--set {'.'.join(path)}: {name!r} has no keys of its own.")
    place[path[-1]] = value
