"""What a folder or a hub repository holds where no model in safetensors is, and what to do about it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fnmatch import filter as matching
from itertools import chain, islice
from pathlib import Path

from prunepolicy.pruning.checkpoint.model_files import ADAPTER, OTHER_WEIGHTS, reason_to_stay
from prunepolicy.pruning.io import bounded

MOST_NAMES = 10_000

PICKLES = ("*.bin", "*.bin.index.json", "*.pt", "*.pth", "*.ckpt", "*.pkl")
INSTEAD = (
    (
        PICKLES,
        "{called} holds pickled weights, which can run code. Convert them first: load the model where you "
        "trust it and call save_pretrained, which writes safetensors.",
    ),
    (
        ("*.gguf",),
        "{called} holds GGUF files and no model folder; give one of them, as {found}, or better the model "
        "that they were made from.",
    ),
    (
        ("model_index.json",),
        "{called} is a pipeline of several networks for diffusers; only single models can be pruned.",
    ),
    (
        ("*/config.json",),
        "{called} is no model folder itself, but holds one: give its folder {inner}.",
    ),
    (
        ("model-*-of-*.safetensors",),
        "{called} holds shards ({found}) and lacks model.safetensors.index.json, which says what is in them; "
        "fetch that file, too.",
    ),
    (
        ("*.safetensors",),
        "{called} holds weights under another name ({found}); save the model again with save_pretrained, "
        "which writes model.safetensors.",
    ),
    (
        ("*.h5", "*.keras", "*.msgpack", "*.onnx", "*.ot", "*.tflite", "*.mlmodel", "*.nemo", "*.pdparams"),
        "{called} holds weights of another format ({found}) and none in safetensors; save the model as "
        "safetensors first, with save_pretrained.",
    ),
    (
        ("*.parquet", "*.arrow", "*.csv", "*.jsonl", "dataset_info*.json"),
        "{called} holds data ({found}) and no model; check the name.",
    ),
    (
        ("config.json",),
        "{called} has neither model.safetensors nor model.safetensors.index.json; fetch its weights, too.",
    ),
    (
        ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt"),
        "{called} holds a tokenizer and no model that goes with it; check the name, or fetch the model, too.",
    ),
)
"""Patterns of file names in the order in which they tell what a folder is, each with the sentence to say."""


def instead_of_weights(called: str, names: Iterable[str], folder: Path) -> str:
    """Return the sentence about a folder in which nothing can be pruned.

    Args:
        called: the folder or repository, as a sentence calls it.
        names: paths of all its files, with slashes.
        folder: where those lie that are here.
    """
    names = [name for name in islice(names, MOST_NAMES) if reason_to_stay(name) in (None, OTHER_WEIGHTS)]
    if ADAPTER in names:
        return _adapter(called, _base(folder / ADAPTER))
    for patterns, sentence in INSTEAD:
        found = sorted(set(chain.from_iterable(matching(names, pattern) for pattern in patterns)))
        if found:
            inner = found[0].rpartition("/")[0]
            return sentence.format(called=called, found=_listed(found), inner=repr(inner))
    return f"{called} has no config.json: it is no model folder."


def names_in(folder: Path) -> list[str]:
    """Return what lies in `folder`, and the configurations of models in its folders."""
    try:
        inside = sorted(islice(folder.iterdir(), MOST_NAMES))
        inner = [f"{path.name}/config.json" for path in inside if (path / "config.json").is_file()]
    except OSError:
        return []
    return [path.name for path in inside if path.is_file()] + inner


def _adapter(called: str, base: str) -> str:
    return (
        f"{called} is an adapter (LoRA) of {base}, and no model. Merge it first, with "
        "PeftModel.from_pretrained(model, adapter).merge_and_unload().save_pretrained(folder), and prune "
        "that folder."
    )


def _base(file: Path) -> str:
    """Return the model that an adapter's configuration names."""
    try:
        config = bounded.read_json(file)
    except (OSError, ValueError):
        config = {}
    base = config.get("base_model_name_or_path") if isinstance(config, dict) else None
    return repr(base) if isinstance(base, str) and re.fullmatch(r"[\w./~-]{1,120}", base) else "another model"


def _listed(found: Sequence[str]) -> str:
    shown = ", ".join(name if name.isprintable() else repr(name) for name in found[:3])
    return f"{shown} and {len(found) - 3} more" if len(found) > 3 else shown
