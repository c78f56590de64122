"""Damaged and malicious model folders and plans: one sentence, nothing touched, nothing half done."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from prunepolicy.pruning.checkpoint.checkpoint import CONFIG, INDEX, WEIGHTS, Checkpoint
from prunepolicy.pruning.checkpoint.cut import finish, prepare
from prunepolicy.pruning.errors import PrunePolicyError
from prunepolicy.pruning.io.atomic import check_target, publish
from prunepolicy.pruning.io.claim import release
from prunepolicy.pruning.io.working_folder import left_behind
from prunepolicy.pruning.plan import Budget, Plan

Make = Callable[..., Checkpoint]
Json = Any

FFN = "layers.0.ffn"
DOWN = "model.layers.0.mlp.down_proj.weight"
PLAN = Plan({f"layers.{i}.ffn": tuple(range(8)) for i in range(2)}, Budget(0.5), "test")
DEEP = '{"a":' * 100_000


@pytest.fixture
def model(tiny_checkpoint: Make) -> Path:
    """A healthy model folder in one file."""
    return tiny_checkpoint(num_hidden_layers=2, intermediate_size=16).folder


@pytest.fixture
def sharded(tiny_checkpoint: Make) -> Path:
    """A healthy model folder in several files."""
    folder = tiny_checkpoint(num_hidden_layers=2, intermediate_size=16, max_shard_size="8KB").folder
    assert len(shards_of(folder)) > 2
    return folder


def shards_of(folder: Path) -> list[Path]:
    return sorted(folder.glob("model-*.safetensors"))


def cut(source: Path, target: Path, plan: Plan = PLAN) -> None:
    """All that happens to a folder, from opening it to publishing the result."""
    checkpoint = Checkpoint.open(source)
    check_target(target, overwrite=True)
    try:
        folder = prepare(checkpoint, plan, target)
        finish(folder)
        publish(folder, target)
    finally:
        release(target)


def refuse(source: Path, says: str, plan: Plan = PLAN) -> None:
    """See one sentence, the target as it was, and nothing that a loader would take for a model."""
    target = source.parent / "target"
    target.mkdir()
    (target / "old.txt").write_text("old")
    with pytest.raises(PrunePolicyError, match=says) as caught:
        cut(source, target, plan)
    text = str(caught.value)
    assert text.endswith(".")
    assert "\n" not in text
    assert len(text) < 500
    assert [path.read_text() for path in target.iterdir()] == ["old"]
    for folder in left_behind(target):
        with pytest.raises(PrunePolicyError):
            Checkpoint.open(folder / target.name)
    assert not list(target.parent.rglob("*.unfinished"))
    assert not (target.parent / ".target.lock").exists()


def edit_json(file: Path, **changes: Json) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def header_of(file: Path) -> tuple[dict[str, Json], bytes]:
    data = file.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    return json.loads(data[8:end]), data[end:]


def write_header(file: Path, header: str | dict[str, Json], body: bytes) -> None:
    text = (header if isinstance(header, str) else json.dumps(header)).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + body)


def test_healthy_models_are_cut(model: Path, tmp_path: Path) -> None:
    cut(model, tmp_path / "result")
    assert Checkpoint.open(tmp_path / "result").shapes[DOWN] == (32, 8)


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 200, -1, -5000])
def test_truncated_shard(size: int, sharded: Path) -> None:
    file = shards_of(sharded)[1]
    file.write_bytes(file.read_bytes()[:size])
    refuse(sharded, r"truncated|damaged header")


def test_shard_cut_off_after_it_was_opened(model: Path, tmp_path: Path) -> None:
    checkpoint = Checkpoint.open(model)
    assert checkpoint.graph
    assert checkpoint.fingerprint
    (model / WEIGHTS).write_bytes((model / WEIGHTS).read_bytes()[:-10])
    with pytest.raises(PrunePolicyError, match="ends inside"):
        prepare(checkpoint, PLAN, tmp_path / "target")
    (left,) = left_behind(tmp_path / "target")
    assert [file.name for file in (left / "target").iterdir()] == [".journal.json"]


def test_foreign_bytes_after_the_tensors(model: Path) -> None:
    with open(model / WEIGHTS, "ab") as file:
        file.write(b"x")
    refuse(model, "followed by foreign bytes")


@pytest.mark.parametrize("length", [1 << 20, 1 << 40, (1 << 64) - 1])
def test_header_longer_than_the_file(length: int, model: Path) -> None:
    data = (model / WEIGHTS).read_bytes()
    (model / WEIGHTS).write_bytes(length.to_bytes(8, "little") + data[8:])
    refuse(model, "truncated or no safetensors")


@pytest.mark.parametrize(
    "header",
    [
        "",
        "{",
        "no json",
        "[]",
        "1",
        '"text"',
        "null",
        DEEP,
        '{"a": 1}',
        '{"a": {}}',
        '{"a": []}',
        '{"a": null}',
    ],
)
def test_header_that_describes_nothing(header: str, model: Path) -> None:
    write_header(model / WEIGHTS, header, b"")
    refuse(model, "damaged")


def test_header_that_is_no_text(model: Path) -> None:
    (model / WEIGHTS).write_bytes((4).to_bytes(8, "little") + b"\xff\xfe\x00\x01")
    refuse(model, "damaged header")


def test_header_names_a_tensor_twice(model: Path) -> None:
    header, body = header_of(model / WEIGHTS)
    text = json.dumps(header)
    write_header(model / WEIGHTS, text[:-1] + f', "{DOWN}": {json.dumps(header[DOWN])}' + "}", body)
    refuse(model, "a name appears twice")


@pytest.mark.parametrize(
    "change",
    [
        {"data_offsets": [-1024, 0]},
        {"data_offsets": [0, -1]},
        {"data_offsets": [0, 10**30]},
        {"data_offsets": [0.0, 1024.0]},
        {"data_offsets": ["0", "1024"]},
        {"data_offsets": [0]},
        {"data_offsets": "ab"},
        {"data_offsets": None},
        {"data_offsets": [True, 1024]},
        {"shape": [32, -16]},
        {"shape": [1 << 63, 1 << 63]},
        {"shape": [0, 10**30]},
        {"shape": [1] * 100},
        {"shape": "ab"},
        {"shape": 512},
        {"shape": [[32, 16]]},
        {"shape": [32, 17]},
        {"dtype": "F7"},
        {"dtype": None},
        {"dtype": ["F32"]},
        {"dtype": {"a": 1}},
        {"dtype": "F64"},
    ],
)
def test_tensor_described_wrongly(change: dict[str, Json], model: Path) -> None:
    header, body = header_of(model / WEIGHTS)
    header[DOWN] |= change
    write_header(model / WEIGHTS, header, body)
    refuse(model, r"damaged way|unknown type|doesn't fit its shape")


@pytest.mark.parametrize("shift", [4, -4])
def test_holes_and_overlaps(shift: int, model: Path) -> None:
    header, body = header_of(model / WEIGHTS)
    header[DOWN]["data_offsets"] = [place + shift for place in header[DOWN]["data_offsets"]]
    write_header(model / WEIGHTS, header, body)
    refuse(model, "hole or an overlap")


@pytest.mark.parametrize("name", ["\ud800", "a\nb", "\x1b[2J", "\u202e"])
def test_tensor_names_that_would_trick_a_terminal(name: str, model: Path) -> None:
    header, body = header_of(model / WEIGHTS)
    header[name] = header.pop(DOWN)
    write_header(model / WEIGHTS, header, body)
    refuse(model, r"damaged (way|header)")


def test_empty_tensors_are_no_damage(model: Path, tmp_path: Path) -> None:
    tensors = load_file(model / WEIGHTS)
    save_file(tensors | {"z.empty": torch.empty(0, 3), "a.number": torch.tensor(2.0)}, model / WEIGHTS)
    cut(model, tmp_path / "result")
    kept = load_file(tmp_path / "result" / WEIGHTS)
    assert kept["z.empty"].shape == (0, 3)
    assert kept["a.number"] == 2.0


@pytest.mark.parametrize(
    "shard",
    [
        "../model.safetensors",
        "/etc/model.safetensors",
        "a/b.safetensors",
        "..\\model.safetensors",
        "C:\\model.safetensors",
        "C:model.safetensors",
        "..",
        "",
        ".safetensors",
        "model.bin",
        "x\0.safetensors",
        "x" * 5000 + ".safetensors",
        7,
        None,
        ["model.safetensors"],
        {},
    ],
)
def test_index_points_elsewhere(shard: Json, sharded: Path) -> None:
    weight_map = json.loads((sharded / INDEX).read_text())["weight_map"]
    shutil.copy(shards_of(sharded)[0], sharded.parent / "model.safetensors")
    edit_json(sharded / INDEX, weight_map=weight_map | {DOWN: shard})
    refuse(sharded, "no file of this folder")


def test_shard_is_missing(sharded: Path) -> None:
    shards_of(sharded)[1].unlink()
    refuse(sharded, r"model-00002-of-\d+\.safetensors is missing")


def test_shard_is_a_folder(sharded: Path) -> None:
    shard = shards_of(sharded)[1]
    shard.unlink()
    shard.mkdir()
    refuse(sharded, "is missing")


def test_index_names_a_tensor_that_the_shard_lacks(sharded: Path) -> None:
    weight_map = json.loads((sharded / INDEX).read_text())["weight_map"]
    edit_json(sharded / INDEX, weight_map=weight_map | {"ghost": weight_map[DOWN]})
    refuse(sharded, "holds 'ghost'; it doesn't")


@pytest.mark.parametrize("weight_map", [None, [], {}, "x", 3])
def test_index_without_a_map(weight_map: Json, sharded: Path) -> None:
    edit_json(sharded / INDEX, weight_map=weight_map)
    refuse(sharded, "no weight_map")


@pytest.mark.parametrize("name", [CONFIG, INDEX])
@pytest.mark.parametrize("text", ["", "{", "[]", "1", DEEP, '"a"', "\ufeff{}"])
def test_json_files_that_are_no_objects(name: str, text: str, sharded: Path) -> None:
    (sharded / name).write_text(text)
    refuse(sharded, r"Can't read|must hold a JSON object")


def test_config_is_missing(model: Path) -> None:
    (model / CONFIG).unlink()
    refuse(model, r"has no config\.json")


@pytest.mark.parametrize(
    "key", ["num_hidden_layers", "num_attention_heads", "num_key_value_heads", "intermediate_size"]
)
@pytest.mark.parametrize("value", [-1, "abc", True, 10**9, 0.5, [2], {}, 3, 10**30])
def test_config_of_wrong_types_and_sizes(key: str, value: Json, model: Path) -> None:
    edit_json(model / CONFIG, **{key: value})
    refuse(model, r"config\.json")


@pytest.mark.parametrize("value", [None, "", "nonsense", 5, ["llama"], {}])
def test_unknown_architecture(value: Json, model: Path) -> None:
    edit_json(model / CONFIG, model_type=value)
    refuse(model, r"No adapter knows model type|config\.json is damaged")


@pytest.mark.parametrize(
    "changes",
    [
        {"num_hidden_layers": 3},
        {"num_hidden_layers": 1},
        {"num_key_value_heads": 1},
        {"num_key_value_heads": 4},
        {"intermediate_size": 24},
    ],
)
def test_config_disagrees_with_the_shapes(changes: dict[str, int], model: Path) -> None:
    edit_json(model / CONFIG, **changes)
    refuse(model, r"config\.json (says|disagrees)")


@pytest.mark.parametrize("key", ["vocab_size", "hidden_size", "image_size", "num_channels"])
def test_config_states_sizes_that_would_fill_the_memory(key: str, model: Path) -> None:
    edit_json(model / CONFIG, **{key: 10**12})
    refuse(model, rf"config\.json says {key} = 1000000000000, but")


def test_tensor_is_missing(model: Path) -> None:
    tensors = load_file(model / WEIGHTS)
    del tensors[DOWN]
    save_file(tensors, model / WEIGHTS)
    refuse(model, f"lacks '{re.escape(DOWN)}'")


def test_quantised_config(model: Path) -> None:
    edit_json(model / CONFIG, quantization_config={"quant_method": "gptq"})
    refuse(model, "before it is quantised")


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int32, torch.float8_e4m3fn])
def test_quantised_weights(dtype: torch.dtype, model: Path) -> None:
    tensors = load_file(model / WEIGHTS)
    save_file(tensors | {DOWN: tensors[DOWN].to(dtype)}, model / WEIGHTS)
    refuse(model, "quantised or packed")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("place", [0, -1])
def test_weights_that_are_no_numbers(dtype: torch.dtype, value: float, place: int, model: Path) -> None:
    tensors = {name: tensor.to(dtype) for name, tensor in load_file(model / WEIGHTS).items()}
    tensors["model.norm.weight"][place] = value
    save_file(tensors, model / WEIGHTS)
    refuse(model, "hold NaN or infinity")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_large_numbers_are_numbers(dtype: torch.dtype, model: Path, tmp_path: Path) -> None:
    tensors = {name: tensor.to(dtype) for name, tensor in load_file(model / WEIGHTS).items()}
    largest = torch.finfo(dtype).max
    tensors["model.norm.weight"][:] = largest
    tensors["model.norm.weight"][::2] = -largest
    tensors[DOWN][:] = largest
    save_file(tensors, model / WEIGHTS)
    cut(model, tmp_path / "result")
    assert (load_file(tmp_path / "result" / WEIGHTS)[DOWN] == largest).all()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt"])
def test_pickles_are_not_opened(name: str, model: Path) -> None:
    (model / WEIGHTS).rename(model / name)
    refuse(model, "pickled weights, which can run code")


def test_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    refuse(tmp_path / "empty", r"has no config\.json")


def test_no_weights(model: Path) -> None:
    (model / WEIGHTS).unlink()
    refuse(model, "has neither")


def test_folder_is_a_file_or_missing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for place in ("file", "missing", "\0"):
        with pytest.raises(PrunePolicyError, match="No model folder"):
            Checkpoint.open(tmp_path / place)


@pytest.mark.parametrize(
    ("keep", "says"),
    [
        ({"layers.9.ffn": (0,)}, "which this model doesn't have"),
        ({FFN: (0, 0, 1)}, "sorted, distinct"),
        ({FFN: (1, 0)}, "sorted, distinct"),
        ({FFN: (0, 16)}, "below 16"),
        ({FFN: (-1, 0)}, "below 16"),
        ({FFN: ()}, "sorted, distinct"),
        ({"layers": ()}, "sorted, distinct"),
    ],
)
def test_plans_that_fit_no_network(keep: dict[str, tuple[int, ...]], says: str, model: Path) -> None:
    refuse(model, says, Plan(keep, Budget(0.5), "test"))


def test_plan_of_another_checkpoint(model: Path) -> None:
    refuse(model, "made for another checkpoint", PLAN.with_fingerprint("0" * 64))
