"""The shape of the project: links, wheel, layers, sizes, names, what start-up imports."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import get_args

import pytest

from prunepolicy.policy.zoo.index import FileName

ROOT = Path(__file__).resolve().parent.parent
LINKED = ("agents", "configs", "envs", "metanet", "policy", "pruning")
MODULES = sorted(
    file.relative_to(ROOT).as_posix()
    for folder in ("prunepolicy", *LINKED)
    for file in (ROOT / folder).rglob("*.py")
)
BANNED_NAMES = {"utils", "common", "helpers", "misc", "manager"}
HEAVY = {"torch", "transformers", "torch_geometric", "stable_baselines3", "ray", "matplotlib"}
RUNS_CODE = {"eval", "exec", "pickle.load", "pickle.loads", "torch.load"}
MAY_TRUST = {
    "pruning/transformers_loading.py": "passes on what the user decided",
    "pruning/proof_script.py": "runs the file that the cut has just written, in a process of its own",
    "agents/prune/quality.py": "runs the file that the cut has just written",
}

SHIPPED = [f"shipped/tiny-graph.v1/{file}" for file in get_args(FileName)]
"""A policy as it would lie among those that ship."""


def parsed(module: str) -> ast.Module:
    return ast.parse((ROOT / module).read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", LINKED)
def test_links_lead_to_the_sibling_folders(name: str) -> None:
    link = ROOT / "prunepolicy" / name
    assert link.is_symlink(), f"{link} is no link: clone with `git config core.symlinks true`"
    assert os.readlink(link) == f"../{name}"
    assert link.resolve() == ROOT / name
    assert (ROOT / name).is_dir()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The names of the files in a wheel, built from a copy so that nothing is left in the repository."""
    source = tmp_path_factory.mktemp("source")
    for folder in ("prunepolicy", *LINKED):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, source / folder, symlinks=True, ignore=ignored)
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source)
    for file in SHIPPED:
        (source / "policy" / file).parent.mkdir(exist_ok=True)
        (source / "policy" / file).touch()
    build = "from setuptools.build_meta import build_wheel; build_wheel('dist')"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True)
    (path,) = (source / "dist").glob("*.whl")
    return set(zipfile.ZipFile(path).namelist())


def test_the_wheel_holds_every_file_of_the_packages_and_nothing_else(wheel: set[str]) -> None:
    expected = {"prunepolicy/__init__.py", "prunepolicy/py.typed"}
    expected |= {f"prunepolicy/policy/{file}" for file in SHIPPED}
    expected |= {module for module in MODULES if module.startswith("prunepolicy/")}
    for folder in LINKED:
        files = (file.relative_to(ROOT) for file in (ROOT / folder).rglob("*") if file.is_file())
        expected |= {
            f"prunepolicy/{file.as_posix()}"
            for file in files
            if file.suffix != ".pyc" and not file.name.startswith(".")
        }
    assert {name for name in wheel if ".dist-info/" not in name} == expected
    assert any(name.endswith("LICENSE") for name in wheel)


def test_layers_import_downwards_only() -> None:
    # In a process of its own: it sets up logging anew, and loggers of this one would fall silent.
    call = "from importlinter.cli import lint_imports as lint; exit(lint(no_cache=True, no_logo=True))"
    found = subprocess.run([sys.executable, "-c", call], cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize("module", MODULES)
def test_modules_are_short_and_named_for_what_they_do(module: str) -> None:
    path = ROOT / module
    assert not BANNED_NAMES & {*path.relative_to(ROOT).parent.parts, path.stem}
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400
    for node in ast.walk(parsed(module)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            assert lines <= 60, f"{node.name} has {lines} lines"


@pytest.mark.parametrize("module", MODULES)
def test_no_module_runs_code_that_came_as_data(module: str) -> None:
    for node in ast.walk(parsed(module)):
        if not isinstance(node, ast.Call):
            continue
        assert ast.unparse(node.func) not in RUNS_CODE
        for keyword in node.keywords:
            if keyword.arg == "trust_remote_code" and ast.unparse(keyword.value) != "False":
                assert module in MAY_TRUST


def modules_after(statements: str) -> set[str]:
    """The top-level packages that a fresh process holds after running `statements`."""
    report = "; import json, sys; print(json.dumps(list(sys.modules)), file=sys.stderr)"
    run = subprocess.run(
        [sys.executable, "-c", statements + report], check=True, capture_output=True, text=True
    )
    return {name.split(".")[0] for name in json.loads(run.stderr.splitlines()[-1])}


@pytest.mark.parametrize(
    "program",
    [
        "import prunepolicy",
        "from prunepolicy.cli import main; assert main(['--help']) == 0",
        "from prunepolicy.cli import main; assert main(['prune', '--help']) == 0",
        "from prunepolicy.cli import main; assert main(['policies', '--help']) == 0",
        "from prunepolicy.cli import main; assert main(['zoo', 'pull', '--help']) == 0",
        "from prunepolicy.cli import prune_main; assert prune_main(['--help']) == 0",
    ],
)
def test_start_up_imports_nothing_heavy(program: str) -> None:
    loaded = modules_after(program)
    assert "prunepolicy" in loaded
    assert not loaded & HEAVY


def test_unit_graphs_and_plans_need_no_transformers() -> None:
    names = ("units", "plan", "keep_masks", "cost", "adapters", "checkpoint", "cut")
    loaded = modules_after("; ".join(f"import prunepolicy.pruning.{name}" for name in names))
    assert "transformers" not in loaded
    assert "numpy" in loaded
