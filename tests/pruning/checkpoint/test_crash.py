"""Fail, fill the disk and kill at every single step: the target is the old one or the new one, whole."""

from __future__ import annotations

import builtins
import errno
import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.checkpoint.cut import finish, prepare
from prunepolicy.pruning.errors import NotEnoughSpaceError, PrunePolicyError, UsageError
from prunepolicy.pruning.io import atomic
from prunepolicy.pruning.io.atomic import check_target, publish
from prunepolicy.pruning.io.claim import claim, release
from prunepolicy.pruning.io.working_folder import working_folder
from prunepolicy.pruning.plan import Budget, Plan

Make = Callable[..., Checkpoint]
Content = dict[str, str]

PLAN = Plan({f"layers.{i}.ffn": tuple(range(8)) for i in range(2)}, Budget(0.5), "test")


class Killed(BaseException):
    """A process that ends here; no handler may tidy up after it."""


class Faults:
    """Counts steps that change the disk, and makes the n-th fail.

    Attributes:
        at: the step that fails; 0 for none.
        failure: what it raises. After `Killed`, every further step raises it too: a dead process
            does nothing more.
    """

    def __init__(self, at: int = 0, failure: BaseException | None = None) -> None:
        self.at, self.failure, self.steps = at, failure, list[str]()

    def step(self, name: str) -> None:
        self.steps.append(name)
        dead = isinstance(self.failure, Killed) and len(self.steps) > self.at > 0
        if self.failure and (len(self.steps) == self.at or dead):
            raise self.failure

    def wrap(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **settings: Any) -> Any:
            self.step(name)
            return function(*arguments, **settings)

        return counted

    def open(self, file: Any, mode: str = "r", *arguments: Any, **settings: Any) -> Any:
        if "w" not in mode:
            return real_open(file, mode, *arguments, **settings)
        self.step("create")
        return _Writer(real_open(file, mode, *arguments, **settings), self)

    @contextmanager
    def active(self) -> Iterator[None]:
        names = ("rename", "replace", "mkdir", "unlink", "rmdir")
        with (
            mock.patch.object(builtins, "open", self.open),
            mock.patch.object(atomic, "exchange", self.wrap("exchange", atomic.exchange)),
        ):
            patches = [mock.patch.object(os, name, self.wrap(name, getattr(os, name))) for name in names]
            # Real flushing would only make the tests slow: no power is cut here.
            patches.append(mock.patch.object(os, "fsync", self.wrap("fsync", lambda descriptor: None)))
            for patch in patches:
                patch.start()
            try:
                yield
            finally:
                for patch in patches:
                    patch.stop()


real_open = open


class _Writer:
    """A file whose writes are steps; a failing write leaves half of its bytes."""

    def __init__(self, file: Any, faults: Faults) -> None:
        self.file, self.faults = file, faults

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()

    def write(self, data: Any) -> int:
        try:
            self.faults.step("write")
        except BaseException:
            self.file.write(data[: len(data) // 2])
            raise
        return int(self.file.write(data))

    def flush(self) -> None:
        self.file.flush()

    def fileno(self) -> int:
        return int(self.file.fileno())


@pytest.fixture
def checkpoint(tiny_checkpoint: Make) -> Checkpoint:
    checkpoint = tiny_checkpoint(num_hidden_layers=2, intermediate_size=16, max_shard_size="12KB")
    (checkpoint.folder / "tokenizer.json").write_text("{}")
    assert len(checkpoint.files) >= 3
    return checkpoint


def run(checkpoint: Checkpoint, target: Path, progress: Callable[[int], None] = lambda done: None) -> None:
    check_target(target, overwrite=True)
    folder = prepare(checkpoint, PLAN, target, progress=progress)
    finish(folder)
    publish(folder, target)


def content(folder: Path) -> Content:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def make_old(target: Path) -> Content:
    """An earlier result: other bytes under the same names."""
    target.mkdir(parents=True)
    for name in ("config.json", "model-00001-of-00004.safetensors", "earlier.txt"):
        (target / name).write_text(f"old {name}")
    return content(target)


@pytest.fixture
def expected(checkpoint: Checkpoint, tmp_path: Path) -> Content:
    """What a run that nobody interrupts leaves."""
    run(checkpoint, tmp_path / "undisturbed")
    Checkpoint.open(tmp_path / "undisturbed")
    return content(tmp_path / "undisturbed")


FAILURES = [OSError(errno.EIO, "I/O error"), OSError(errno.ENOSPC, "No space left on device"), Killed()]


@pytest.mark.parametrize("swaps", [True, False], ids=["swap", "two renames"])
@pytest.mark.parametrize("overwrites", [False, True], ids=["new", "overwrite"])
@pytest.mark.parametrize("failure", FAILURES, ids=["EIO", "ENOSPC", "kill"])
def test_every_step_may_fail(
    failure: BaseException,
    overwrites: bool,
    swaps: bool,
    checkpoint: Checkpoint,
    expected: Content,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not swaps:
        monkeypatch.setattr(atomic, "exchange", lambda first, second: False)
    steps = steps_of(checkpoint, tmp_path / "counted", overwrites)
    # Both ways of replacing share all steps before the last ones.
    first = 1 if swaps and overwrites else max(1, len(steps) - 12)
    for number in range(first, len(steps) + 1):
        target = tmp_path / f"at{number}" / "target"
        old = make_old(target) if overwrites else {}
        interrupted = interrupt(checkpoint, target, Faults(number, failure))
        found = content(target) if target.exists() else {}
        between = not swaps and overwrites and isinstance(failure, Killed)
        assert found in (old, expected) or (between and not found), (number, steps[number - 1])
        assert interrupted or found == expected
        run(checkpoint, target)
        assert content(target) == expected
        assert [path.name for path in target.parent.iterdir()] == ["target"], (number, steps[number - 1])


def steps_of(checkpoint: Checkpoint, target: Path, overwrites: bool) -> list[str]:
    if overwrites:
        make_old(target)
    counter = Faults()
    with counter.active():
        run(checkpoint, target)
    assert {"create", "write", "fsync", "rename", "replace", "mkdir", "unlink"} <= set(counter.steps)
    return counter.steps


def interrupt(checkpoint: Checkpoint, target: Path, faults: Faults) -> bool:
    """Run with faults and return whether the run says that it failed; a dead process frees its claim."""
    try:
        with faults.active():
            run(checkpoint, target)
    except (PrunePolicyError, Killed):
        return True
    finally:
        release(target)
    return False


def test_next_run_uses_finished_shards(checkpoint: Checkpoint, expected: Content, tmp_path: Path) -> None:
    target = tmp_path / "target"
    steps = steps_of(checkpoint, tmp_path / "counted", overwrites=False)
    shards = [i for i, step in enumerate(steps, start=1) if step == "rename"][:-1]
    assert interrupt(checkpoint, target, Faults(shards[2], Killed()))
    finished = sorted(working_folder(target).glob("*.safetensors"))
    assert len(finished) == 2
    stamps = [file.stat().st_ino for file in finished]
    done: list[int] = []
    run(checkpoint, target, done.append)
    assert [(target / file.name).stat().st_ino for file in finished] == stamps
    assert sum(done) == checkpoint.nbytes
    assert content(target) == expected


def test_finished_shards_of_another_plan_are_not_used(checkpoint: Checkpoint, tmp_path: Path) -> None:
    other = Plan({"layers.0.ffn": tuple(range(8, 16)), "layers.1.ffn": tuple(range(8))}, Budget(0.5), "test")
    prepare(checkpoint, other, tmp_path / "target")
    before = content(working_folder(tmp_path / "target"))
    after = content(prepare(checkpoint, PLAN, tmp_path / "target"))
    release(tmp_path / "target")
    assert before.keys() == after.keys()
    assert sum(before[name] != after[name] for name in before if name.endswith("safetensors")) >= 1


def test_foreign_files_do_not_slip_into_the_result(
    checkpoint: Checkpoint, expected: Content, tmp_path: Path
) -> None:
    folder = prepare(checkpoint, PLAN, tmp_path / "target")
    (folder / "pytorch_model.bin").write_bytes(b"x")
    (folder / "deep").mkdir()
    (folder / "deep" / "file").write_text("x")
    (folder / "shortcut").symlink_to(checkpoint.folder)
    run(checkpoint, tmp_path / "target")
    assert content(tmp_path / "target") == expected
    assert checkpoint.folder.is_dir()


def test_full_disk_names_the_bytes_and_keeps_what_is_finished(checkpoint: Checkpoint, tmp_path: Path) -> None:
    steps = steps_of(checkpoint, tmp_path / "counted", overwrites=False)
    second = [i for i, step in enumerate(steps, start=1) if step == "rename"][1]
    faults = Faults(second - 2, OSError(errno.ENOSPC, "No space left on device"))
    with faults.active(), pytest.raises(NotEnoughSpaceError, match=r"needs [\d,]+ bytes"):
        run(checkpoint, tmp_path / "target")
    left = sorted(path.name for path in working_folder(tmp_path / "target").iterdir())
    assert left[0] == ".journal.json"
    assert [name.startswith("model-00001-of") for name in left[1:]] == [True]


def test_disk_that_is_too_small_is_noticed_first(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: mock.Mock(free=1000))
    with pytest.raises(NotEnoughSpaceError, match=r"needs [\d,]+ more bytes and the disk has 1,000"):
        prepare(checkpoint, PLAN, tmp_path / "target")
    assert not list(working_folder(tmp_path / "target").glob("*.safetensors"))


SCRIPT = """
import sys, time
from pathlib import Path
from prunepolicy.pruning.io.atomic import check_target, publish
from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.checkpoint.cut import finish, prepare
from prunepolicy.pruning.plan import Plan

def slowly(done):
    print("step", flush=True)
    time.sleep(0.02)

source, target = map(Path, sys.argv[1:])
check_target(target, overwrite=True)
folder = prepare(Checkpoint.open(source), Plan.load(target.parent / "plan.json"), target, progress=slowly)
finish(folder)
publish(folder, target)
"""


def start(checkpoint: Checkpoint, target: Path) -> subprocess.Popen[str]:
    """Start a slow run in a process of its own, and wait until it has written a few tensors."""
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(checkpoint.folder), str(target)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for _ in range(8):
        assert process.stdout.readline() == "step\n"
    return process


def test_killed_process(checkpoint: Checkpoint, expected: Content, tmp_path: Path) -> None:
    target = tmp_path / "target"
    old = make_old(target)
    PLAN.save(tmp_path / "plan.json")
    process = start(checkpoint, target)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert content(target) == old
    run(checkpoint, target)
    assert content(target) == expected


def test_second_process_is_refused(checkpoint: Checkpoint, expected: Content, tmp_path: Path) -> None:
    target = tmp_path / "target"
    PLAN.save(tmp_path / "plan.json")
    process = start(checkpoint, target)
    with pytest.raises(UsageError, match=rf"Another process \({process.pid}\) is writing"):
        run(checkpoint, target)
    process.communicate()
    assert process.returncode == 0
    assert content(target) == expected
    run(checkpoint, target)
    assert content(target) == expected


def test_claims_end_with_release(tmp_path: Path) -> None:
    claim(tmp_path / "target")
    claim(tmp_path / "target")
    release(tmp_path / "target")
    assert not list(tmp_path.iterdir())
    release(tmp_path / "target")
