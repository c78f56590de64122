"""Low-rank adapters that learn in the place of the weights, and are merged into them at the end.

Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", section 4.1.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from prunepolicy.pruning.errors import MissingExtraError, UsageError

SCALE = 2
"""The adapters' alpha over their rank, as is usual."""


def check_peft() -> None:
    """Raise `MissingExtraError` where `peft` isn't installed."""
    try:
        import peft  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("--recover-with lora needs", "lora") from error


def with_adapters(student: nn.Module, rank: int, seed: int) -> Any:
    """Return `student` as a `peft` model in which only adapters learn, beside every layer that would have.

    Its layers are wrapped in place; `merge_and_unload` of the result adds the adapters to the weights and
    unwraps them.

    Args:
        seed: of the adapters' first weights.

    Raises:
        UsageError: when no linear layer would have learned.
    """
    import peft
    from transformers.pytorch_utils import Conv1D

    layers = [
        name
        for name, layer in student.named_modules()
        if isinstance(layer, nn.Linear | Conv1D) and layer.weight.requires_grad
    ]
    if not layers:
        raise UsageError("LoRA adapts linear layers, and none of this model learns.")
    transposed = isinstance(student.get_submodule(layers[0]), Conv1D)
    config = peft.LoraConfig(
        r=rank, lora_alpha=SCALE * rank, target_modules=layers, fan_in_fan_out=transposed
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return peft.LoraModel(student, config, "default")
