"""A registry fills itself from its package, and helps with names."""

from __future__ import annotations

import importlib
import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.registry import Registry

NAMES = (f"components_{number}" for number in itertools.count())
SHAPE = "from {package}.registry import shapes\n\n@shapes.register\ndef {name}():\n    return {corners}\n"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package with a registry of its own and the components `square` and `triangle`."""
    folder = tmp_path / next(NAMES)
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "registry.py").write_text(
        f"from prunepolicy.pruning.registry import Registry\nshapes = Registry('shape', {folder.name!r})\n"
    )
    for name, corners in (("square", 4), ("triangle", 3)):
        (folder / f"{name}.py").write_text(SHAPE.format(package=folder.name, name=name, corners=corners))
    monkeypatch.syspath_prepend(str(tmp_path))
    yield folder
    for module in [name for name in sys.modules if name.split(".")[0] == folder.name]:
        del sys.modules[module]


def registry_of(package: Path) -> Registry[Callable[[], int]]:
    registry: Registry[Callable[[], int]] = importlib.import_module(f"{package.name}.registry").shapes
    return registry


def test_components_are_imported_on_first_use_and_not_before(package: Path) -> None:
    shapes = registry_of(package)
    assert f"{package.name}.square" not in sys.modules
    assert list(shapes) == ["square", "triangle"]
    assert shapes["square"]() == 4
    assert len(shapes) == 2


def test_a_new_file_is_a_new_component(package: Path) -> None:
    (package / "pentagon.py").write_text(SHAPE.format(package=package.name, name="pentagon", corners=5))
    shapes = registry_of(package)
    assert "pentagon" in shapes
    assert shapes["pentagon"]() == 5


def test_an_unknown_name_suggests_the_nearest(package: Path) -> None:
    shapes = registry_of(package)
    assert "squares" not in shapes
    with pytest.raises(
        UsageError, match=r"Unknown shape 'squares'\. Did you mean 'square'\? Known: square, triangle"
    ):
        shapes["squares"]


def test_two_components_in_one_file_are_refused(package: Path) -> None:
    with open(package / "square.py", "a") as file:
        file.write("\n@shapes.register\ndef other_square():\n    return 4\n")
    with pytest.raises(ValueError, match="shape 'square' is registered twice"):
        list(registry_of(package))


def test_a_broken_component_is_not_swallowed(package: Path) -> None:
    (package / "broken.py").write_text("import a_module_that_nobody_has\n")
    with pytest.raises(ModuleNotFoundError, match="a_module_that_nobody_has"):
        list(registry_of(package))
