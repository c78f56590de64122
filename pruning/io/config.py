"""Settings from outside: unknown keys are refused with the nearest known one, old names of keys are read."""

from __future__ import annotations

import logging
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from prunepolicy.pruning.errors import UsageError, did_you_mean

logger = logging.getLogger(__name__)

Settings = TypeVar("Settings", bound=BaseModel)
Parts = Mapping[str, type[BaseModel]]


class Renamed(NamedTuple):
    """What a key is called today, where its value has changed as well.

    Attributes:
        key: its name.
        divisor: what a value under the old name is divided by.
    """

    key: str
    divisor: float


OldNames = Mapping[str, str | Renamed]
"""By the name that a key had in an earlier version, the name that it has today."""


class StrictConfig(BaseModel):
    """Settings that are frozen; unknown keys are refused.

    Attributes:
        renamed: keys that had other names in earlier versions.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    renamed: ClassVar[OldNames] = {}

    @model_validator(mode="before")
    @classmethod
    def _take_old_keys(cls, data: Any) -> Any:
        keys = OldKeys(cls.__name__)
        current = keys.replaced(cls, data, nested=False)
        keys.warn()
        return current


@dataclass
class OldKeys:
    """Replaces old names of keys by today's, and remembers which.

    Attributes:
        where: what the settings are called in sentences, such as a file.
        found: sentences about the keys that were replaced.
    """

    where: str
    found: list[str] = field(default_factory=list)

    def replaced(
        self,
        model: type[BaseModel],
        data: Any,
        parts: Parts | None = None,
        place: str = "",
        nested: bool = True,
    ) -> Any:
        """Return `data` with the names that keys of `model` have today.

        Args:
            parts: models of keys whose own type doesn't say what is inside.
            place: of `data` in the whole, with a dot at its end.
            nested: go into what lies inside, too.

        Raises:
            UsageError: when a key is given under its old name and under today's.
        """
        if not isinstance(data, Mapping):
            return data
        names: OldNames = getattr(model, "renamed", {})
        current: dict[Any, Any] = {}
        for key, value in data.items():
            name, value = self._current(names[key], key, value, place) if key in names else (key, value)
            if name != key and name in data:
                raise UsageError(
                    f"{self.where}: {place}{key} is the old name of {place}{name}; give only the new one."
                )
            for inner in _models_at(model, name, parts or {}) if nested else ():
                value = self._inside(inner, value, f"{place}{name}.")
            current[name] = value
        return current

    def warn(self) -> None:
        """Log one line that names today's keys, where there were old ones."""
        if self.found:
            logger.warning("%s: renamed keys: %s.", self.where, "; ".join(dict.fromkeys(self.found)))

    def _current(self, renamed: str | Renamed, key: str, value: Any, place: str) -> tuple[str, Any]:
        if isinstance(renamed, str):
            self.found.append(f"{place}{key} is now {place}{renamed}")
            return renamed, value
        self.found.append(
            f"{place}{key} is now {place}{renamed.key} (its value divided by {renamed.divisor})"
        )
        return renamed.key, value / renamed.divisor if isinstance(value, int | float) else value

    def _inside(self, model: type[BaseModel], value: Any, place: str) -> Any:
        if isinstance(value, list | tuple):
            return [self.replaced(model, one, place=place) for one in value]
        return self.replaced(model, value, place=place)


def checked(model: type[Settings], data: Any, where: str) -> Settings:
    """Validate `data`, or raise `UsageError` with the place, the reason and the nearest known key."""
    keys = OldKeys(where)
    current = keys.replaced(model, data)
    keys.warn()
    try:
        return model.model_validate(current)
    except ValidationError as error:
        # Where a part may be of several types, all have their say: what is wrong beats what is unknown.
        first = min(error.errors(), key=lambda one: one["type"] == "extra_forbidden")
        names = [str(name) for name in first["loc"] if not str(name)[:1].isupper()]
        place = ".".join(names) or "the whole"
        if first["type"] != "extra_forbidden":
            raise UsageError(f"{where}: {place}: {first['msg'].removeprefix('Value error, ')}.") from error
        known = _keys_at(model, first["loc"][:-1])
        raise UsageError(
            f"{where}: unknown key {place!r}.{did_you_mean(str(first['loc'][-1]), known)}"
        ) from error


def _keys_at(model: type[BaseModel], path: Iterable[int | str]) -> Iterable[str]:
    """Return the keys that are known at `path` inside `model`."""
    for name in path:
        model = next(iter(_models_at(model, str(name), {})), model)
    return model.model_fields


def _models_at(model: type[BaseModel], key: str, parts: Parts) -> list[type[BaseModel]]:
    """Return the models that the value of a key may be of."""
    known = model.model_fields.get(key)
    inner: list[Any] = [] if known is None else [known.annotation, *typing.get_args(known.annotation)]
    models = [one for one in inner if isinstance(one, type) and issubclass(one, BaseModel)]
    return models or ([parts[key]] if key in parts else [])
