"""Text as token ids that the model knows; every text of the user's passes here."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from prunepolicy.pruning.errors import PrunePolicyError


def token_ids(model: nn.Module, tokenizer: Any, text: str) -> Tensor:
    """Tokenise a text without adding special tokens, shape (length,).

    Raises:
        PrunePolicyError: when the tokenizer knows more tokens than the model, and the text has one.
    """
    ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    check_known(model, tokenizer, ids)
    return torch.tensor(ids, dtype=torch.long)


def start_of_text(model: nn.Module, tokenizer: Any) -> int | None:
    """Return the token with which the tokenizer starts a text; None where it has none.

    Raises:
        PrunePolicyError: when the model doesn't know it.
    """
    start: int | None = tokenizer.bos_token_id
    check_known(model, tokenizer, [] if start is None else [start])
    return start


def check_known(model: nn.Module, tokenizer: Any, ids: Iterable[int]) -> None:
    """Raise `PrunePolicyError` when the model has no row for one of the tokenizer's ids."""
    embedding: Any = model.get_input_embeddings()  # type: ignore[operator]
    rows, largest = len(embedding.weight), max(ids, default=0)
    if largest >= rows:
        name = getattr(tokenizer, "name_or_path", "") or "the model's folder"
        raise PrunePolicyError(
            f"The tokenizer in {name} knows {tokenizer.convert_ids_to_tokens(largest)!r} as token {largest}, "
            f"but the model's vocabulary ends at {rows - 1}: tokens were added, the embedding not resized. "
            "Resize it and save the model again, or put the tokenizer there that it was trained with."
        )
