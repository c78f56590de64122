"""The documentation site builds strictly, and has a page for every document and every public name."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import prunepolicy

ROOT = Path(__file__).parents[1]


def test_the_site_builds_strictly(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    reference = (tmp_path / "api" / "index.html").read_text("utf-8")
    for name in {*prunepolicy.__all__} - {"register"}:
        assert f".{name}" in reference, f"docs/api.md lacks {name}"


def test_every_document_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text("utf-8")
    for document in (ROOT / "docs").rglob("*.md"):
        assert f": {document.relative_to(ROOT / 'docs').as_posix()}\n" in navigation, document
