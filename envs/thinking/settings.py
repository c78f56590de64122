"""Settings from outside: checked, with one sentence that names what is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from prunepolicy.pruning.errors import UsageError, did_you_mean
from prunepolicy.pruning.registry import Registry

Component = TypeVar("Component", bound=BaseModel)


def built(registry: Registry[type[Component]], settings: Mapping[str, Any]) -> Component:
    """Return the component that `settings` name under `name`, made with the other settings.

    Raises:
        UsageError: when there is no such component, or one of its settings is wrong.
    """
    rest = dict(settings)
    name = str(rest.pop("name", ""))
    try:
        return registry[name](**rest)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the whole"
        if first["type"] != "extra_forbidden":
            raise UsageError(f"{registry.what} {name}: {place}: {first['msg']}.") from error
        hint = did_you_mean(place, registry[name].model_fields)
        raise UsageError(f"{registry.what} {name}: unknown setting {place!r}.{hint}") from error
