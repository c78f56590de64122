"""Settings from outside: unknown keys are refused with the nearest known one."""

from __future__ import annotations

import typing
from collections.abc import Iterable
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from prunepolicy.pruning.errors import UsageError, did_you_mean

Settings = TypeVar("Settings", bound=BaseModel)


class StrictConfig(BaseModel):
    """Settings that are frozen; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


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
