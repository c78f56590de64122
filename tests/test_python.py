"""The front door: every public name is imported on first use, is documented, and does what is shown."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import prunepolicy
from prunepolicy import register
from prunepolicy.cli import main
from prunepolicy.pruning import plugins
from prunepolicy.pruning.criteria import criteria
from prunepolicy.pruning.errors import UsageError

DOCUMENT = (Path(__file__).parents[1] / "docs" / "python.md").read_text("utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)
RECIPE = """
algorithm: reinforce
policy: {kind: prunenet, samples: 2, length: 8}
learner: {samples: 2}
models: [my-model]
budgets: {of: ffn, keep: [0.75]}
max_steps: 1
evaluation: {every: 1, samples: 2, length: 16, baselines: [magnitude]}
"""
Model = Callable[..., str]


@pytest.fixture
def at_home(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with what the document's examples name."""
    (tmp_path / "my-model").symlink_to(model(max_position_embeddings=256))
    (tmp_path / "held_out.txt").write_text("It was a day like any other. " * 60, encoding="utf-8")
    (tmp_path / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def no_plugins(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Leave no plugin behind."""
    monkeypatch.setenv(plugins.VARIABLE, "")
    known = dict(criteria)
    yield
    for name in {*criteria} - {*known}:
        del criteria._items[name], sys.modules[name]
    plugins._loaded.clear()


def test_every_public_name_is_there_and_documented() -> None:
    for name in prunepolicy.__all__:
        assert getattr(prunepolicy, name).__doc__
        assert f"`{name}" in DOCUMENT, f"docs/python.md lacks {name}"
        assert name in dir(prunepolicy)
    with pytest.raises(AttributeError, match="no attribute 'prun'"):
        _ = prunepolicy.prun


def test_importing_the_package_imports_nothing_heavy() -> None:
    program = "import prunepolicy, sys; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


@pytest.mark.usefixtures("at_home")
def test_the_documents_examples_run() -> None:
    names: dict[str, Any] = {}
    for block in BLOCKS:
        if not block.startswith("# "):
            exec(block, names)
    assert names["again"].reached <= 0.76
    assert len(names["sizes"].rows) == 2


@pytest.mark.usefixtures("at_home", "no_plugins")
def test_a_criterion_in_a_file_of_ones_own_decides(tmp_path: Path) -> None:
    (block,) = (block for block in BLOCKS if block.startswith("# half_norm.py"))
    (tmp_path / "half_norm.py").write_text(block, encoding="utf-8")
    asked = ["plan", "my-model", "--keep", "0.75", "--of", "ffn", "--out", "plan.json"]
    assert main([*asked, "--policy", "half_norm"]) == 2
    assert main([*asked, "--policy", "half_norm", "--plugin", "half_norm.py"]) == 0
    assert main([*asked[:-1], "same.json", "--policy", "magnitude"]) == 0
    # A square root doesn't change an order.
    keep = [prunepolicy.Plan.load(file).keep for file in ("plan.json", "same.json")]
    assert keep[0] == keep[1]


@pytest.mark.usefixtures("no_plugins")
def test_plugins_that_cant_be_imported_are_refused_by_name(tmp_path: Path) -> None:
    for name, words in (("half-norm.py", "named like"), ("notes.txt", "named like"), ("none.py", "no file")):
        with pytest.raises(UsageError, match=words):
            plugins.add_plugin(tmp_path / name)
    (tmp_path / "broken.py").write_text("1 / 0\n", encoding="utf-8")
    with pytest.raises(prunepolicy.PrunePolicyError, match=r"broken.py failed: ZeroDivisionError"):
        plugins.add_plugin(tmp_path / "broken.py")
    (tmp_path / "json.py").touch()
    with pytest.raises(UsageError, match="rename the file"):
        plugins.add_plugin(tmp_path / "json.py")


def test_register_names_what_can_be_registered() -> None:
    for name in register.DECORATORS:
        assert callable(getattr(register, name))
    with pytest.raises(AttributeError, match="criterion"):
        _ = register.critereon
