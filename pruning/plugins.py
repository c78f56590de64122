"""Components from elsewhere: installed packages that offer them, and files that the user names."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path

from prunepolicy.pruning.errors import PrunePolicyError, UsageError

GROUP = "prunepolicy.plugins"
"""Entry-point group; an entry names a module whose import registers components."""
VARIABLE = "PRUNEPOLICY_PLUGINS"
"""Environment variable with Python files, separated as in PATH; worker processes inherit it."""
_loaded: set[str] = set()


def add_plugin(file: Path) -> None:
    """Import `file`, here and in processes that are started from here.

    Raises:
        UsageError: when it is no Python file, or its name can't be a component's.
    """
    if file.suffix != ".py" or not file.stem.isidentifier():
        raise UsageError(f"A plugin is a Python file named like its component, such as mine.py; got {file}.")
    if not file.is_file():
        raise UsageError(f"There is no file {file} to import as a plugin.")
    files = [*_files(), str(file.resolve())]
    os.environ[VARIABLE] = os.pathsep.join(dict.fromkeys(files))
    load_plugins()


def load_plugins() -> None:
    """Import every plugin that hasn't been imported yet.

    Raises:
        PrunePolicyError: when one can't be imported; nothing goes on without what the user asked for.
    """
    for entry in entry_points(group=GROUP):
        _load_once(f"the plugin {entry.name} ({entry.value})", entry.load)
    for file in _files():
        _load_once(f"the plugin {file}", lambda file=file: _import_file(Path(file)))  # type: ignore[misc]


def _files() -> list[str]:
    return [file for file in os.environ.get(VARIABLE, "").split(os.pathsep) if file]


def _load_once(what: str, load: Callable[[], object]) -> None:
    if what in _loaded:
        return
    _loaded.add(what)  # before it is imported: it may look into registries itself
    try:
        load()
    except PrunePolicyError:
        raise
    except Exception as error:
        raise PrunePolicyError(f"Importing {what} failed: {type(error).__name__}: {error}.") from error


def _import_file(file: Path) -> None:
    """Import a file under its own name, which components take from it."""
    name = file.stem
    spec = importlib.util.spec_from_file_location(name, file)
    if name in sys.modules or spec is None or spec.loader is None:
        raise UsageError(f"The plugin {file} is called like a module that is there already; rename the file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
