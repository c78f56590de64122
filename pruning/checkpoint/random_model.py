"""Tiny language models with random weights, made on the spot: `random:llama` tries a command out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prunepolicy.pruning.adapters.base import ModelAdapter
from prunepolicy.pruning.adapters.registry import adapters
from prunepolicy.pruning.errors import PrunePolicyError, did_you_mean
from prunepolicy.pruning.io.cache import made_once

RANDOM_PREFIX = "random:"
FORM = 1
"""Goes into the folder's name; raised when other models are made, so that they are made anew."""
SPECIAL = ("</s>", "<s>")
CONTEXTS = ("max_position_embeddings", "original_max_position_embeddings", "n_positions")
CONTEXT = 128
STD = 0.15
"""Of weights: large enough for every unit to matter."""


def random_model(name: str, cache: Path | None = None) -> Path:
    """Return the folder of the tiny model that a name such as `random:llama` stands for, made the first time.

    It reads bytes; equal names have equal weights.

    Args:
        cache: where made models are kept; by default the user's cache folder.

    Raises:
        PrunePolicyError: when no language model's family has the name.
    """
    family = name.removeprefix(RANDOM_PREFIX)
    known = {key: one for key, one in adapters.items() if one.auto_class == ModelAdapter.auto_class}
    if family not in known:
        hint = did_you_mean(family, known)
        raise PrunePolicyError(f"There is no family of language models {family!r:.80}.{hint}")
    return made_once(f"random-{family}-{FORM}", lambda folder: _make(known[family], folder), cache)


def _make(adapter: ModelAdapter, folder: Path) -> None:
    import torch

    from prunepolicy.pruning.io.transformers_loading import without_bars

    tokenizer = _byte_tokenizer()
    config = adapter.tiny()
    config |= {"vocab_size": len(tokenizer), **{key: CONTEXT for key in CONTEXTS if key in config}}
    with torch.random.fork_rng(devices=[]), without_bars():
        torch.manual_seed(0)
        model: Any = adapter.build(config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(STD * torch.randn_like(parameter) + (parameter.dim() == 1))
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def _byte_tokenizer() -> Any:
    """Return a tokenizer with one token per byte, an end and a start."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate((*SPECIAL, *alphabet))}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    end, start = SPECIAL
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=start, eos_token=end)
