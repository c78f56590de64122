"""What README shows is there, and what it tells to type runs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
DEMO_MODEL = "smollm2-135m"
Make = Callable[..., Checkpoint]


def blocks(language: str) -> list[str]:
    return [text for found, text in BLOCK.findall(README) if found == language]


def paths_in_tree(tree: str) -> Iterator[str]:
    """Yield the path on every line of a file tree, where indented names belong to the folder above."""
    folders: list[tuple[int, str]] = []
    for line in tree.splitlines():
        entry = re.search(r"[\w.][\w./*-]*", line)
        if entry is None:
            continue
        while folders and folders[-1][0] >= entry.start():
            folders.pop()
        path = (folders[-1][1] if folders else "") + entry[0]
        if path.endswith("/"):
            folders.append((entry.start(), path))
        yield path


def test_the_file_tree_lists_only_what_is_there() -> None:
    trees = [text for text in blocks("") + blocks("text") if re.search(r"^\W*pruning/", text, re.MULTILINE)]
    assert trees, "README has no file tree"
    missing = [path for tree in trees for path in paths_in_tree(tree) if not any(ROOT.glob(path.rstrip("/")))]
    assert not missing


def test_nested_trees_are_read_as_paths() -> None:
    tree = "pruning/   what\n├── units.py  x\n└── adapters/\n    └── base.py\ntests/\n"
    assert list(paths_in_tree(tree)) == [
        "pruning/",
        "pruning/units.py",
        "pruning/adapters/",
        "pruning/adapters/base.py",
        "tests/",
    ]


def test_the_python_snippet_prunes(
    tiny_checkpoint: Make, byte_tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snippets = blocks("python")
    assert snippets, "README has no Python snippet"
    # The same program, on a network of the same architecture that takes no minutes.
    tiny = tiny_checkpoint("llama", intermediate_size=512, vocab_size=len(byte_tokenizer))
    byte_tokenizer.save_pretrained(tiny.folder)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for snippet in snippets:
        exec(snippet.replace(DEMO_MODEL, str(tiny.folder)), names)
    results = [file.parent for file in tmp_path.glob("*/config.json") if file.parent != tiny.folder]
    assert results, "the snippet wrote no model"
    assert all(Checkpoint.open(folder).nbytes < tiny.nbytes for folder in results)
