"""Shipped policies: found by name, and refused in one sentence when anything about them was changed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from prunepolicy.cli import main
from prunepolicy.policy import shelf as shelf_module
from prunepolicy.policy.base import policies
from prunepolicy.policy.kinds.prunenet import PruneNet, PruneNetConfig
from prunepolicy.policy.load import load_policy
from prunepolicy.policy.shelf import INDEX, SHELF, Shelf, hash_of
from prunepolicy.policy.weights import write_tensors
from prunepolicy.pruning.checkpoint import Checkpoint
from prunepolicy.pruning.errors import PrunePolicyError, UsageError

NAME = "tiny-rows.v1"


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    """A shelf with one policy, in the place of the one that ships."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    shutil.copy(SHELF / INDEX, folder)
    write_index(folder, {})
    monkeypatch.setattr(shelf_module, "SHELF", folder)
    put(Shelf(folder), NAME)
    return Shelf(folder)


def put(shelf: Shelf, name: str) -> None:
    """Ship an untrained policy under `name`."""
    prepared = shelf.folder.parent / "prepared"
    PruneNet(PruneNetConfig(hidden=4), name).save(prepared)
    (prepared / "README.md").write_text("card")
    (prepared / "card.json").write_text("{}")
    shelf.add(name, prepared)


def write_index(folder: Path, policies: Any) -> None:
    (folder / INDEX).write_text(json.dumps({"schema_version": 1, "policies": policies}))


def relist(shelf: Shelf, name: str = NAME) -> None:
    """List the files of a policy as they are now, as an attacker who can write everything would."""
    write_index(shelf.folder, {name: {file.name: hash_of(file) for file in (shelf.folder / name).iterdir()}})


def refused(capsys: pytest.CaptureFixture[str], model: str, policy: str) -> str:
    """Ask for a plan by a bad policy, and return the one sentence about it."""
    code = main(["plan", model, "--keep", "0.8", "--of", "ffn", "--policy", policy])
    said = capsys.readouterr().err
    assert code in (1, 2)
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert said.strip().isprintable()
    with pytest.raises(PrunePolicyError) as caught:
        load_policy(policy)
    assert str(caught.value) in said
    return said


@pytest.fixture
def model(tiny_checkpoint: Callable[..., Checkpoint]) -> str:
    return str(tiny_checkpoint("llama", num_hidden_layers=1).folder)


def test_what_ships_is_what_the_index_lists() -> None:
    shelf = Shelf(SHELF)
    for name in shelf.index().policies:
        assert load_policy(shelf.verified(name)).name == name
    assert {path.name for path in SHELF.iterdir()} == {INDEX, *shelf.index().policies}


def test_policies_load_by_name_and_by_name_alone_while_there_is_one_version(shelf: Shelf) -> None:
    assert load_policy(NAME).name == NAME
    assert load_policy("tiny-rows").name == NAME
    put(shelf, "tiny-rows.v2")
    assert load_policy("tiny-rows.v2").name == "tiny-rows.v2"
    with pytest.raises(UsageError, match=r"tiny-rows\.v1, tiny-rows\.v2"):
        load_policy("tiny-rows")
    with pytest.raises(UsageError, match=r"Did you mean 'tiny-rows\.v1'"):
        load_policy("tinyrows.v1")


def test_criteria_come_before_shipped_policies(shelf: Shelf) -> None:
    put(shelf, "fisher.v1")
    assert load_policy("fisher").kind == "heuristic"


@pytest.mark.parametrize("file", ["policy.json", "weights.safetensors", "README.md", "card.json"])
def test_any_changed_file_is_refused(shelf: Shelf, file: str) -> None:
    with open(shelf.folder / NAME / file, "ab") as stream:
        stream.write(b" ")
    with pytest.raises(PrunePolicyError, match=f"{file} isn't what was shipped"):
        load_policy(NAME)


def add_file(folder: Path) -> None:
    (folder / "more.py").touch()


def lose_file(folder: Path) -> None:
    (folder / "README.md").unlink()


def link_file(folder: Path) -> None:
    shutil.move(folder / "policy.json", folder.parent.parent)
    (folder / "policy.json").symlink_to(folder.parent.parent / "policy.json")


def link_folder(folder: Path) -> None:
    shutil.move(folder, folder.parent.parent / "elsewhere")
    folder.symlink_to(folder.parent.parent / "elsewhere")


def lose_folder(folder: Path) -> None:
    shutil.rmtree(folder)


def block(folder: Path) -> None:
    (folder / "card.json").unlink()
    os.mkfifo(folder / "card.json")


@pytest.mark.parametrize("harm", [add_file, lose_file, link_file, link_folder, lose_folder, block])
def test_folders_that_differ_from_the_list_are_refused(shelf: Shelf, harm: Callable[[Path], None]) -> None:
    harm(shelf.folder / NAME)
    with pytest.raises(PrunePolicyError, match=r"Install it again|is missing, a link"):
        load_policy(NAME)


@pytest.mark.parametrize(
    "policies",
    [
        {"../outside.v1": {}},
        {"/etc/passwd.v1": {}},
        {"a/../../b.v1": {}},
        {"tiny-rows": {}},
        {"TINY.v1": {}},
        {NAME + "\n": {}},
        {NAME: {"../policy.json": "0" * 64}},
        {NAME: {"/etc/passwd": "0" * 64}},
        {NAME: {"policy.json": "0" * 63}},
        {NAME: {"policy.json": "0" * 63 + "\n"}},
        {NAME: {"policy.json": None}},
        {NAME: []},
        [],
    ],
    ids=str,
)
def test_an_index_that_leads_elsewhere_is_refused(shelf: Shelf, policies: Any) -> None:
    write_index(shelf.folder, policies)
    for name in (NAME, "../outside.v1", "outside"):
        with pytest.raises(PrunePolicyError, match="is no index") as caught:
            load_policy(name)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "[]", '{"schema_version": 2}', '{"schema_version": 1, "more": 1}', "\xff"]
)
def test_an_index_of_another_form_is_refused(shelf: Shelf, text: str) -> None:
    (shelf.folder / INDEX).write_text(text, encoding="latin-1")
    with pytest.raises(PrunePolicyError, match="is no index"):
        load_policy(NAME)
    (shelf.folder / INDEX).unlink()
    with pytest.raises(PrunePolicyError, match="No such file"):
        load_policy(NAME)


@pytest.mark.parametrize(
    "name", ["../shelf/tiny-rows.v2", "/x.v1", "..", "tiny.v0", "tiny", "Tiny.v1", "a" * 80 + ".v1"]
)
def test_names_that_are_none_do_not_reach_the_shelf(shelf: Shelf, name: str) -> None:
    before = sorted(shelf.folder.rglob("*"))
    with pytest.raises(UsageError, match=r"NAME\.vN"):
        put(shelf, name)
    assert sorted(shelf.folder.rglob("*")) == before


def test_versions_never_change_and_large_or_foreign_files_stay_out(shelf: Shelf, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="never changes"):
        put(shelf, NAME)
    prepared = tmp_path / "prepared"
    (prepared / "README.md").write_bytes(b" " * 1_000_001)
    with pytest.raises(UsageError, match="too much to ship"):
        shelf.add("large.v1", prepared)
    (prepared / "README.md").rename(prepared / "code.py")
    (prepared / "code.py").write_text("")
    with pytest.raises(UsageError, match="Can't ship"):
        shelf.add("code.v1", prepared)
    assert [*shelf.index().policies] == [NAME]


def newer_schema(folder: Path) -> None:
    edit(folder, schema_version=2)


def unknown_key(folder: Path) -> None:
    edit(folder, wieghts_sha256="")


def unprintable_key(folder: Path) -> None:
    edit(folder, **{"\x1b[31m\nfoo" * 1000: 1})


def unprintable_name(folder: Path) -> None:
    edit(folder, name="\x1b[2J")


def unknown_kind(folder: Path) -> None:
    edit(folder, kind="../kinds")


def wrong_setting(folder: Path) -> None:
    edit(folder, config={"hidden": -1})


def other_shapes(folder: Path) -> None:
    edit(folder, config={"hidden": 5})


def wrong_hash(folder: Path) -> None:
    edit(folder, weights_sha256="0" * 64)


def no_hash(folder: Path) -> None:
    edit(folder, weights_sha256=None)


def no_json(folder: Path) -> None:
    (folder / "policy.json").write_text("{" * 100_000)


def not_a_number(folder: Path) -> None:
    tensors = dict(policies["prunenet"].restore(folder, PruneNetConfig(hidden=4), "x").weights())
    tensors = {name: torch.full_like(tensor, float("nan")) for name, tensor in tensors.items()}
    edit(folder, weights_sha256=write_tensors(folder / "weights.safetensors", tensors))


def truncated(folder: Path) -> None:
    weights = folder / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-5])
    edit(folder, weights_sha256=hash_of(weights))


def no_weights(folder: Path) -> None:
    (folder / "weights.safetensors").unlink()


def linked_weights(folder: Path) -> None:
    shutil.move(folder / "weights.safetensors", folder.parent.parent)
    (folder / "weights.safetensors").symlink_to(folder.parent.parent / "weights.safetensors")


HARMS = [
    newer_schema, unknown_key, unprintable_key, unprintable_name, unknown_kind, wrong_setting, other_shapes,
    wrong_hash, no_hash, no_json, not_a_number, truncated, no_weights,
]  # fmt: skip


def edit(folder: Path, **changes: Any) -> None:
    file = folder / "policy.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


@pytest.mark.parametrize("harm", [*HARMS, linked_weights])
def test_hostile_folders_are_refused_in_one_sentence(
    shelf: Shelf, harm: Callable[[Path], None], model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    harm(shelf.folder / NAME)
    refused(capsys, model, str(shelf.folder / NAME))


@pytest.mark.parametrize("harm", HARMS)
def test_hostile_policies_with_hashes_that_fit_are_refused_too(
    shelf: Shelf, harm: Callable[[Path], None], model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    harm(shelf.folder / NAME)
    relist(shelf)
    sentence = refused(capsys, model, NAME)
    assert "isn't what was shipped" not in sentence
