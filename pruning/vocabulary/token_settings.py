"""Ids in a model's configurations, which follow the tokens to their new numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from prunepolicy.pruning.errors import PrunePolicyError

ENDINGS = ("token_id", "token_ids", "token_index")
FORCED, BIAS = "forced_decoder_ids", "sequence_bias"
UNWANTED = ("suppress_tokens", "begin_suppress_tokens", "bad_words_ids")
"""Keys of tokens that aren't to be written: what is gone needn't be named."""


def ids_named(settings: Mapping[str, Any]) -> set[int]:
    """Return the ids in a configuration that a model can't do without."""
    return {number for key, value in _entries(settings) if key not in UNWANTED for number in _ids(key, value)}


def with_new_ids(settings: Mapping[str, Any], new: Mapping[int, int], rows: int) -> dict[str, Any]:
    """Return a configuration in which every id is the token's new one.

    Args:
        new: numbers of the tokens that stay, by the old ones.
        rows: of the old vocabulary; other numbers (-1 for no token) aren't ids.

    Raises:
        PrunePolicyError: when one is named that goes.
    """

    def follow(key: str, number: Any) -> Any:
        if type(number) is not int or not 0 <= number < rows:
            return number
        if number not in new:
            raise PrunePolicyError(f"The plan removes token {number}, which the model's {key} names.")
        return new[number]

    def changed(key: str, value: Any) -> Any:
        if isinstance(value, dict):
            return {inner: changed(inner, entry) for inner, entry in value.items()}
        if key in UNWANTED and isinstance(value, list):
            return [_each(entry, new.__getitem__) for entry in value if {*_flat(entry)} <= new.keys()]
        if key == FORCED and isinstance(value, list):
            return [[position, follow(key, number)] for position, number in value]
        if key == BIAS and isinstance(value, list):
            return [[[follow(key, number) for number in ids], bias] for ids, bias in value]
        return _each(value, lambda number: follow(key, number)) if key.endswith(ENDINGS) else value

    return {key: changed(key, value) for key, value in settings.items()}


def _entries(settings: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield keys and values, those of configurations inside one included."""
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from _entries(value)
        else:
            yield key, value


def _ids(key: str, value: Any) -> Iterator[int]:
    if key == FORCED and isinstance(value, list):
        yield from (number for _, number in value if type(number) is int)
    elif key == BIAS and isinstance(value, list):
        yield from (number for ids, _ in value for number in ids)
    elif key.endswith(ENDINGS):
        yield from (number for number in _flat(value) if type(number) is int and number >= 0)


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        for entry in value:
            yield from _flat(entry)
    else:
        yield value


def _each(value: Any, change: Any) -> Any:
    return [_each(entry, change) for entry in value] if isinstance(value, list) else change(value)
