"""Where a result may go: folders, links and circles of them, and what already lies there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.checkpoint.cut import finish, prepare
from prunepolicy.pruning.errors import PrunePolicyError, UsageError
from prunepolicy.pruning.io.atomic import check_target, publish
from prunepolicy.pruning.io.claim import release
from prunepolicy.pruning.plan import Budget, Plan

DOWN = "model.layers.0.mlp.down_proj.weight"
PLAN = Plan({f"layers.{i}.ffn": tuple(range(8)) for i in range(2)}, Budget(0.5), "test")


@pytest.fixture
def model(tiny_checkpoint: Callable[..., Checkpoint]) -> Path:
    """A healthy model folder."""
    return tiny_checkpoint(num_hidden_layers=2, intermediate_size=16).folder


def cut(source: Path, target: Path) -> None:
    folder = prepare(Checkpoint.open(source), PLAN, target)
    try:
        finish(folder)
        publish(folder, target)
    finally:
        release(target)


@pytest.mark.parametrize("inside", ["", "inner", "inner/deeper", ".."])
def test_target_and_source_inside_each_other(inside: str, model: Path) -> None:
    before = sorted(path.name for path in model.iterdir())
    with pytest.raises(UsageError, match="lie inside each other"):
        prepare(Checkpoint.open(model), PLAN, model / inside)
    assert sorted(path.name for path in model.iterdir()) == before


def test_target_linked_to_the_source(model: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(model)
    with pytest.raises(UsageError, match="lie inside each other"):
        prepare(Checkpoint.open(model), PLAN, tmp_path / "link")


def test_linked_target_keeps_its_link(model: Path, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    cut(model, tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert Checkpoint.open(tmp_path / "real").shapes[DOWN] == (32, 8)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", model.name, "real"]


def test_links_in_a_circle(model: Path, tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(UsageError, match="no usable path"):
        prepare(Checkpoint.open(model), PLAN, tmp_path / "a")


def test_target_with_missing_parents(model: Path, tmp_path: Path) -> None:
    cut(model, tmp_path / "a" / "b" / "result")
    assert Checkpoint.open(tmp_path / "a" / "b" / "result").shapes[DOWN] == (32, 8)


def test_target_below_a_file(model: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(PrunePolicyError, match="Can't write"):
        prepare(Checkpoint.open(model), PLAN, tmp_path / "file" / "result")


def test_targets_that_hold_something(model: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("x")
    with pytest.raises(UsageError, match="add --overwrite"):
        check_target(tmp_path / "full", overwrite=False)
    with pytest.raises(UsageError, match="is a file"):
        check_target(tmp_path / "full" / "mine", overwrite=True)
    with pytest.raises(UsageError, match="can't be replaced"):
        check_target(Path("/"), overwrite=True)
