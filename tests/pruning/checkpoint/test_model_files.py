"""Which files of a model folder travel with a result, and what becomes of the others."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from prunepolicy.commands.report import plots
from prunepolicy.commands.report.report import REPORT
from prunepolicy.commands.report.report_page import PAGE
from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.checkpoint.cut import prepare
from prunepolicy.pruning.checkpoint.model_files import (
    CACHE,
    EVIDENCE,
    LINK,
    LINKED_FOLDER,
    OTHER_WEIGHTS,
    SOURCE_CARD,
    SPECIAL,
    TRAINING,
    WRITTEN_ABOUT,
    side_files,
)
from prunepolicy.pruning.checkpoint.no_weights import instead_of_weights, names_in
from prunepolicy.pruning.plan import Budget, Plan

Make = Callable[..., Checkpoint]
WRITTEN = ("config.json", "model.safetensors")


def put(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}")


@pytest.mark.parametrize(
    "name",
    [
        "LICENSE",
        "NOTICE.txt",
        "USE_POLICY.md",
        "tokenizer.json",
        "bpe.codes",
        "source.spm",
        "vocab.bpe",
        "tokenizer.model.v3",
        "cl100k.tiktoken",
        "modeling_own.py",
        "additional_chat_templates/tool_use.jinja",
        "1_Pooling/config.json",
        "a/deep/folder/file",
        "no.known.suffix",
    ],
)
def test_what_belongs_to_the_model_travels(name: str, tmp_path: Path) -> None:
    put(tmp_path, *WRITTEN, name)
    found = side_files(tmp_path, WRITTEN)
    assert found.travelling == {name: tmp_path / name}
    assert not found.behind


@pytest.mark.parametrize(
    ("name", "noted", "reason"),
    [
        ("pytorch_model.bin", None, OTHER_WEIGHTS),
        ("pytorch_model.bin.index.json", None, OTHER_WEIGHTS),
        ("MODEL.GGUF", None, OTHER_WEIGHTS),
        ("model.fp16.safetensors", None, OTHER_WEIGHTS),
        ("fp16/model.safetensors", None, OTHER_WEIGHTS),
        ("onnx/model.onnx", "onnx/", OTHER_WEIGHTS),
        ("original/params.json", "original/", OTHER_WEIGHTS),
        ("adapter_config.json", None, OTHER_WEIGHTS),
        ("optimizer.pt", None, TRAINING),
        ("training_args.bin", None, TRAINING),
        ("trainer_state.json", None, TRAINING),
        ("rng_state_0.pth", None, TRAINING),
        ("checkpoint-500/config.json", "checkpoint-500/", TRAINING),
        ("runs/a/events.out.tfevents.1", "runs/", TRAINING),
        (".git/config", ".git/", CACHE),
        (".env", None, CACHE),
        ("code/__pycache__/a.pyc", "code/__pycache__/", CACHE),
        ("plan.json", None, EVIDENCE),
    ],
)
def test_the_rest_stays_behind_and_is_named(
    name: str, noted: str | None, reason: str, tmp_path: Path
) -> None:
    put(tmp_path, *WRITTEN, name)
    found = side_files(tmp_path, WRITTEN)
    assert not found.travelling
    assert found.behind == {noted or name: reason}


def test_modules_travel_with_their_weights(tmp_path: Path) -> None:
    put(tmp_path, *WRITTEN, "2_Dense/model.safetensors", "2_Dense/pytorch_model.bin", "2_Dense/optimizer.pt")
    (tmp_path / "modules.json").write_text(json.dumps([{"path": "2_Dense"}, {"path": 7}, 3]))
    found = side_files(tmp_path, WRITTEN)
    assert set(found.travelling) == {"modules.json", "2_Dense/model.safetensors", "2_Dense/pytorch_model.bin"}
    assert found.behind == {"2_Dense/optimizer.pt": TRAINING}


@pytest.mark.parametrize("text", ["3", "{", '[[["', "null"])
def test_a_damaged_list_of_modules_names_none(text: str, tmp_path: Path) -> None:
    put(tmp_path, "2_Dense/pytorch_model.bin")
    (tmp_path / "modules.json").write_text(text)
    assert set(side_files(tmp_path, WRITTEN).behind) == {"2_Dense/pytorch_model.bin"}


def test_the_sources_card_gets_a_name_of_its_own_once(tmp_path: Path) -> None:
    put(tmp_path, "README.md")
    assert side_files(tmp_path, WRITTEN).travelling == {SOURCE_CARD: tmp_path / "README.md"}
    put(tmp_path, SOURCE_CARD)
    again = side_files(tmp_path, WRITTEN)
    assert again.travelling == {SOURCE_CARD: tmp_path / SOURCE_CARD}
    assert again.behind == {"README.md": EVIDENCE}


def test_links_are_followed_inside_the_folder_only(tmp_path: Path) -> None:
    model = tmp_path / "model"
    put(model, "NOTICE", ".env", "sub/file")
    put(tmp_path, "secret")
    for name, target in {
        "LICENSE": "NOTICE",
        "out": "../secret",
        "hidden": ".env",
        "dead": "nothing",
        "loop": "loop",
        "all": "sub",
    }.items():
        (model / name).symlink_to(target)
    found = side_files(model, WRITTEN)
    assert set(found.travelling) == {"NOTICE", "LICENSE", "sub/file"}
    out = {"out": LINK, "hidden": CACHE, "dead": LINK, "loop": LINK, "all/": LINKED_FOLDER, ".env": CACHE}
    assert found.behind == out


def test_snapshots_of_the_hubs_cache_link_to_their_own_blobs(tmp_path: Path) -> None:
    put(tmp_path, "models--org--name/blobs/1", "models--org--other/blobs/2")
    snapshot = tmp_path / "models--org--name" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "LICENSE").symlink_to("../../blobs/1")
    (snapshot / "NOTICE").symlink_to("../../../models--org--other/blobs/2")
    found = side_files(snapshot, WRITTEN)
    assert (set(found.travelling), found.behind) == ({"LICENSE"}, {"NOTICE": LINK})


def test_pipes_are_never_opened(tmp_path: Path, tiny_checkpoint: Make) -> None:
    checkpoint = tiny_checkpoint()
    os.mkfifo(checkpoint.folder / "LICENSE")
    assert side_files(checkpoint.folder, WRITTEN).behind == {"LICENSE": SPECIAL}
    result = prepare(checkpoint, Plan({}, Budget(1.0), "test"), tmp_path / "out")
    assert not (result / "LICENSE").exists()


def test_a_result_has_the_same_bytes_in_the_same_places(tiny_checkpoint: Make, tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint()
    (checkpoint.folder / "templates").mkdir()
    (checkpoint.folder / "templates" / "tool.jinja").write_bytes(bytes(range(256)) * 1000)
    put(checkpoint.folder, "pytorch_model.bin")
    result = prepare(checkpoint, Plan({}, Budget(1.0), "test"), tmp_path / "out")
    assert (result / "templates" / "tool.jinja").read_bytes() == bytes(range(256)) * 1000
    assert not (result / "pytorch_model.bin").exists()


def test_what_is_written_about_a_pruning_has_one_list() -> None:
    pictures = (plots.LAYERS_PICTURE, plots.BEFORE_AFTER_PICTURE)
    assert set(WRITTEN_ABOUT) == {"plan.json", REPORT, PAGE, *pictures}


def test_a_folder_around_a_model_says_where_it_is(tmp_path: Path) -> None:
    put(tmp_path, "0_Transformer/config.json", "README.md", "trainer_state.json")
    assert "give its folder '0_Transformer'" in instead_of_weights("It", names_in(tmp_path), tmp_path)
