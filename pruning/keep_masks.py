"""From a plan's unit ids to tensor entries: which rows and columns stay, which tensors go."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from prunepolicy.pruning.units import Keep, UnitGraph

Indices = NDArray[np.int64]


def removed_units(graph: UnitGraph, keep: Keep) -> dict[str, Indices]:
    """Return, per group that loses something, the sorted ids of the units that go."""
    removed = {}
    for name, units in keep.items():
        missing = np.ones(graph[name].size, dtype=bool)
        missing[np.asarray(units, dtype=np.int64)] = False
        gone = np.flatnonzero(missing)
        if gone.size:
            removed[name] = gone
    return removed


def is_dropped(graph: UnitGraph, removed: Mapping[str, Indices], tensor: str) -> bool:
    """Return whether the whole tensor belongs to a removed layer or expert."""
    return any(unit in removed[group.name] for group, unit in graph.owner_of(tensor) if group.name in removed)


def kept_indices(graph: UnitGraph, removed: Mapping[str, Indices], tensor: str) -> dict[int, Indices]:
    """Return, for every axis of `tensor` that shrinks, the sorted indices that stay.

    Where two groups own parts of one axis (KV heads and query heads), an entry stays when both
    keep it.
    """
    masks: dict[int, NDArray[np.bool_]] = {}
    for group, part in graph.slices_of.get(tensor, ()):
        if group.name not in removed:
            continue
        length = graph.tensors[tensor].shape[part.axis]
        mask = masks.setdefault(part.axis, np.ones(length, dtype=bool))
        mask[part.indices(removed[group.name]).ravel()] = False
    return {axis: np.flatnonzero(mask) for axis, mask in masks.items()}


def kept_shape(graph: UnitGraph, removed: Mapping[str, Indices], tensor: str) -> tuple[int, ...]:
    """Return the shape of what stays of `tensor`."""
    shape = list(graph.tensors[tensor].shape)
    for axis, indices in kept_indices(graph, removed, tensor).items():
        shape[axis] = len(indices)
    return tuple(shape)


def renumbered(graph: UnitGraph, removed: Mapping[str, Indices], tensor: str) -> str:
    """Return the tensor's name after the layers or experts before it have gone."""
    owners = [(group, unit) for group, unit in graph.owner_of(tensor) if group.name in removed]
    # Prefixes nest (experts inside layers): the inner number goes first, while its prefix holds.
    for group, unit in sorted(owners, key=lambda owner: -len(owner[0].prefix)):
        rest = tensor[len(f"{group.prefix}{unit}") :]
        tensor = f"{group.prefix}{unit - int(np.searchsorted(removed[group.name], unit))}{rest}"
    return tensor
