"""What a configuration says once layers have gone: numbers and lists of layers, each by its meaning."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from prunepolicy.pruning.adapters.base import Config
from prunepolicy.pruning.adapters.blocks import LAYERS
from prunepolicy.pruning.adapters.derived.network import network
from prunepolicy.pruning.adapters.derived.paths import joined, restated, setting
from prunepolicy.pruning.keep_masks import is_dropped, kept_shape, removed_units, renumbered
from prunepolicy.pruning.plan import Plan
from prunepolicy.pruning.units import UnitGraph

FIRST_ONES = ("dense", "start_index")
"""Parts of the names of settings that count the first layers of a kind."""

NO_LISTS = ("architectures", "token_id", "token_ids")
"""Endings of the names of lists that don't speak of layers."""


def fewer_layers(key: str, config: Config, graph: UnitGraph, plan: Plan, auto_class: str) -> dict[str, Any]:
    """Return what changes when layers go, by path: the first meaning with which what stays is built.

    Args:
        key: path of the number of layers.
    """
    removed = removed_units(graph, {LAYERS: plan.kept(graph[LAYERS])})
    expected = {
        renumbered(graph, removed, name): kept_shape(graph, removed, name)
        for name in graph.tensors
        if not is_dropped(graph, removed, name)
    }
    readings = list(_readings(key, config, graph[LAYERS].size, plan.kept(graph[LAYERS])))
    for changes in readings:
        try:
            built = network(restated(config, changes), auto_class).stored
        except Exception:  # The library checks as it likes what a configuration may say.
            continue
        if all(built.get(name) == shape for name, shape in expected.items()):
            return changes
    return readings[0]


def per_layer(config: Config, part: str, depth: int) -> Iterator[list[object]]:
    """Yield the lists in a part of a configuration that say something of every layer."""
    settings = setting(config, part) if part else config
    for name, value in settings.items():
        if isinstance(value, list) and len(value) == depth and not name.endswith(NO_LISTS):
            yield value


def _readings(key: str, config: Config, depth: int, kept: tuple[int, ...]) -> Iterator[dict[str, Any]]:
    """Yield what may change: lists of one entry per layer, of layers' numbers, counts of first ones."""
    part = key.rpartition(".")[0]
    settings = setting(config, part) if part else config
    per_layer, numbers, first = {}, {}, {}
    for name, value in settings.items():
        path = joined(part, name)
        if isinstance(value, list) and not name.endswith(NO_LISTS):
            if len(value) == depth:
                per_layer[path] = [value[layer] for layer in kept]
            if _are_numbers_of_layers(value, depth):
                numbers[path] = [new for new, layer in enumerate(kept) if layer in value]
        elif isinstance(value, int) and any(word in name for word in FIRST_ONES) and 0 < value <= depth:
            first[path] = sum(layer < value for layer in kept)
    shared = {key: len(kept)} | _stages(part, settings, len(kept))
    for changes in (per_layer, per_layer | first, per_layer | numbers, per_layer | numbers | first):
        yield shared | changes


def _stages(part: str, settings: Config, depth: int) -> dict[str, Any]:
    """Return what image networks say of their stages, one before the layers and one after each.

    Only where they hand on what the last one writes, as all do that aren't set up as backbones.
    """
    names = settings.get("stage_names") or []
    if not names or settings.get("out_features") != names[-1:]:
        return {}
    stages = {"stage_names": names[: depth + 1], "out_features": [names[depth]], "out_indices": [depth]}
    return {joined(part, key): value for key, value in stages.items()}


def _are_numbers_of_layers(value: list[Any], depth: int) -> bool:
    """Return whether a list holds rising numbers below the number of layers."""
    plain = all(isinstance(item, int) and not isinstance(item, bool) for item in value)
    return plain and value == sorted(set(value)) and all(0 <= item < depth for item in value)
