"""Folders that mean harm: refused in one sentence, whoever signed them, and nothing is left behind."""

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
from prunepolicy.policy.base import StoredPolicy, policies
from prunepolicy.policy.kinds.prunenet import PruneNetConfig
from prunepolicy.policy.load import load_policy
from prunepolicy.policy.migrations import POLICY_SCHEMA
from prunepolicy.policy.weights import write_tensors
from prunepolicy.policy.zoo.cache import zoo_cache
from prunepolicy.policy.zoo.index import parsed_index
from prunepolicy.policy.zoo.push import record_of
from prunepolicy.policy.zoo.signing import signed
from prunepolicy.policy.zoo.sources import package
from prunepolicy.pruning.errors import PrunePolicyError

NAME = "tiny-rows.v1"
Captured = pytest.CaptureFixture[str]


@pytest.fixture
def shipped(zoo_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The zoo with two policies, in the place of what ships."""
    monkeypatch.setattr(package, "SHIPPED", zoo_folder)
    return zoo_folder


def refused(capsys: Captured, *arguments: str) -> str:
    """Run a command that has to fail, and return the one sentence about it."""
    capsys.readouterr()
    code = main([*arguments])
    said = capsys.readouterr()
    assert code in (1, 2)
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    assert said.err.strip().isprintable()
    assert "PRUNEPOLICY_DEBUG" not in said.err
    return said.err


def sign_as_it_is(folder: Path, key: Any) -> None:
    """List the files as they are now and sign that, as somebody would who has stolen the key."""
    index = parsed_index((folder / "index.signed").read_bytes().partition(b"\n")[2], "x")
    files = {f.name: record_of(f) for f in (folder / NAME).iterdir() if f.is_file()}
    entry = index.policies[NAME].model_copy(update={"files": files})
    text = index.model_copy(update={"policies": {NAME: entry}}).to_bytes()
    (folder / "index.signed").write_bytes(signed(text, [key]))


@pytest.mark.parametrize("file", ["policy.json", "weights.safetensors", "README.md", "card.json"])
def test_any_changed_file_is_refused(shipped: Path, file: str, capsys: Captured) -> None:
    with open(shipped / NAME / file, "ab") as stream:
        stream.write(b" ")
    for source in ("package", str(shipped)):
        refused(capsys, "zoo", "pull", NAME, "--source", source)
    with pytest.raises(PrunePolicyError, match=f"{file} isn't what the index lists"):
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
def test_folders_that_differ_from_the_list_are_refused(
    shipped: Path, harm: Callable[[Path], None], capsys: Captured
) -> None:
    harm(shipped / NAME)
    with pytest.raises(PrunePolicyError, match="Install the package again"):
        load_policy(NAME)
    if harm is add_file:  # A source may hold more; what isn't listed is never asked for.
        return
    refused(capsys, "zoo", "pull", NAME, "--source", str(shipped))
    assert not list((zoo_cache() / "policies").glob("*/*/policy.json"))


def newer_schema(folder: Path) -> None:
    edit(folder, schema_version=POLICY_SCHEMA + 1)


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


def another_name(folder: Path) -> None:
    edit(folder, name="tiny-rows.v2")


def other_observations(folder: Path) -> None:
    edit(folder, observation_version=2)


def huge_shape(folder: Path) -> None:
    edit(folder, config={"scorer": "affine", "shape": [1 << 40, 1 << 40]})


def huge_gates(folder: Path) -> None:
    edit(folder, kind="gates", config={"units": {"layers.0.ffn": 1 << 39}})


def endless_name(folder: Path) -> None:
    edit(folder, name="x" * 300)


def huge_file(folder: Path) -> None:
    (folder / "policy.json").write_bytes(b" " * (1 << 20) + b"{}")


def no_json(folder: Path) -> None:
    (folder / "policy.json").write_text("{" * 100_000)


def not_a_number(folder: Path) -> None:
    tensors = dict(
        policies["prunenet"].restore(StoredPolicy.read(folder), PruneNetConfig(hidden=4), "x").weights()
    )
    tensors = {name: torch.full_like(tensor, float("nan")) for name, tensor in tensors.items()}
    edit(folder, weights_sha256=write_tensors(folder / "weights.safetensors", tensors))


def truncated(folder: Path) -> None:
    weights = folder / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-5])
    edit(folder, weights_sha256=record_of(weights).sha256)


def no_weights(folder: Path) -> None:
    (folder / "weights.safetensors").unlink()


def linked_weights(folder: Path) -> None:
    shutil.move(folder / "weights.safetensors", folder.parent.parent)
    (folder / "weights.safetensors").symlink_to(folder.parent.parent / "weights.safetensors")


HARMS = [
    newer_schema, unknown_key, unprintable_key, unprintable_name, unknown_kind, wrong_setting, other_shapes,
    wrong_hash, no_hash, no_json, not_a_number, truncated, no_weights, other_observations, huge_shape,
    huge_gates, endless_name,
]  # fmt: skip


def edit(folder: Path, **changes: Any) -> None:
    file = folder / "policy.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


@pytest.mark.parametrize("harm", [*HARMS, linked_weights, huge_file])
def test_hostile_folders_are_refused_in_one_sentence(zoo_folder: Path, harm: Callable[[Path], None]) -> None:
    harm(zoo_folder / NAME)
    with pytest.raises(PrunePolicyError) as caught:
        load_policy(zoo_folder / NAME)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("harm", [*HARMS, another_name])
def test_hostile_policies_that_are_signed_are_refused_too_and_put_aside(
    zoo_folder: Path, harm: Callable[[Path], None], key: Any, capsys: Captured
) -> None:
    harm(zoo_folder / NAME)
    sign_as_it_is(zoo_folder, key)
    said = refused(capsys, "zoo", "pull", NAME, "--source", str(zoo_folder))
    assert "nothing was installed" in said
    (aside,) = (zoo_cache() / "quarantine").iterdir()
    assert str(aside) in said
    assert not [p for p in (zoo_cache() / "policies" / NAME).iterdir() if p.is_dir()]
