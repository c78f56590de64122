"""Byte-pair encoding: tokens are built by merge rules, and need what they are built from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from functools import cached_property
from itertools import pairwise
from typing import Any

from prunepolicy.pruning.vocabulary.token_model import BYTES, WORD_START, TokenModel

Rule = tuple[str, str]


class BytePairs(TokenModel):
    """Words are spelled out, then the rule of lowest rank is applied as long as one fits."""

    builds = True

    @cached_property
    def numbers(self) -> Mapping[str, int]:
        """Ids by token."""
        return dict(self.data["vocab"])

    @cached_property
    def rules(self) -> tuple[Rule, ...]:
        """The merge rules by rank; older files write each as one text with a space."""
        pairs = (rule.split(" ", 1) if isinstance(rule, str) else rule for rule in self.data["merges"])
        return tuple((left, right) for left, right in pairs)

    @cached_property
    def _ranks(self) -> dict[Rule, int]:
        return {rule: rank for rank, rule in reversed(list(enumerate(self.rules)))}

    @cached_property
    def _rules_of(self) -> dict[str, list[Rule]]:
        """Return the rules that build each token."""
        found: dict[str, list[Rule]] = defaultdict(list)
        for rule in self.rules:
            found[self._merged(rule)].append(rule)
        return found

    def _merged(self, rule: Rule) -> str:
        left, right = rule
        return left + right[len(self.data.get("continuing_subword_prefix") or "") :]

    def essential(self) -> set[int]:
        """Return what no rule builds; of a model that falls back to bytes, letters may go."""
        leaves = self.numbers.keys() - self._rules_of.keys()
        if self.data.get("byte_fallback") and self.numbers.keys() >= {*BYTES}:
            leaves = {token for token in leaves if len(token) > 1 or token == WORD_START}
        unknown = {str(self.data.get("unk_token"))} & self.numbers.keys()
        return {self.numbers[token] for token in {*leaves, *unknown}}

    def pieces(self) -> dict[int, tuple[int, ...]]:
        """Return the two tokens that are merged last when a token's own text is encoded."""
        found = {}
        for token, rules in self._rules_of.items():
            parts = rules[0] if len(rules) == 1 else self._last_merge(token) or rules[0]
            if token in self.numbers and all(part in self.numbers for part in parts):
                found[self.numbers[token]] = tuple(self.numbers[part] for part in parts)
        return found

    def _last_merge(self, token: str) -> Rule | None:
        """Return the rule that completes a token of several; None where its letters don't lead to it."""
        symbols, none = list(token), len(self.rules)
        while len(symbols) > 2:
            ranks = [self._ranks.get(pair, none) for pair in pairwise(symbols)]
            place = min(range(len(ranks)), key=ranks.__getitem__)
            if ranks[place] == none:
                return None
            symbols[place : place + 2] = [symbols[place] + symbols[place + 1]]
        pair = (symbols[0], symbols[-1])
        return pair if pair in self._ranks else None

    def without(self, new: Mapping[int, int]) -> dict[str, Any]:
        """Return the model with the rules of which all three tokens stay."""
        vocab = {token: new[number] for token, number in self.numbers.items() if number in new}
        merges = [
            written
            for written, rule in zip(self.data["merges"], self.rules, strict=True)
            if {*rule, self._merged(rule)} <= vocab.keys()
        ]
        return {**self.data, "vocab": vocab, "merges": merges}
