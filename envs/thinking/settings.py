"""Components from settings: a name, and the settings of the component."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel

from prunepolicy.envs.settings import checked
from prunepolicy.pruning.registry import Registry

Component = TypeVar("Component", bound=BaseModel)


def built(registry: Registry[type[Component]], settings: Mapping[str, Any]) -> Component:
    """Return the component that `settings` name under `name`, made with the other settings.

    Raises:
        UsageError: when there is no such component, or one of its settings is wrong.
    """
    rest = dict(settings)
    name = str(rest.pop("name", ""))
    return checked(registry[name], rest, f"{registry.what} {name}")
