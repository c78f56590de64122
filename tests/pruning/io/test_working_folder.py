"""What is prepared beside an output is the project's own, and nothing else there is touched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.io import atomic
from prunepolicy.pruning.io.atomic import check_target, publish, write_text
from prunepolicy.pruning.io.claim import claim, release
from prunepolicy.pruning.io.working_folder import MARK, REPLACED, discard, left_behind, working_folder


def prepared(target: Path, text: str) -> Path:
    folder = working_folder(target)
    folder.mkdir(exist_ok=True)
    (folder / "file").write_text(text)
    return folder


def test_folders_without_a_mark_are_somebody_elses(tmp_path: Path) -> None:
    target, theirs = tmp_path / "out", [tmp_path / "out.partial", tmp_path / "out.0a1b2c3d.partial"]
    for folder in theirs:
        folder.mkdir()
        (folder / "mine").write_text("precious")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out.11111111.partial").symlink_to("elsewhere")
    (tmp_path / "elsewhere" / MARK).write_text(json.dumps({"prepares": "out"}))
    check_target(target, overwrite=True)
    publish(prepared(target, "new"), target)
    discard(target)
    assert all((folder / "mine").read_text() == "precious" for folder in theirs)
    assert (tmp_path / "elsewhere" / MARK).is_file()
    assert (target / "file").read_text() == "new"


@pytest.mark.parametrize("can_swap", [True, False])
def test_what_was_there_is_replaced_and_nothing_is_left(
    can_swap: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not can_swap:
        monkeypatch.setattr(atomic, "exchange", lambda first, second: False)
    for text in ("old", "new"):
        publish(prepared(tmp_path / "out", text), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["file"]
    assert (tmp_path / "out" / "file").read_text() == "new"


def test_an_interrupted_run_is_found_again_and_older_ones_are_cleared(tmp_path: Path) -> None:
    target = tmp_path / "out"
    first = prepared(target, "latest")
    older = tmp_path / "out.00000000.partial"
    older.mkdir()
    (older / MARK).write_text((first.parent / MARK).read_text())
    os.utime(older, (0, 0))
    release(target)
    assert working_folder(target) == first
    assert list(left_behind(target)) == [first.parent]
    release(target)


def test_a_replacement_killed_in_its_middle_gives_the_old_back(tmp_path: Path) -> None:
    target = tmp_path / "out"
    publish(prepared(target, "old"), target)
    folder = prepared(target, "new")
    os.rename(target, folder.parent / REPLACED)
    release(target)
    check_target(target, overwrite=True)
    assert (target / "file").read_text() == "old"
    publish(prepared(target, "new"), target)
    assert (target / "file").read_text() == "new"


def test_a_file_that_is_no_lock_is_not_taken_for_one(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("precious")
    (tmp_path / ".a.lock").symlink_to("notes")
    (tmp_path / ".b.lock").write_text("my notes")
    for name in "ab":
        with pytest.raises(UsageError, match=rf"\.{name}\.lock is no lock"):
            claim(tmp_path / name)
    assert (tmp_path / "notes").read_text() == "precious"
    assert (tmp_path / ".b.lock").read_text() == "my notes"


def test_the_lock_of_a_dead_process_counts_for_nothing(tmp_path: Path) -> None:
    (tmp_path / ".out.lock").write_text("4194303 elsewhere")
    claim(tmp_path / "out")
    release(tmp_path / "out")
    assert not (tmp_path / ".out.lock").exists()


def test_the_owner_of_a_place_is_named(tmp_path: Path) -> None:
    hold = (
        "import sys; from pathlib import Path; from prunepolicy.pruning.io.claim import claim; "
        "claim(Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", hold, str(tmp_path / "out")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(UsageError, match=str(holder.pid)):
        claim(tmp_path / "out")
    holder.kill()
    holder.communicate()
    claim(tmp_path / "out", wait=True)
    release(tmp_path / "out")


def test_a_killed_writer_of_a_file_leaves_nothing_for_long(tmp_path: Path) -> None:
    kill = (
        "import os, sys; from pathlib import Path; from prunepolicy.pruning.io import atomic; "
        "os.fsync = lambda _: os._exit(9); atomic.write_text(Path(sys.argv[1]), 'half')"
    )
    done = subprocess.run([sys.executable, "-c", kill, str(tmp_path / "file.json")])
    assert done.returncode == 9
    (left,) = tmp_path.iterdir()
    assert atomic.is_partial(left)
    write_text(tmp_path / "file.json", "whole")
    assert [path.name for path in tmp_path.iterdir()] == ["file.json"]


def test_names_of_files_may_be_as_long_as_the_system_lets_them(tmp_path: Path) -> None:
    write_text(tmp_path / ("n" * 250), "whole")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["whole"]
