"""A model folder on disk: its configuration, and its tensors one at a time."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from prunepolicy.pruning.adapters import ModelAdapter, adapter_for
from prunepolicy.pruning.checkpoint.agreement import check_agreement, check_not_empty, check_vocabulary
from prunepolicy.pruning.checkpoint.no_weights import instead_of_weights, names_in
from prunepolicy.pruning.errors import (
    BadCheckpointError,
    NoWeightsError,
    PrunePolicyError,
    UnsupportedModelError,
)
from prunepolicy.pruning.io import bounded
from prunepolicy.pruning.io.safetensors_file import DTYPES, FLOATS, TensorEntry, read_header
from prunepolicy.pruning.units import UnitGraph

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
SHARD_NAME = re.compile(r"[\w-][\w.-]{0,200}\.safetensors", re.ASCII)


@dataclass(frozen=True)
class Checkpoint:
    """An opened model folder; no weight is in memory until `read`.

    Attributes:
        folder: where it lies.
        config: the content of `config.json`.
        tensors: name to place on disk, shard by shard in file order.
        notes: sentences about a configuration that the weights contradict, and what was believed.
    """

    folder: Path
    config: dict[str, Any]
    tensors: dict[str, TensorEntry]
    notes: tuple[str, ...] = ()

    @classmethod
    def open(cls, folder: Path) -> Checkpoint:
        """Open `folder`, checking names, headers and sizes of everything it lists.

        Where configuration and weights disagree about one matrix or two, the weights are believed.

        Raises:
            NoWeightsError: when it is no model folder, or holds weights of another format.
            BadCheckpointError: when a file is missing, damaged, or outside the folder.
        """
        if not folder.is_dir():
            raise BadCheckpointError(f"No model folder at {folder}.")
        if not has_weights(folder):
            raise NoWeightsError(instead_of_weights(str(folder), names_in(folder), folder), folder)
        config = read_json(folder / CONFIG)
        if config.get("quantization_config"):
            raise BadCheckpointError(f"{folder} is quantised; prune the model before it is quantised.")
        return _settled(cls(folder, config, _tensors(folder)))

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Tensor names and shapes."""
        return {name: entry.shape for name, entry in self.tensors.items()}

    @cached_property
    def adapter(self) -> ModelAdapter:
        """The adapter that knows this architecture."""
        return adapter_for(self.config, self.shapes)

    @cached_property
    def stored_names(self) -> dict[str, str]:
        """The names in the files of the running model's tensors; those it stacks have none.

        Raises:
            BadCheckpointError: when no model can be built by the configuration.
        """
        try:
            return self.adapter.for_config(self.config).stored_names(self.config)
        except PrunePolicyError:
            raise
        except Exception as error:  # transformers takes configurations on trust: any value may break it.
            raise BadCheckpointError(
                f"{self.folder / CONFIG} describes no model that can be built: {bounded.why(error)}."
            ) from error

    def running(self) -> dict[str, Tensor]:
        """Read all tensors, by the running model's names; not those that it stacks."""
        known = self.tensors.keys()
        return {name: self.read(stored) for name, stored in self.stored_names.items() if stored in known}

    @cached_property
    def graph(self) -> UnitGraph:
        """The unit graph, priced with the stored types of the tensors.

        Raises:
            BadCheckpointError: when the configuration disagrees with the tensors' shapes.
        """
        try:
            graph = self.adapter.units(self.config, self.shapes)
        # Adapters take the configuration's types on trust; whatever breaks on them is the file's fault.
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise BadCheckpointError(
                f"{self.folder / CONFIG} is damaged: {error!r} while reading it."
            ) from error
        check_agreement(self.config, graph, self.shapes, self.adapter.task != "vision")
        specs = {
            name: replace(spec, bytes_per_entry=DTYPES[self.tensors[name].dtype].itemsize)
            for name, spec in graph.tensors.items()
        }
        return replace(graph, tensors=specs)

    @cached_property
    def files(self) -> tuple[Path, ...]:
        """The shards, in the order of the index."""
        return tuple(dict.fromkeys(entry.file for entry in self.tensors.values()))

    @cached_property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(entry.nbytes for entry in self.tensors.values())

    @cached_property
    def fingerprint(self) -> str:
        """Hash of configuration, headers and a sample of every tensor's bytes.

        A full hash would read a large model twice; 64 bytes from the middle of every tensor tell
        two fine-tunes of one model apart.
        """
        digest = hashlib.sha256(json.dumps(self.config, sort_keys=True).encode())
        for file in self.files:
            try:
                with open(file, "rb") as stream:
                    for entry in (entry for entry in self.tensors.values() if entry.file == file):
                        digest.update(f"{entry.name}{entry.dtype}{entry.shape}".encode())
                        stream.seek(entry.start + entry.nbytes // 2)
                        digest.update(stream.read(min(64, entry.nbytes - entry.nbytes // 2)))
            except OSError as error:
                raise BadCheckpointError(f"Can't read {file}: {error.strerror or error}.") from error
        return digest.hexdigest()

    def blocks(self, name: str) -> Iterator[torch.Tensor]:
        """Read one tensor in runs of rows that share one buffer, refusing values that are no numbers.

        Raises:
            BadCheckpointError: when the tensor holds NaN or infinity.
        """
        for block in self.tensors[name].blocks():
            check_finite(name, block)
            yield block

    def read(self, name: str) -> torch.Tensor:
        """Read one tensor, refusing values that are no numbers.

        Raises:
            BadCheckpointError: when the tensor holds NaN or infinity.
        """
        tensor = self.tensors[name].read()
        check_finite(name, tensor)
        return tensor


def _settled(checkpoint: Checkpoint) -> Checkpoint:
    """Return the checkpoint with a configuration that its weights agree with.

    transformers 5 compares a stored head with the embedding, too; transformers 4 takes the embedding
    for the head whenever the configuration says that they are tied.
    """
    check_not_empty(checkpoint.shapes)
    try:
        adapter = checkpoint.adapter
    except UnsupportedModelError:
        return checkpoint
    config, words = checkpoint.config, adapter.vocabulary(checkpoint.shapes)
    check_vocabulary(config, words, checkpoint.shapes, adapter.ties(config))
    if not adapter.ties(config) or words.embedding is None or words.head is None:
        return checkpoint
    if _same_values(checkpoint.tensors[words.embedding], checkpoint.tensors[words.head]):
        once = {name: entry for name, entry in checkpoint.tensors.items() if name != words.head}
        return replace(checkpoint, tensors=once)
    note = (
        f"config.json says that embedding and head are one matrix (tie_word_embeddings), but the stored "
        f"{words.head!r} differs from {words.embedding!r}: both count, and the result's config.json says so. "
        "transformers 5 loads both from the original, too; transformers 4 would leave out the head."
    )
    return replace(checkpoint, config=config | {"tie_word_embeddings": False}, notes=(note,))


def _same_values(one: TensorEntry, other: TensorEntry) -> bool:
    if (one.shape, one.dtype) != (other.shape, other.dtype):
        return False
    return all(first.equal(second) for first, second in zip(one.blocks(), other.blocks(), strict=True))


def check_finite(name: str, tensor: torch.Tensor) -> None:
    """Raise `BadCheckpointError` when a floating-point tensor holds NaN or infinity."""
    if not tensor.is_floating_point() or not tensor.numel():
        return
    # One pass: NaN passes through both extremes, infinity is one. No 8-bit type has the kernel.
    extremes = torch.stack(torch.aminmax(tensor.float() if tensor.dtype.itemsize == 1 else tensor))
    if not torch.isfinite(extremes).all():
        raise BadCheckpointError(
            f"The weights {name!r} hold NaN or infinity; repair or fetch the model again."
        )


def has_weights(folder: Path) -> bool:
    """Return whether weights in safetensors lie in `folder` under the names that loaders look for."""
    return (folder / WEIGHTS).is_file() or (folder / INDEX).is_file()


def read_json(file: Path) -> dict[str, Any]:
    """Read a JSON object, or raise `BadCheckpointError` that names the file."""
    try:
        data = bounded.parsed_json(bounded.read_bytes(file), _untagged)
    except FileNotFoundError as error:
        raise BadCheckpointError(f"{file.parent} has no {file.name}.") from error
    except (OSError, ValueError) as error:
        raise BadCheckpointError(f"Can't read {file}: {bounded.why(error)}.") from error
    if not isinstance(data, dict):
        raise BadCheckpointError(f"{file} must hold a JSON object.")
    return data


def _untagged(pairs: list[tuple[str, Any]]) -> Any:
    """Return an object, or the number that transformers 5 writes as {"__float__": "Infinity"}."""
    value = dict(pairs)
    if value.keys() == {"__float__"} and value["__float__"] in ("Infinity", "-Infinity", "NaN"):
        return float(value["__float__"])
    return value


def _tensors(folder: Path) -> dict[str, TensorEntry]:
    # The order in which transformers looks, so that both read the same weights.
    if (folder / WEIGHTS).is_file():
        return {entry.name: entry for entry in read_header(folder / WEIGHTS)}
    return _indexed_tensors(folder)


def _indexed_tensors(folder: Path) -> dict[str, TensorEntry]:
    weight_map = read_json(folder / INDEX).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise BadCheckpointError(f"{INDEX} has no weight_map.")
    for shard in weight_map.values():
        _check_shard_name(folder, shard)
    shards = {
        shard: {entry.name: entry for entry in read_header(folder / shard)}
        for shard in dict.fromkeys(weight_map.values())
    }
    for name, shard in weight_map.items():
        if name not in shards[shard]:
            raise BadCheckpointError(f"{INDEX} says that {shard} holds {name!r}; it doesn't.")
    return {
        name: entry
        for shard, entries in shards.items()
        for name, entry in entries.items()
        if weight_map.get(name) == shard
    }


def _check_shard_name(folder: Path, shard: Any) -> None:
    if not isinstance(shard, str) or not SHARD_NAME.fullmatch(shard):
        raise BadCheckpointError(f"{INDEX} points at {str(shard)[:80]!r}, which is no file of this folder.")
    if not (folder / shard).is_file():
        raise BadCheckpointError(f"The shard {shard} is missing from {folder}.")


def check_cuttable(entry: TensorEntry) -> None:
    """Raise `BadCheckpointError` when a tensor that has to shrink is stored packed."""
    if entry.dtype not in FLOATS:
        raise BadCheckpointError(
            f"{entry.name!r} is stored as {entry.dtype}, a quantised or packed type; "
            "prune the model before it is quantised."
        )
