"""WordPiece: words are taken apart from the left, the longest piece first."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from prunepolicy.pruning.vocabulary.token_model import TokenModel


class WordPieces(TokenModel):
    """Pieces inside a word begin with a prefix; a word with a part that is no piece is unknown."""

    @cached_property
    def numbers(self) -> Mapping[str, int]:
        """Ids by token."""
        return dict(self.data["vocab"])

    @property
    def _prefix(self) -> str:
        return str(self.data.get("continuing_subword_prefix", "##"))

    def essential(self) -> set[int]:
        """Return the unknown token and all letters, so that what could be read still can."""
        letters = {token for token in self.numbers if len(token.removeprefix(self._prefix)) == 1}
        unknown = {str(self.data.get("unk_token"))} & self.numbers.keys()
        return {self.numbers[token] for token in letters | unknown}

    def pieces(self) -> dict[int, tuple[int, ...]]:
        """Return what is read where a token isn't there: its longest beginning, and so on."""
        found = {}
        for token, number in self.numbers.items():
            if split := self._taken_apart(token):
                found[number] = tuple(self.numbers[part] for part in split)
        return found

    def _taken_apart(self, token: str) -> list[str]:
        """Return the pieces that are read instead of a token; nothing where there are none."""
        prefix = self._prefix if token.startswith(self._prefix) else ""
        rest, pieces = token.removeprefix(prefix), list[str]()
        while rest:
            ends = range(len(rest) - (not pieces), 0, -1)
            end = next((end for end in ends if prefix + rest[:end] in self.numbers), None)
            if end is None:
                return []
            pieces.append(prefix + rest[:end])
            rest, prefix = rest[end:], self._prefix
        return pieces

    def without(self, new: Mapping[int, int]) -> dict[str, Any]:
        """Return the model with the pieces that stay."""
        vocab = {token: new[number] for token, number in self.numbers.items() if number in new}
        return {**self.data, "vocab": vocab}
