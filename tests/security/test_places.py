"""Names too long, folders that are gone, full disks: a sentence; what dead processes have left goes."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from prunepolicy.agents.runtime import files
from prunepolicy.agents.runtime.files import read_folder
from prunepolicy.agents.training.events import Events
from prunepolicy.agents.training.run_folder import RunFolder
from prunepolicy.cli import main
from prunepolicy.commands.submit.dump_folder_script import main as hand_over
from prunepolicy.commands.submit.ray_jobs import received
from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.errors import BadCheckpointError, NotEnoughSpaceError, PrunePolicyError
from prunepolicy.pruning.io import temporary
from prunepolicy.pruning.io.temporary import made_temporary, temporary_folder

RECIPE = str(Path(__file__).parents[2] / "configs/think/bandit.yaml")
LONG = "x" * 300
Make = Callable[..., Checkpoint]
Captured = pytest.CaptureFixture[str]


@pytest.mark.parametrize(
    "words",
    [
        ["train", RECIPE, "--out", LONG],
        ["train", RECIPE, "--cluster", LONG, "--out", "run"],
        ["prune", LONG, "--keep", "0.9", "--out", "smaller"],
        ["eval", LONG],
        ["zoo", "list", "--source", f"./{LONG}"],
    ],
    ids=lambda words: " ".join(words[:2])[-20:],
)
def test_names_that_are_too_long_are_one_sentence(
    words: list[str], capsys: Captured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) in (1, 2)
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert "PRUNEPOLICY_DEBUG" not in said
    assert list(tmp_path.iterdir()) == []


def test_temporary_folders_of_dead_processes_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with temporary_folder(tmp_path) as mine:
        dead = mine.with_name(mine.name.replace(f"-{os.getpid()}-", "-99999999-"))
        alive = mine.with_name(mine.name.replace(f"-{os.getpid()}-", f"-{os.getppid()}-"))
        for folder in (dead, alive, tmp_path / "theirs", tmp_path / ".prunepolicy-elsewhere-1-x"):
            folder.mkdir()
        with temporary_folder(tmp_path) as another:
            assert another != mine
            assert mine.is_dir()
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {alive.name, "theirs", ".prunepolicy-elsewhere-1-x"}


def test_a_link_by_a_dead_processs_name_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").touch()
    link = tmp_path / f".prunepolicy-{temporary.MACHINE}-99999999-x"
    link.symlink_to(tmp_path / "kept")
    with temporary_folder(tmp_path):
        assert (tmp_path / "kept" / "file").exists()


def test_without_any_temporary_place_there_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def none() -> str:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", none)
    with pytest.raises(PrunePolicyError, match="No usable temporary directory"):
        made_temporary()
    with pytest.raises(PrunePolicyError, match=r"Can.t write .*gone"):
        made_temporary(tmp_path / "gone")


def test_a_disk_that_fills_up_meanwhile_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(NotEnoughSpaceError, match="disk is full"), temporary_folder(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert list(tmp_path.iterdir()) == []


class _Full:
    """A file on a full disk."""

    def write(self, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    def flush(self) -> None:
        pass


def test_events_on_a_full_disk_cost_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("tensorboard")
    events = Events.opened(tmp_path / "events", 0)
    assert events is not None
    events.add(1, {"reward": 1.0})
    assert events._records is not None
    file, events._records._writer = events._records._writer, _Full()
    for step in (2, 3):
        events.add(step, {"reward": 1.0})
    events.close()
    file.close()
    assert [record.message for record in caplog.records] == [
        f"No TensorBoard events in {tmp_path / 'events'} from here on: No space left on device."
    ]


def test_events_hold_the_metrics_and_forget_steps_after_a_checkpoint(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    for step, value in ((0, 0.25), (1, 0.75)):
        events = Events.opened(tmp_path, step)
        assert events is not None
        for later in range(step + 1, 4):
            events.add(later, {"reward": value})
        events.close()
    read = accumulator.EventAccumulator(str(tmp_path))
    read.Reload()
    assert [(one.step, one.value) for one in read.Scalars("reward")] == [(1, 0.25), (2, 0.75), (3, 0.75)]


@pytest.mark.parametrize(
    ("key", "value"),
    [("rms_norm_eps", [1]), ("use_cache", "x"), ("dtype", 0.5)],
)
def test_configurations_that_no_model_is_built_from(key: str, value: object, tiny_checkpoint: Make) -> None:
    checkpoint = tiny_checkpoint()
    with pytest.raises(BadCheckpointError, match="describes no model that can be built"):
        Checkpoint(checkpoint.folder, checkpoint.config | {key: value}, checkpoint.tensors).stored_names  # noqa: B018


def test_metrics_that_lost_rows_are_not_filled_with_nothing(tmp_path: Path) -> None:
    from prunepolicy.agents.training.recipe_file import load_recipe
    from prunepolicy.agents.training.train import train

    short = ["episodes=2", "evaluation.every=1", "checkpoint_every=1", "prompts.simulated=16"]
    recipe = load_recipe(Path(RECIPE), short)
    train(recipe, tmp_path / "run")
    metrics = tmp_path / "run" / "metrics.jsonl"
    metrics.write_bytes(metrics.read_bytes()[:10])
    with pytest.raises(BadCheckpointError, match="lost rows"):
        RunFolder(tmp_path / "run", recipe).latest()
    assert metrics.stat().st_size == 10


def test_what_travels_is_bounded_and_no_link_is_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "a").write_bytes(b"12345")
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "run" / "b").symlink_to(tmp_path / "secret")
    assert read_folder(tmp_path / "run") == {"a": b"12345"}
    monkeypatch.setattr(files, "MOST_BYTES", 4)
    with pytest.raises(PrunePolicyError, match="can't travel: a: it has more than 4 bytes"):
        read_folder(tmp_path / "run")


def test_a_folder_too_large_for_a_log_is_not_printed(
    tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    hand_over(tmp_path)
    assert received(capsys.readouterr().out) == {"a": b"12345"}
    monkeypatch.setattr("prunepolicy.commands.submit.dump_folder_script.MOST_BYTES", 4)
    hand_over(tmp_path)
    with pytest.raises(PrunePolicyError, match="5 bytes, too many for a log"):
        received(capsys.readouterr().out)
