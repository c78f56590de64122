"""Steps are counted, told in plain lines where nobody watches, and to callers as events."""

from __future__ import annotations

import io
import pickle
import re

import pytest

from prunepolicy.pruning.io import progress
from prunepolicy.pruning.io.console import Console
from prunepolicy.pruning.io.progress import Event, ProgressReporter

LONG = "repair: " + "x" * 40


def logged(width: int = 80, terminal: bool = False) -> tuple[ProgressReporter, io.StringIO]:
    file = io.StringIO()
    return ProgressReporter(Console(file=file, width=width, force_terminal=terminal)), file


def test_a_log_gets_plain_lines_and_few_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(1000))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(clock)))
    steps, file = logged()
    steps.outline(("plan", "cut"))
    with steps.part("cut"), steps.step("cut", 100) as tick:
        for _ in range(100):
            tick(1)
    lines = file.getvalue().splitlines()
    assert all(line.isprintable() for line in lines)
    assert re.fullmatch(r"  step 2 of 2: cut: \d+%, about \d+ s left", lines[0])
    assert re.fullmatch(r"✓ step 2 of 2: cut \(\d+\.0 s\)", lines[-1])
    assert 2 < len(lines) < 40


def test_a_line_is_as_long_as_the_names_in_it() -> None:
    steps, file = logged(width=40)
    with steps.step(f"[red] {LONG}") as step:
        step.remark = "reused"
    steps.note(f"/a/{'b' * 60}/c is there already.")
    assert file.getvalue() == f"✓ [red] {LONG} (reused)\n/a/{'b' * 60}/c is there already.\n"


def test_a_bar_shows_name_share_and_time_left_in_eighty_columns() -> None:
    steps, file = logged(terminal=True)
    steps.outline(["cut"] * 12)
    for _ in range(11):
        with steps.part("cut"):
            pass
    with steps.part("cut"), steps.step(LONG[:37], 4) as tick:
        tick(1)
    assert f"step 12 of 12: {LONG[:37]}" in re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", file.getvalue())
    assert "25%" in file.getvalue()
    assert "…" not in file.getvalue()


def test_callers_hear_of_beginning_progress_and_end() -> None:
    heard: list[Event] = []
    progress = ProgressReporter.of(heard.append)
    with progress.step("read"), progress.silence(), progress.step("secret"):
        pass
    with progress.step("cut", 4) as tick:
        tick(3)
    assert [(event.step, event.share, event.ended) for event in heard] == [
        ("read", None, False),
        ("read", None, True),
        ("cut", 0.0, False),
        ("cut", 0.75, False),
        ("cut", 0.75, True),
    ]
    assert heard[0].left is heard[2].left is heard[0].number is None
    assert heard[3].left is not None


def test_true_tells_standard_error_and_false_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    for told in (False, True):
        with ProgressReporter.of(told).step("read"):
            pass
    out, err = capsys.readouterr()
    assert (out, err.count("read")) == ("", 1)


def test_parts_are_counted_in_order_and_unknown_ones_not_at_all() -> None:
    heard: list[Event] = []
    progress = ProgressReporter.of(heard.append)
    with progress.part("early"), progress.step("unknown"):
        pass
    progress.outline(("plan", "cut", "plan", "cut"))
    for name in ("plan", "cut", "cut"):
        with progress.part(name), progress.step(name):
            pass
    ended = [event.title for event in heard if event.ended]
    assert ended == ["unknown", "step 1 of 4: plan", "step 2 of 4: cut", "step 4 of 4: cut"]


def test_it_travels_silent() -> None:
    steps, _ = logged()
    assert pickle.loads(pickle.dumps(steps)).console.quiet
