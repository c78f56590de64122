"""A model that a user named, opened on the hardware that the user chose."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn

from prunepolicy.pruning.checkpoint import Checkpoint
from prunepolicy.pruning.loading import load_model, load_tokenizer
from prunepolicy.pruning.machine import device_name
from prunepolicy.pruning.precision import device_called, dtype_called
from prunepolicy.pruning.source import resolve


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
        return device_called(self.device)

    @cached_property
    def torch_dtype(self) -> torch.dtype:
        """The type that `dtype` names."""
        return dtype_called(self.dtype, self.torch_device)

    def described(self) -> dict[str, str]:
        """Return what reports say about it."""
        return {
            "device": device_name(self.torch_device),
            "dtype": str(self.torch_dtype).removeprefix("torch."),
        }


@dataclass(frozen=True)
class OpenedModel:
    """A model by the name the user gave; loaded when first used.

    Attributes:
        name: a folder, a hub id or an alias.
    """

    name: str
    hardware: Hardware

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """The folder on disk."""
        return Checkpoint.open(resolve(self.name))

    @cached_property
    def model(self) -> nn.Module:
        """The running model."""
        hardware = self.hardware
        return load_model(
            self.checkpoint.folder,
            self.checkpoint.adapter,
            hardware.torch_dtype,
            hardware.torch_device,
            hardware.trust_remote_code,
        )

    @cached_property
    def tokenizer(self) -> Any:
        """Its tokenizer."""
        return load_tokenizer(self.checkpoint.folder)
