"""Help in panels: what a user needs first stands first, and every option has its sentence."""

from __future__ import annotations

from typing import Any

import pytest
import typer

from prunepolicy.cli import app, main, prune_app
from prunepolicy.options import EVALUATION, IMAGES, OUTPUT, REPAIR, WHAT

PANELS = [WHAT, REPAIR, EVALUATION, IMAGES, OUTPUT]
ROOT: Any = typer.main.get_command(app)
PRUNE = typer.main.get_command(prune_app)


def groups_and_commands(command: Any, name: str) -> dict[str, Any]:
    found = {name: command}
    for child, each in getattr(command, "commands", {}).items():
        found |= groups_and_commands(each, f"{name} {child}")
    return found


COMMANDS = groups_and_commands(ROOT, "prunepolicy") | {"prune-with-policy": PRUNE}


def titles(text: str) -> list[str]:
    """Return the panels of a help text, in order."""
    return [line.strip("╭╮─ ") for line in text.splitlines() if line.startswith("╭─")]


@pytest.mark.parametrize("group", [[], ["zoo"]], ids=["prunepolicy", "zoo"])
@pytest.mark.parametrize("asked", [[], ["--help"]], ids=["bare", "asked"])
def test_a_group_alone_prints_its_help_and_all_is_well(
    group: list[str], asked: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*group, *asked]) == 0
    printed = capsys.readouterr()
    assert "Usage: " in printed.out
    assert not printed.err


def test_prune_is_the_first_command_and_the_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    assert next(iter(ROOT.commands)) == "prune"
    main(["--help"])
    printed = capsys.readouterr().out
    assert titles(printed) == ["Options", "Prune a model", "Evaluate a model", "Learned policies"]
    assert "prunepolicy prune smollm2-135m --keep 0.9 --out smaller/" in printed


@pytest.mark.parametrize("columns", ["80", "120"])
def test_prune_has_its_options_in_panels(
    columns: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert main(["prune", "--help"]) == 0
    printed = capsys.readouterr().out
    assert titles(printed) == ["Arguments", *PANELS]
    assert max(map(len, printed.splitlines())) <= int(columns)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_has_a_sentence(name: str) -> None:
    command = COMMANDS[name]
    assert command.help
    for option in command.params:
        assert option.help, option.name
        assert option.help.endswith((".", "…")), option.help
        assert option.help[0].isupper() or option.help.startswith(("lm-eval", "package")), option.help


@pytest.mark.parametrize(
    "name", [name for name, command in COMMANDS.items() if not hasattr(command, "commands")]
)
def test_every_command_shows_an_example(name: str) -> None:
    assert "[bold]Example" in COMMANDS[name].help
