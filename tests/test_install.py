"""Every way to install the project gives the same whole package: links in the checkout or none."""

from __future__ import annotations

import sys
import tarfile
import zipfile
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from typing import get_args

import pytest

from prunepolicy.policy.zoo.index import FileName

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks" / "measure"))

from installs import FOLDERS, WAYS, built, cloned, installed, look

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = [f"shipped/tiny-graph.v1/{file}" for file in get_args(FileName)]
"""A policy as it would lie among those that ship."""


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = cloned(tmp_path_factory.mktemp("clone"))
    for file in SHIPPED:
        (source / "policy" / file).parent.mkdir(exist_ok=True)
        (source / "policy" / file).touch()
    return source


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_install_gives_the_whole_package(way: str, clone: Path, tmp_path: Path) -> None:
    missing, clusters, place = look(installed(way, clone, tmp_path), tmp_path)
    assert not missing
    assert {file.name for file in (ROOT / "configs" / "cluster").glob("*.yaml")} <= set(clusters)
    assert Path(place).is_relative_to(tmp_path)


@pytest.fixture(scope="module")
def wheel(clone: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(built(clone, "wheel"))


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> Message:
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return message_from_bytes(wheel.read(name))


def test_the_wheel_holds_every_file_of_the_packages_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    expected = {"prunepolicy/py.typed", *(f"prunepolicy/policy/{file}" for file in SHIPPED)}
    own = [*(ROOT / "prunepolicy").glob("*.py"), *(ROOT / "prunepolicy" / "commands").rglob("*.py")]
    expected |= {file.relative_to(ROOT).as_posix() for file in own}
    for folder in FOLDERS:
        files = (file.relative_to(ROOT) for file in (ROOT / folder).rglob("*") if file.is_file())
        expected |= {
            f"prunepolicy/{file.as_posix()}"
            for file in files
            if file.suffix != ".pyc" and not file.name.startswith(".")
        }
    assert {name for name in wheel.namelist() if ".dist-info/" not in name} == expected
    assert any(name.endswith("LICENSE") for name in wheel.namelist())


def test_the_package_index_learns_who_made_what_for_whom(metadata: Message) -> None:
    assert metadata["Author"]
    assert metadata["Keywords"]
    assert "Programming Language :: Python :: 3.11" in metadata.get_all("Classifier", [])
    assert {"Repository", "Changelog", "Issues"} <= {
        line.split(",")[0] for line in metadata.get_all("Project-URL", [])
    }


def test_links_of_the_readme_work_where_there_is_no_repository(metadata: Message) -> None:
    page = str(metadata.get_payload())
    targets = [part.split(")")[0] for part in page.split("](")[1:]]
    assert targets
    assert all(target.startswith("https://") for target in targets)


def test_the_sdist_carries_no_tests_that_could_not_run(clone: Path) -> None:
    with tarfile.open(built(clone, "sdist")) as packed:
        names = [name.split("/", 1)[-1] for name in packed.getnames()]
    assert "setup.py" in names
    assert not [name for name in names if name.startswith("tests/")]
