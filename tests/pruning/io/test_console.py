"""Whatever something is called, the terminal shows that name."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.table import Table

from prunepolicy.cli import main
from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.io.console import Console, styled
from prunepolicy.pruning.io.progress import ProgressReporter

Make = Callable[..., Checkpoint]
NAMES = ["exp [red]", "[/b]", "a[link=x]y", "[", "run]7[", ":smile:", "a[@click=app.bell]b", "tail\\"]


@pytest.fixture(params=[False, True], ids=["log", "terminal"])
def console(request: pytest.FixtureRequest) -> Console:
    return Console(file=io.StringIO(), width=200, force_terminal=request.param, color_system=None)


def shown(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("name", NAMES)
def test_names_are_shown_as_they_are_everywhere(name: str, console: Console) -> None:
    progress, table = ProgressReporter(console), Table(name, title=f"the title {name}")
    table.add_row(f"the cell {name}")
    console.print(f"the line {name}", table, styled(("the text ", "bold"), name))
    with progress.step(f"the step {name}", total=1) as advance:
        advance(1)
    progress.note(f"the note {name}")
    for place in ("title", "cell", "line", "text", "step", "note"):
        assert f"the {place} {name}" in shown(console)


def test_nothing_that_is_shown_moves_the_cursor(console: Console) -> None:
    name, table = "a\x1b[2Jb\x9bc\rd\udcffe", Table("heading")
    table.add_row(name)
    console.print(name, table, styled((name, "red"), name))
    console.show_cursor()
    assert shown(console).count("a[2Jbcde") == 4
    assert "\x1b[2J" not in shown(console)


@pytest.mark.parametrize("name", ["sweep [/lr]1", "exp [red] :smile:"])
def test_a_command_shows_the_folder_that_it_was_given(
    name: str, tiny_checkpoint: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / name
    place.parent.mkdir(exist_ok=True)
    tiny_checkpoint().folder.rename(place)
    request = ["--keep", "0.8", "--policy", "magnitude", "--out", str(place / "plan.json")]
    assert main(["plan", str(place), *request]) == 0
    assert main(["doctor", str(place)]) == 0
    said = capsys.readouterr().out.replace("\n", "")
    assert said.count(str(place)) >= 3
    assert main(["doctor", f"{place}-{name}"]) == 1
    assert f"{place}-{name}" in capsys.readouterr().err


@pytest.mark.parametrize("width", [30, 60, 80])
def test_tables_break_prose_and_no_name(width: int) -> None:
    folder = "/a/rather/long/path/that/somebody/copies/keep-0.9"
    table = Table("keep", "what it is", "folder", box=None)
    table.add_row("0.9", "prose that may be broken over lines, since nobody copies it", folder)
    console = Console(file=io.StringIO(), width=width)
    console.print(table)
    assert all(word in shown(console) for word in ("0.9", "broken", folder))
    assert "…" not in shown(console)
    if width == 80:
        assert max(map(len, shown(console).splitlines())) <= 80
