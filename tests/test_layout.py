"""The shape of the project: links, layers, sizes, names, what start-up imports."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

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
    "pruning/io/transformers_loading.py": "passes on what the user decided",
    "pruning/checkpoint/loading.py": "passes on what the user decided",
    "pruning/proof/proof_script.py": "runs the file that the cut has just written, in a process of its own",
    "prunepolicy/commands/prune/measure.py": "runs the file that the cut has just written",
    "prunepolicy/commands/evaluate/adaptive_bench.py": "passes on what the user decided",
}

PARSES = {"json.load", "json.loads", "yaml.load", "yaml.safe_load", "from_json"}
READS = {"read_text", "read_bytes", "model_validate_json", "validate_json"}
MAY_READ = {
    "pruning/io/bounded.py": "holds the bounds",
    "pruning/io/text_file.py": "passes on to them",
    "pruning/convnets/networks.py": "travels with models, without this package",
    "pruning/proof/proof_script.py": "runs without this package",
    "pruning/proof/proof.py": "reads the script that ships",
    "pruning/io/machine.py": "reads what the system says of itself",
    "prunepolicy/commands/submit/dump_folder_script.py": "runs without this package",
    "prunepolicy/commands/submit/ray_jobs.py": "reads the script that ships",
    "agents/thinking/lm/think_report.py": "reads what it has just written",
    "agents/thinking/bandit/report.py": "reads what it has just written",
    "agents/thinking/lm/trl_trainer.py": "reads what it has just written",
    "envs/thinking/isolated.py": "talks to a process of its own",
    "metanet/weight_network/weight_graph/architectures.py": "reads a key that it has just written",
}


def parsed(module: str) -> ast.Module:
    return ast.parse((ROOT / module).read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", LINKED)
def test_links_lead_to_the_sibling_folders(name: str) -> None:
    link = ROOT / "prunepolicy" / name
    # Where git makes no links, it writes the target into a file.
    assert (os.readlink(link) if link.is_symlink() else link.read_text()) == f"../{name}"
    assert (ROOT / name).is_dir()


def test_layers_import_downwards_only() -> None:
    # In a process of its own: it sets up logging anew, and loggers of this one would fall silent.
    call = "from importlinter.cli import lint_imports as lint; exit(lint(no_cache=True, no_logo=True))"
    found = subprocess.run([sys.executable, "-c", call], cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout


def test_no_two_classes_have_one_name() -> None:
    places: dict[str, list[str]] = {}
    for module in MODULES:
        for node in ast.walk(parsed(module)):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(module)
    assert {name: modules for name, modules in places.items() if len(modules) > 1} == {}


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
        if isinstance(node.func, ast.Attribute) and node.func.attr == "from_pretrained":
            assert "trust_remote_code" in {keyword.arg for keyword in node.keywords}
        for keyword in node.keywords:
            if keyword.arg == "trust_remote_code" and ast.unparse(keyword.value) != "False":
                assert module in MAY_TRUST


@pytest.mark.parametrize("module", MODULES)
def test_one_console_shows_values_as_they_are(module: str) -> None:
    if module == "pruning/io/console.py":
        return
    for node in ast.walk(parsed(module)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = {getattr(node, "module", None), *(alias.name for alias in node.names)}
            assert not names & {"rich", "rich.console", "rich.markup"}, "use prunepolicy.pruning.io.console"
        if isinstance(node, ast.keyword) and node.arg in ("markup", "emoji"):
            assert ast.unparse(node.value) == "False"
        if isinstance(node, ast.Attribute):
            assert node.attr not in ("from_markup", "from_ansi")
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "TextColumn":
            assert "markup" in {keyword.arg for keyword in node.keywords}


@pytest.mark.parametrize("module", sorted({*MODULES} - {*MAY_READ}))
def test_what_comes_from_outside_is_read_with_bounds(module: str) -> None:
    for node in ast.walk(parsed(module)):
        if not isinstance(node, ast.Call):
            continue
        assert ast.unparse(node.func) not in PARSES
        if isinstance(node.func, ast.Attribute) and node.func.attr in READS:
            assert ast.unparse(node.func.value) == "bounded"


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
    names = ("units", "plan", "keep_masks", "cost", "adapters", "checkpoint.checkpoint", "checkpoint.cut")
    loaded = modules_after("; ".join(f"import prunepolicy.pruning.{name}" for name in names))
    assert "transformers" not in loaded
    assert "numpy" in loaded


def imports_of(module: str) -> set[str]:
    """The modules of this package that a module imports anywhere, as paths."""
    found = set()
    for node in ast.walk(parsed(module)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("prunepolicy."):
            place = str(node.module).removeprefix("prunepolicy.").replace(".", "/")
            for name in (f"{place}/{alias.name}.py" for alias in node.names):
                found.add(name if name in MODULES else f"{place}.py")
    return found & {*MODULES}


@pytest.mark.parametrize("folder", ["agents", "pruning", "metanet", "envs"])
def test_no_module_of_a_folder_imports_itself_in_a_circle(folder: str) -> None:
    inside = {module for module in MODULES if module.startswith(f"{folder}/")}
    left = {module: imports_of(module) & inside for module in inside}
    while free := [module for module, needed in left.items() if not needed & left.keys()]:
        for module in free:
            del left[module]
    assert not left, f"in a circle, or above one: {sorted(left)}"
