"""Registries: names to components. One with a package imports its modules on first use."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Generic, TypeVar

from prunepolicy.pruning.errors import UsageError, did_you_mean
from prunepolicy.pruning.plugins import load_plugins

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """Names to components; in a package, the name of a component is that of the file that holds it.

    Args:
        what: the field's word for one component, used in error sentences.
        package: whose modules register themselves; None where every component is added by hand.
    """

    def __init__(self, what: str, package: str | None = None) -> None:
        self.what = what
        self.package = package
        self._items: dict[str, T] = {}
        self._filled = False

    def register(self, item: T) -> T:
        """Add `item` under the name of the module that defines it (use as a decorator)."""
        self.add(file_name(item), item)
        return item

    def add(self, name: str, item: T) -> None:
        """Add `item` under `name`, which must be the name of the file that defines it."""
        if self._items.get(name, item) is not item:
            raise ValueError(f"{self.what} {name!r} is registered twice")
        self._items[name] = item

    def __getitem__(self, name: str) -> T:
        """Return the component called `name`, or raise `UsageError` with the nearest name."""
        self._fill()
        if name not in self._items:
            raise UsageError(f"Unknown {self.what} {name!r:.80}.{did_you_mean(name, self._items)}")
        return self._items[name]

    def __iter__(self) -> Iterator[str]:
        self._fill()
        return iter(sorted(self._items))

    def __len__(self) -> int:
        self._fill()
        return len(self._items)

    def __contains__(self, name: object) -> bool:
        self._fill()
        return name in self._items

    def _fill(self) -> None:
        if self._filled:
            return
        self._filled = True
        if self.package is not None:
            package = importlib.import_module(self.package)
            for module in pkgutil.iter_modules(package.__path__):
                importlib.import_module(f"{self.package}.{module.name}")
        load_plugins()


def file_name(item: object) -> str:
    """Return the name of the file that defines a class or function, or the class of anything else."""
    owner: type | Callable[..., object] = item if callable(item) else type(item)
    if owner.__module__ != "__main__":
        return owner.__module__.rpartition(".")[2]
    return Path(str(getattr(sys.modules["__main__"], "__file__", "main"))).stem
