"""Five ways to install the project, each into an environment of its own: which of its modules are there."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import stat
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
import zipfile
from pathlib import Path

from prunepolicy.pruning.io.atomic import write_text
from prunepolicy.pruning.io.machine import versions

ROOT = Path(__file__).resolve().parents[2]
RESULT = Path(__file__).parents[1] / "results" / "installs.json"
FOLDERS = ("agents", "configs", "envs", "metanet", "policy", "pruning")
FILES = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE")
WAYS = ("wheel", "sdist", "zip archive", "clone without links", "editable install of it")
LOOK = """
import importlib.util, json, sys
import prunepolicy.commands.prune.job
from prunepolicy.agents.runtime.settings import SHIPPED
from prunepolicy.policy.load import load_policy
load_policy("default")
missing = [name for name in json.loads(sys.argv[1]) if importlib.util.find_spec(name) is None]
print(json.dumps([missing, sorted(file.name for file in SHIPPED.iterdir()), prunepolicy.__file__]))
"""
"""Run by the interpreter that the project was installed for."""


def cloned(source: Path) -> Path:
    """Copy the project into an empty folder, so that nothing is built in the repository."""
    for folder in ("prunepolicy", *FOLDERS):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, source / folder, symlinks=True, ignore=ignored)
    for file in FILES:
        shutil.copy(ROOT / file, source)
    return source


def without_links(clone: Path, source: Path) -> Path:
    """Copy a clone as git writes it where links aren't allowed: a link is a file that names its target."""
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


def zipped(source: Path, archive: Path) -> Path:
    """Pack a clone as `git archive` does: links are entries that hold their target and say what they are."""
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
    """Return every module of the project by its import name."""
    names = [file.relative_to(ROOT) for folder in FOLDERS for file in (ROOT / folder).rglob("*.py")]
    dotted = ["prunepolicy", *(".".join(("prunepolicy", *name.with_suffix("").parts)) for name in names)]
    return sorted({name.removesuffix(".__init__") for name in dotted})


def installed(way: str, clone: Path, scratch: Path) -> Path:
    """Install in one of the ways beside this interpreter's libraries, and return the new interpreter."""
    what: tuple[str | Path, ...]
    match way:
        case "wheel" | "sdist":
            what = (built(clone, way),)
        case "zip archive":
            what = (zipped(clone, scratch / "archive.zip"),)
        case "clone without links":
            what = (without_links(clone, scratch / "linkless"),)
        case _:
            what = ("--editable", without_links(clone, scratch / "linkless"))
    venv.create(scratch / "venv", symlinks=True)
    (packages,) = (scratch / "venv").glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    python = scratch / "venv" / "bin" / "python"
    flags = ("--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--ignore-installed")
    command = [python, "-I", "-m", "pip", "install", *flags, *what]
    subprocess.run(command, cwd=scratch, check=True, capture_output=True)
    return python


def look(python: Path, scratch: Path) -> tuple[list[str], list[str], str]:
    """Return the modules that an interpreter lacks, the clusters it knows, and where it has the package."""
    command = [python, "-I", "-c", LOOK, json.dumps(modules())]
    done = subprocess.run(command, cwd=scratch, check=True, capture_output=True, text=True)
    missing, clusters, place = json.loads(done.stdout)
    return missing, clusters, place


def main() -> None:
    """Install in every way and write what is there."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    rows = []
    for way in WAYS:
        with tempfile.TemporaryDirectory() as folder:
            scratch, began = Path(folder), time.monotonic()
            (scratch / "clone").mkdir()
            missing, _, _ = look(installed(way, cloned(scratch / "clone"), scratch), scratch)
            seconds = time.monotonic() - began
        found = len(modules()) - len(missing)
        rows.append({"way": way, "modules": len(modules()), "found": found, "seconds": round(seconds, 1)})
        print(rows[-1], flush=True)
    data = {"versions": versions("prunepolicy", "setuptools", "pip"), "rows": rows}
    write_text(RESULT, json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    main()
