"""A model that a user named, opened on the hardware that the user chose."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, Self

import torch
from torch import nn

from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.checkpoint.loading import has_tokenizer, load_model, load_tokenizer
from prunepolicy.pruning.checkpoint.source import resolve
from prunepolicy.pruning.checkpoint.streamed import StreamedParts, load_streamed
from prunepolicy.pruning.errors import NotEnoughSpaceError
from prunepolicy.pruning.io.machine import GIB, available_memory, device_name
from prunepolicy.pruning.io.precision import parse_device, parse_dtype

ROOM = GIB // 2
"""Bytes that a batch takes beside the weights."""


@dataclass(frozen=True)
class Hardware:
    """What to compute on and with.

    Attributes:
        device: `auto`, or a name that torch knows.
        dtype: `auto`, or `float32`, `bfloat16`, `float16`. Everything in one comparison has it.
        trust_remote_code: run modelling files that folders carry.
    """

    device: str = "auto"
    dtype: str = "auto"
    trust_remote_code: bool = False

    @cached_property
    def torch_device(self) -> torch.device:
        """The device that `device` names."""
        return parse_device(self.device)

    @cached_property
    def torch_dtype(self) -> torch.dtype:
        """The type that `dtype` names."""
        return parse_dtype(self.dtype, self.torch_device)

    def __getstate__(self) -> dict[str, Any]:
        """Travel without what was found out: another machine has other devices."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def described(self) -> dict[str, str]:
        """Return what reports say about it."""
        return {
            "device": device_name(self.torch_device),
            "dtype": str(self.torch_dtype).removeprefix("torch."),
        }


@dataclass(frozen=True)
class OpenedModel:
    """A model by the name the user gave; its weights are loaded when first used.

    Attributes:
        name: a folder, a hub id or an alias.
    """

    name: str
    checkpoint: Checkpoint
    hardware: Hardware

    @classmethod
    def named(cls, name: str, hardware: Hardware, revision: str | None = None) -> Self:
        """Find and open what the user calls `name`."""
        return cls(name, Checkpoint.open(resolve(name, revision)), hardware)

    def __getstate__(self) -> dict[str, Any]:
        """Travel with the weights, which another machine may not have, in the number type they have here."""
        model = self.model if self.device.type == "cpu" else copy.deepcopy(self.model).cpu()
        hardware = replace(self.hardware, dtype=str(self.dtype).removeprefix("torch."))
        return {**self.__dict__, "hardware": hardware, "model": model}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Arrive on the device that the hardware's name means on this machine."""
        self.__dict__.update(state)
        self.model.to(self.device)

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self.hardware.torch_device

    @property
    def dtype(self) -> torch.dtype:
        """The number type it computes in."""
        return self.hardware.torch_dtype

    @cached_property
    def model(self) -> nn.Module:
        """The running model."""
        return self.load(self.dtype)

    @cached_property
    def tokenizer(self) -> Any:
        """Its tokenizer; None for models that read no text."""
        if self.checkpoint.adapter.task == "vision":
            return None
        return load_tokenizer(self.checkpoint.folder, self.hardware.trust_remote_code)

    @property
    def tokenizer_if_any(self) -> Any:
        """Its tokenizer; None where its folder has none, which suffices for texts that it writes itself."""
        return self.tokenizer if has_tokenizer(self.checkpoint.folder) else None

    def load(self, dtype: torch.dtype) -> nn.Module:
        """Load the model once more, in a number type of its own.

        One that takes more memory than is free reads its layers from disk, one by one as they run.

        Raises:
            NotEnoughSpaceError: when not even that would fit into memory.
        """
        if not self.fits(dtype):
            parts = self.streamed_parts
            if parts is None or not _is_free(parts.memory_needed(self.checkpoint, dtype) + ROOM):
                raise NotEnoughSpaceError(
                    f"Running {self.name} takes about {self.memory_needed(dtype) / GIB:.1f} GiB of memory, "
                    "more than is free; policies that only read weights (magnitude, random) plan without "
                    "running it."
                )
            return load_streamed(self.checkpoint, parts, dtype, self.device)
        folder, adapter = self.checkpoint.folder, self.checkpoint.adapter
        return load_model(folder, adapter, dtype, self.device, self.hardware.trust_remote_code)

    def memory_needed(self, dtype: torch.dtype) -> int:
        """Return the bytes that one running copy takes, with room for one batch."""
        entries = sum(math.prod(shape) for shape in self.checkpoint.shapes.values())
        return int(1.3 * entries * dtype.itemsize) + ROOM

    def fits(self, dtype: torch.dtype, copies: int = 1) -> bool:
        """Return whether so many running copies fit into free memory, with all their weights."""
        return self.device.type != "cpu" or _is_free(copies * self.memory_needed(dtype))

    @cached_property
    def streamed_parts(self) -> StreamedParts | None:
        """What is read when its layers come from disk one by one; None where they can't."""
        return StreamedParts.of(self.checkpoint)


def _is_free(nbytes: int) -> bool:
    free = available_memory()
    return free is None or nbytes < free
