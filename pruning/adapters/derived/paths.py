"""Settings inside a configuration by path: `text_config.intermediate_size` lies one level down."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from prunepolicy.pruning.adapters.base import Config


def setting(config: Config, path: str) -> Any:
    """Return what stands at `path`; None where nothing does."""
    found: Any = config
    for part in path.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def number(config: Config, path: str) -> int | None:
    """Return the integer at `path`, or the one that a list there repeats for every layer; else None."""
    found = setting(config, path)
    if isinstance(found, list) and found and all(item == found[0] for item in found):
        found = found[0]
    return found if isinstance(found, int) and not isinstance(found, bool) else None


def restated(config: Config, changes: Mapping[str, Any]) -> Config:
    """Return a copy of `config` with values set by path; where a list repeats a number, the new one does."""
    changed = copy.deepcopy(config)
    for path, value in changes.items():
        *parts, key = path.split(".")
        inner = changed
        for part in parts:
            inner = inner.setdefault(part, {})
        one_per_layer = isinstance(inner.get(key), list) and isinstance(value, int)
        inner[key] = [value] * len(inner[key]) if one_per_layer else value
    return changed


def joined(part: str, key: str) -> str:
    """Return the path of `key` in a part of the configuration; the whole is called ''."""
    return f"{part}.{key}" if part else key


def parts_of(config: Config) -> Iterator[tuple[str, Config]]:
    """Yield the configuration itself, called '', and those of the networks that it joins."""
    yield "", config
    for key, value in config.items():
        if key.endswith("_config") and isinstance(value, dict):
            yield key, value
