"""Every way to install the project gives the same whole package: links in the checkout or none."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from collections.abc import Callable
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from typing import get_args

import pytest

from prunepolicy.policy.zoo.index import FileName

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("agents", "configs", "envs", "metanet", "policy", "pruning")
FILES = (
    "pyproject.toml",
    "setup.py",
    "MANIFEST.in",
    "README.md",
    "LICENSE",
    "CHANGELOG.md",
    "constraints.txt",
)
SHIPPED = [f"shipped/tiny-graph.v1/{file}" for file in get_args(FileName)]
"""A policy as it would lie among those that ship."""
LOOK = """
import importlib.util, json, sys
import prunepolicy.agents.prune.job
from prunepolicy.agents.cluster.settings import SHIPPED
from prunepolicy.policy.load import load_policy
load_policy("default")
missing = [name for name in json.loads(sys.argv[1]) if importlib.util.find_spec(name) is None]
print(json.dumps([missing, sorted(file.name for file in SHIPPED.iterdir()), prunepolicy.__file__]))
"""


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project, so that nothing is built in the repository."""
    source = tmp_path_factory.mktemp("clone")
    for folder in ("prunepolicy", *FOLDERS):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, source / folder, symlinks=True, ignore=ignored)
    for file in FILES:
        shutil.copy(ROOT / file, source)
    for file in SHIPPED:
        (source / "policy" / file).parent.mkdir(exist_ok=True)
        (source / "policy" / file).touch()
    return source


@pytest.fixture(scope="module")
def without_links(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, as git writes it where links aren't allowed: a link is a file that names its target."""
    source = tmp_path_factory.mktemp("without_links")
    shutil.copytree(clone, source, symlinks=True, dirs_exist_ok=True)
    for folder in FOLDERS:
        link = source / "prunepolicy" / folder
        link.unlink()
        link.write_text(f"../{folder}")
    return source


def built(source: Path, kind: str) -> Path:
    """Build a `wheel` or an `sdist` without the network."""
    program = f"from setuptools.build_meta import build_{kind} as build; build('dist')"
    subprocess.run([sys.executable, "-c", program], cwd=source, check=True, capture_output=True)
    (path,) = (source / "dist").glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return path


def zipped(source: Path) -> Path:
    """Pack a clone as `git archive` does: links are entries that hold their target and say what they are."""
    archive = source.parent / "archive.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for path in sorted(source.rglob("*")):
            entry = zipfile.ZipInfo(f"prunepolicy-main/{path.relative_to(source).as_posix()}")
            if path.is_symlink():
                entry.external_attr = (stat.S_IFLNK | 0o755) << 16
                packed.writestr(entry, os.readlink(path))
            elif path.is_file():
                packed.writestr(entry, path.read_bytes())
    return archive


def modules() -> list[str]:
    """Every module of the project by its import name."""
    names = [file.relative_to(ROOT) for folder in FOLDERS for file in (ROOT / folder).rglob("*.py")]
    dotted = ["prunepolicy", *(".".join(("prunepolicy", *name.with_suffix("").parts)) for name in names)]
    return sorted({name.removesuffix(".__init__") for name in dotted})


@pytest.fixture
def installed(tmp_path: Path) -> Callable[..., Path]:
    """A function that installs into an environment of its own, beside this one's dependencies."""

    def install(*what: str | Path) -> Path:
        environment = tmp_path / "venv"
        venv.create(environment, symlinks=True)
        (packages,) = environment.glob("lib/python*/site-packages")
        (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
        python = environment / "bin" / "python"
        flags = ("--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--ignore-installed")
        command = [python, "-m", "pip", "install", *flags, *what]
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
        return python

    return install


@pytest.mark.parametrize("way", ["wheel", "sdist", "zip archive", "clone without links", "editable"])
def test_every_way_to_install_gives_the_whole_package(
    way: str, clone: Path, without_links: Path, installed: Callable[..., Path], tmp_path: Path
) -> None:
    match way:
        case "wheel" | "sdist":
            python = installed(built(clone, way))
        case "zip archive":
            python = installed(zipped(clone))
        case "clone without links":
            python = installed(without_links)
        case _:
            python = installed("--editable", without_links)
    done = subprocess.run(
        [python, "-c", LOOK, json.dumps(modules())], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    missing, clusters, place = json.loads(done.stdout)
    assert not missing
    assert {file.name for file in (ROOT / "configs" / "cluster").glob("*.yaml")} <= set(clusters)
    assert Path(place).is_relative_to(without_links if way == "editable" else tmp_path)


@pytest.fixture(scope="module")
def wheel(clone: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(built(clone, "wheel"))


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> Message:
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return message_from_bytes(wheel.read(name))


def test_the_wheel_holds_every_file_of_the_packages_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    expected = {"prunepolicy/py.typed", *(f"prunepolicy/policy/{file}" for file in SHIPPED)}
    expected |= {file.relative_to(ROOT).as_posix() for file in (ROOT / "prunepolicy").glob("*.py")}
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
