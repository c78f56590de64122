"""A copy of a network that is small enough to try on: few layers of every kind, few tokens, narrow blocks."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from prunepolicy.pruning.adapters.base import Config
from prunepolicy.pruning.adapters.derived.movement import unnumbered
from prunepolicy.pruning.adapters.derived.network import Network, network
from prunepolicy.pruning.adapters.derived.paths import joined, number, parts_of, restated
from prunepolicy.pruning.adapters.derived.settings_by_name import (
    EXPERTS,
    GROUPS,
    HEADS,
    HIDDEN,
    KV_HEADS,
    TOP_K,
    WINDOWS,
    is_width,
)
from prunepolicy.pruning.adapters.derived.stack import DEPTHS, Stack, stacks

VOCABULARY = 512
WIDTH = 48
FEWEST = 4
"""Layers, so that one in the middle can go; every kind is there twice where the network has it twice."""
SEEN = 8
"""Tokens that a sliding window sees: the trial reads many more."""
MOST_ENTRIES = 150_000_000
"""Parameters of a copy that is tried; 600 MB."""


def small_copies(config: Config, auto_class: str) -> Iterator[Config]:
    """Yield ever larger copies of a network that has all its kinds of tensors; the first that runs will do.

    Args:
        config: completed with all defaults.
    """
    shallow = _with_fewer_tokens(_with_fewer_layers(config, auto_class), auto_class)
    narrow = _with_narrow_windows(_narrowed(shallow, auto_class), auto_class)
    for copy in (narrow, _with_narrow_windows(shallow, auto_class), shallow, config):
        if entries(network(copy, auto_class)) <= MOST_ENTRIES:
            yield copy


def entries(found: Network) -> int:
    """Return the number of entries of all tensors."""
    return sum(math.prod(shape) for shape in found.stored.values())


def _with_fewer_layers(config: Config, auto_class: str) -> Config:
    """Return a configuration of the first layers only, as many as show every kind."""
    whole = network(config, auto_class)
    for part, settings in parts_of(config):
        for key in DEPTHS:
            depth = number(config, path := joined(part, key))
            if not depth or depth <= FEWEST:
                continue
            lists = {
                name: value
                for name, value in settings.items()
                if isinstance(value, list | str) and len(value) == depth and name != "architectures"
            }
            shown = max(
                (_kinds_shown(whole, stack, lists) for stack in stacks(whole, config, path)), default=1
            )
            fewer = min(depth, max(FEWEST, 2 * shown))
            shorter = {joined(part, name): value[:fewer] for name, value in lists.items()}
            config = _if_alike(config, {path: fewer, **shorter}, auto_class)
    return config


def _kinds_shown(whole: Network, stack: Stack, lists: dict[str, Any]) -> int:
    """Return how many of the first layers show every kind of layer."""
    inside: dict[int, list[object]] = {}
    for name, shape in whole.stored.items():
        number, marker, rest = name.removeprefix(stack.prefix).partition(".")
        if marker and name.startswith(stack.prefix) and number.isdigit():
            inside.setdefault(int(number), []).append((rest, shape))
    kinds = {
        layer: (frozenset(tensors), *(str(value[layer]) for value in lists.values()))
        for layer, tensors in inside.items()
        if layer < stack.depth
    }
    first = {kind: layer for layer, kind in sorted(kinds.items(), reverse=True)}
    return max(first.values(), default=1) + 1


def _with_fewer_tokens(config: Config, auto_class: str) -> Config:
    """Return a configuration with a small vocabulary, and special tokens inside of it."""
    changes: dict[str, Any] = {}
    for part, settings in parts_of(config):
        special = VOCABULARY
        for key, value in settings.items():
            large = isinstance(value, int) and not isinstance(value, bool) and value >= VOCABULARY
            if large and "vocab_size" in key:
                changes[joined(part, key)] = VOCABULARY
            elif large and key.endswith(("token_id", "token_index")):
                special -= 1
                changes[joined(part, key)] = special
            elif key.endswith("token_id") and isinstance(value, list):
                changes[joined(part, key)] = [min(item, VOCABULARY - 1) for item in value]
    return _if_alike(config, changes, auto_class)


def _narrowed(config: Config, auto_class: str) -> Config:
    """Return a configuration of few heads and experts, and of narrow blocks."""
    for part, settings in parts_of(config):
        config = _if_alike(config, _fewer_experts(part, settings), auto_class)
        for key, value in settings.items():
            if is_width(key) and isinstance(value, int) and value > WIDTH:
                config = _if_alike(config, {joined(part, key): WIDTH}, auto_class)
        config = _if_alike(config, _fewer_heads(config, part, settings), auto_class)
    return config


def _fewer_experts(part: str, settings: Config) -> dict[str, Any]:
    """Return the changes that leave eight experts, two of which a token visits."""
    fewest = {**dict.fromkeys(EXPERTS, 8), **dict.fromkeys(TOP_K, 2), **dict.fromkeys(GROUPS, 2)}
    fewest["topk_group"] = 1
    return {
        joined(part, key): most
        for key, most in fewest.items()
        if isinstance(settings.get(key), int) and settings[key] > most
    }


def _fewer_heads(config: Config, part: str, settings: Config) -> dict[str, Any]:
    """Return the changes that leave the fewest KV heads of which some can go, with hidden sizes that fit."""
    heads = next((key for key in HEADS if isinstance(settings.get(key), int)), None)
    hidden = next((key for key in HIDDEN if isinstance(settings.get(key), int)), None)
    if heads is None or hidden is None:
        return {}
    kv_heads = next((key for key in KV_HEADS if isinstance(settings.get(key), int)), heads)
    divisors = (n for n in range(2, settings[kv_heads]) if settings[kv_heads] % n == 0)
    factor = settings[kv_heads] // next(divisors, settings[kv_heads])
    if factor == 1 or settings[hidden] % factor or settings[heads] % factor:
        return {}
    changes = {joined(part, key): settings[key] // factor for key in (heads, kv_heads)}
    # What equals the hidden size is the hidden size, under another name or seen by another network.
    same = settings[hidden]
    for other, inner in parts_of(config):
        alike = [key for key, value in inner.items() if value == same and not isinstance(value, bool)]
        changes |= {joined(other, key): same // factor for key in alike}
    return changes


def _with_narrow_windows(config: Config, auto_class: str) -> Config:
    """Return a configuration whose sliding windows are shorter than what the trial reads."""
    for part, settings in parts_of(config):
        for key, value in settings.items():
            is_window = isinstance(value, int) and any(word in key for word in WINDOWS)
            if is_window and not isinstance(value, bool) and value > SEEN:
                config = _if_alike(config, {joined(part, key): SEEN}, auto_class)
    return config


def _if_alike(config: Config, changes: dict[str, Any], auto_class: str) -> Config:
    """Return the changed configuration where it still builds the same kinds of tensors, else `config`."""
    changed = restated(config, changes)
    try:
        alike = _kinds(network(changed, auto_class)) == _kinds(network(config, auto_class))
    except Exception:  # The library checks as it likes what a configuration may say.
        return config
    return changed if alike else config


def _kinds(found: Network) -> set[str]:
    return {unnumbered(name) for name in found.stored}
