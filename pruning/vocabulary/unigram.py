"""The unigram model: of all ways to split a text into pieces, the likeliest."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from prunepolicy.pruning.vocabulary.token_model import BYTES, WORD_START, TokenModel


class Unigram(TokenModel):
    """Every piece has a log-probability, by which splits are compared."""

    @cached_property
    def numbers(self) -> Mapping[str, int]:
        """Ids by token."""
        return {token: number for number, (token, _) in enumerate(self.data["vocab"])}

    def essential(self) -> set[int]:
        """Return the unknown token, letters unless bytes stand in for them, and the piece of lowest score.

        That score says what an unknown letter costs, and with it how texts are split that have one.
        """
        scores = {token: score for token, score in self.data["vocab"]}
        falls_back = self.data.get("byte_fallback") and scores.keys() >= {*BYTES}
        letters = {WORD_START} if falls_back else {token for token in scores if len(token) == 1}
        stay = (letters | ({*BYTES} if falls_back else set())) & scores.keys()
        stay.add(min(scores, key=scores.__getitem__))
        unknown = self.data.get("unk_id")
        return {self.numbers[token] for token in stay} | ({unknown} if unknown is not None else set())

    def pieces(self) -> dict[int, tuple[int, ...]]:
        """Return the likeliest split of every piece into others, where there is one."""
        scores = {token: score for token, score in self.data["vocab"]}
        longest = max(map(len, scores), default=0)
        found = {}
        for token in scores:
            if split := _likeliest_split(token, scores, longest):
                found[self.numbers[token]] = tuple(self.numbers[part] for part in split)
        return found

    def without(self, new: Mapping[int, int]) -> dict[str, Any]:
        """Return the model with the pieces that stay, in their order."""
        vocab = [entry for number, entry in enumerate(self.data["vocab"]) if number in new]
        unknown = self.data.get("unk_id")
        return {**self.data, "vocab": vocab, "unk_id": None if unknown is None else new[unknown]}


def _likeliest_split(token: str, scores: Mapping[str, float], longest: int) -> tuple[str, ...]:
    """Return the split of highest score into at least two pieces; nothing where there is none."""
    best: list[tuple[float, tuple[str, ...]]] = [(0.0, ())]
    for end in range(1, len(token) + 1):
        ways = [
            (best[start][0] + scores[token[start:end]], (*best[start][1], token[start:end]))
            for start in range(max(0, end - longest), end)
            if token[start:end] in scores and (start, end) != (0, len(token))
        ]
        best.append(max(ways, default=(-math.inf, ())))
    return best[-1][1] if best[-1][0] > -math.inf else ()
