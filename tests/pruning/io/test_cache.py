"""A cache that can't be written, or holds nonsense, changes no result."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from prunepolicy.pruning.errors import BadCheckpointError, NotEnoughSpaceError
from prunepolicy.pruning.io import atomic, cache
from prunepolicy.pruning.io.cache import cache_folder, made_once, recalled, remember, writable


@pytest.fixture(params=["a file", "no home", "full"])
def refused(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which nothing can be written into the cache, for one reason or another."""
    if request.param == "a file":
        (tmp_path / "file").touch()
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    elif request.param == "no home":
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    else:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "full"))

        def full(descriptor: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(atomic.os, "fsync", full)


def text(file: Path) -> str:
    return file.read_text(encoding="utf-8")


def test_what_is_remembered_is_recalled_until_it_is_damaged() -> None:
    file = cache_folder() / "some" / "thing"
    assert recalled(file, text) is None
    remember(file, "wörd".encode())
    assert recalled(file, text) == "wörd"
    remember(file, b"\xff")
    assert recalled(file, text) is None


def test_without_a_cache_nothing_is_remembered_and_nothing_fails(refused: None) -> None:
    file = cache_folder() / "some" / "thing"
    remember(file, b"word")
    assert recalled(file, text) is None


def test_a_folder_is_made_by_the_first_run_alone(tmp_path: Path) -> None:
    made: list[Path] = []

    def make(folder: Path) -> None:
        made.append(folder)
        (folder / "content").write_text("whole")

    folder = made_once("model", make, tmp_path)
    assert made_once("model", make, tmp_path) == folder == tmp_path / "model"
    assert len(made) == 1
    assert text(folder / "content") == "whole"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_without_a_cache_a_folder_lasts_as_long_as_the_process(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    made: list[Path] = []
    folder = made_once("for-one-run", made.append, tmp_path / "file" / "models")
    assert folder.parent == cache.temporary_folder()
    assert made_once("for-one-run", made.append, tmp_path / "file" / "models") == folder
    assert len(made) == 1


def test_what_can_be_made_nowhere_is_said(tmp_path: Path) -> None:
    def full(folder: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(NotEnoughSpaceError, match=r"The disk is full: can't write .*/model; free space"):
        made_once("model", full, tmp_path)
    assert not list(tmp_path.iterdir())
    assert not list(cache.temporary_folder().glob("*model*"))


def test_a_source_that_is_damaged_is_not_tried_twice(tmp_path: Path) -> None:
    tries: list[Path] = []

    def damaged(folder: Path) -> None:
        tries.append(folder)
        raise BadCheckpointError("It is damaged.")

    with pytest.raises(BadCheckpointError):
        made_once("model", damaged, tmp_path)
    assert len(tries) == 1


def test_folders_that_can_be_written_are_told_from_those_that_cannot(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert writable(tmp_path / "new" / "folder")
    assert not writable(tmp_path / "file" / "folder")
    assert not writable(cache.NO_HOME / "folder")
    assert not (tmp_path / "new").exists()


def test_libraries_write_elsewhere_only_where_they_have_nothing_and_can_keep_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "hub").mkdir()
    given = {
        "HF_HOME": str(tmp_path / "file"),
        "HF_HUB_CACHE": str(tmp_path / "hub"),
        "HF_ASSETS_CACHE": str(tmp_path / "new"),
    }
    monkeypatch.setattr(cache.os, "environ", dict(given))
    monkeypatch.setattr(cache.os, "access", lambda place, mode: Path(place) != tmp_path / "hub")
    cache.spare_libraries()
    spared = {"HF_XET_CACHE": "xet", "HF_MODULES_CACHE": "modules", "HF_DATASETS_CACHE": "datasets"}
    places = {variable: str(cache.temporary_folder() / name) for variable, name in spared.items()}
    assert cache.os.environ == given | places
