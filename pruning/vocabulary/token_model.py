"""What a tokenizer's model answers when tokens are to go, whichever algorithm it is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

BYTES = tuple(f"<0x{byte:02X}>" for byte in range(256))
"""Tokens that stand for the bytes of letters that a vocabulary lacks."""
WORD_START = "▁"
"""What SentencePiece writes for a space; its decoder looks for this letter alone."""


@dataclass(frozen=True)
class TokenModel(ABC):
    """The `model` of a `tokenizer.json`.

    Attributes:
        data: as it stands in the file.
        builds: tokens are built from their pieces, so that no token stays whose pieces go.
    """

    data: Mapping[str, Any]
    builds = False

    @property
    @abstractmethod
    def numbers(self) -> Mapping[str, int]:
        """Ids by token."""

    @abstractmethod
    def essential(self) -> set[int]:
        """Return the ids of tokens without which some text couldn't be encoded as well as before."""

    @abstractmethod
    def pieces(self) -> dict[int, tuple[int, ...]]:
        """Return, by id, the ids that are read where a token isn't there; without those that have none."""

    @abstractmethod
    def without(self, new: Mapping[int, int]) -> dict[str, Any]:
        """Return the model's data with the tokens that stay; `new` has their numbers by the old ones."""
