"""Help, documents, reports and error sentences use the field's words: the old dialect doesn't come back."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer

from prunepolicy.agents.recovery.facts import RecoveryFacts
from prunepolicy.cli import app, prune_app
from prunepolicy.commands.report.card import card
from prunepolicy.commands.report.report import PruneReport
from prunepolicy.commands.report.report_view import render
from prunepolicy.pruning.io.console import Console
from prunepolicy.pruning.units import KIND_NAMES

ROOT = Path(__file__).resolve().parent.parent
GLOSSARY = ROOT / "docs" / "glossary.md"
GONE = {
    "watch": r"watch(e[sd]|ing)?",
    "judge": r"judg(e[sd]?|ing|e?ments?)",
    "told": r"told(?! apart)",
    "heard": r"heard",
    "crew": r"crews?",
    "likeliest": r"likeliest",
    "beginner": r"beginners?",
    "emphases": r"emphases",
    "examine, examination": r"examin(e[sd]?|ing|ations?)",
    "course": r"(?<!of )courses?",
    "anew": r"anew",
    "dealt": r"dealt",
    "taught": r"taught",
    "vouch": r"vouch(e[sd]|ing)?",
    "has its say": r"has its say",
    "feed-forward channels": r"feed-forward channels?",
    "key/value heads": r"key/value heads?",
    "operations per token": r"operations per (token|image)",
    "reading N tokens, writing one token": r"(reading \d+ tokens|writing one token)",
    "passes of learning": r"passes of learning",
}
OLD = re.compile(rf"\b({'|'.join(GONE.values())})\b", re.IGNORECASE)
DOCUMENTS = sorted(
    file
    for file in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md"))
    if file != GLOSSARY
)
CODE = re.compile(r"^```python\n.*?^```$|`[^`\n]+`", re.MULTILINE | re.DOTALL)
"""Names in a document, such as old configuration keys and the program's own; not its words."""
FOLDERS = ("prunepolicy", "agents", "envs", "metanet", "policy", "pruning")
MODULES = sorted(file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py"))
MIGRATES = {"prunepolicy/commands/report/report.py": "knows the names that earlier versions stored"}


def found(text: str) -> list[str]:
    """Return the old words in a text, each with what is around it."""
    return [text[max(0, hit.start() - 40) : hit.end() + 40].replace("\n", " ") for hit in OLD.finditer(text)]


def where(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    yield name, command
    for child, each in getattr(command, "commands", {}).items():
        yield from commands(each, f"{name} {child}")


COMMANDS = dict(commands(typer.main.get_command(app), "prunepolicy"))
COMMANDS["prune-with-policy"] = typer.main.get_command(prune_app)


def sentences(module: Path) -> Iterator[tuple[int, str]]:
    """Yield the sentences in a module's strings (errors, progress, tables, help) with their lines.

    Docstrings aren't for users; a string without a space is a name or a key.
    """
    tree = ast.parse(module.read_text(encoding="utf-8"))
    silent = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in silent:
            if " " in node.value:
                yield node.lineno, node.value


@pytest.mark.parametrize("name", COMMANDS)
def test_help_uses_the_fields_words(name: str) -> None:
    command = COMMANDS[name]
    texts = [command.help or "", *(getattr(option, "help", None) or "" for option in command.params)]
    assert not found("\n".join(texts))


@pytest.mark.parametrize("document", DOCUMENTS, ids=where)
def test_documents_use_the_fields_words(document: Path) -> None:
    assert not found(CODE.sub("", document.read_text(encoding="utf-8")))


@pytest.mark.parametrize("module", [file for file in MODULES if where(file) not in MIGRATES], ids=where)
def test_sentences_in_the_code_use_the_fields_words(module: Path) -> None:
    assert not [(line, hit) for line, text in sentences(module) for hit in found(text)]


def test_reports_and_cards_use_the_fields_words(report: PruneReport, tmp_path: Path) -> None:
    learned = RecoveryFacts("2 epochs", 64, 65_536, 60.0, before=0.7, after=0.4, kept=64)
    measured = replace(report, origin=replace(report.origin, reused=("statistics",)), recoveries=(learned,))
    with (tmp_path / "screen.txt").open("w", encoding="utf-8") as file:
        render(measured, Console(file=file, width=120))
    screen = (tmp_path / "screen.txt").read_text(encoding="utf-8")
    text = card(measured)
    assert not found(text + screen)
    for words in ("FLOPs per token", "KV cache per token", "Prefill (512 tokens)", "Decode (per token)"):
        assert words in text, words
        assert words in screen, words
    assert "knowledge distillation" in text
    assert KIND_NAMES["ffn"] in text


def test_the_glossary_lists_the_words_that_are_searched_for() -> None:
    rows = re.findall(r"^\| ([^|]+) \| [^|]+ \|$", GLOSSARY.read_text(encoding="utf-8"), re.MULTILINE)
    assert [row for row in rows if row not in ("gone",) and not row.startswith("---")] == list(GONE)
    assert len(GONE) == 20
    for words, pattern in GONE.items():
        for word in words.split(", "):
            assert re.fullmatch(pattern, word.replace(" N ", " 128 "), re.IGNORECASE), word


def test_the_search_finds_what_it_searches_for(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    lines = (
        '"""Watch."""',
        'raise UsageError(f"Nothing was {what} and watched.")',
        'step("so judge")',
        'k = "judge"',
    )
    module.write_text("\n".join(lines))
    assert {hit for _, text in sentences(module) for hit in found(text)} == {" and watched.", "so judge"}
    assert not found("Of course, this clause says nothing of the kind.")
