"""Run a model with some of its tokens only, by the numbers that these have in a vocabulary of their own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


@contextmanager
def only_tokens(model: nn.Module, kept: Sequence[int]) -> Iterator[None]:
    """Let `model` read and write the tokens in `kept` alone, each called by its place in that list.

    What the others would be is neither read nor answered, as if their logits were minus infinity.
    """
    network: Any = model
    config, pad = network.config, getattr(network.config, "pad_token_id", None)
    old = torch.tensor(kept, device=next(model.parameters()).device)

    def read(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (old[inputs[0]], *inputs[1:])

    def answer(module: nn.Module, inputs: Any, logits: Tensor) -> Tensor:
        return logits[..., old]

    head = network.get_output_embeddings()
    handles = [network.get_input_embeddings().register_forward_pre_hook(read)]
    handles += [] if head is None else [head.register_forward_hook(answer)]
    try:
        if pad in kept:  # Classifiers look for padding among what they read.
            config.pad_token_id = kept.index(pad)
        yield
    finally:
        config.pad_token_id = pad
        for handle in handles:
            handle.remove()
