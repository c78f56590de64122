"""Predict seconds per token from measured times of matrix products, cached per machine."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from prunepolicy.pruning.atomic import write_text
from prunepolicy.pruning.errors import UnsupportedModelError
from prunepolicy.pruning.keep_masks import is_dropped, kept_shape, removed_units
from prunepolicy.pruning.latency import now
from prunepolicy.pruning.machine import cache_folder, device_name
from prunepolicy.pruning.units import Keep, UnitGraph

POOL_BYTES = 128 << 20
"""Weights to cycle through while timing: beyond the caches, as in a whole model."""
LEAST_SECONDS = 2e-3
REPEATS = 5

Timer = Callable[[int, int], float]
"""From the rows and columns of a weight to the seconds of one product with it."""
Points = tuple[tuple[int, float], ...]
"""Widths in rising order, each with its seconds."""


@dataclass(frozen=True)
class Setting:
    """Under what conditions times were taken.

    Attributes:
        tokens: how many pass through a weight at once: 1 for decoding, the prompt for prefill.
        widths: measured widths per shape.
    """

    device: torch.device
    dtype: torch.dtype
    tokens: int = 1
    widths: int = 6

    def cache_file(self) -> Path:
        """Return where the times taken under these conditions are kept."""
        parts = [device_name(self.device), str(self.dtype), torch.get_num_threads(), self.tokens, self.widths]
        name = "-".join("".join(c if c.isalnum() else "_" for c in str(part)) for part in parts)
        return cache_folder() / "latency" / f"{name}.json"


@dataclass(frozen=True)
class LatencyTable:
    """Measured seconds of every matrix shape in a network, along the axes that can shrink.

    Only matrix products count. Attention scores, norms and the time between operations, none of
    which a narrower layer changes, are left out; so are differences between a weight and its
    transpose.

    Attributes:
        points: per shape and axis, as `curve_key` names them.
    """

    points: Mapping[str, Points]

    @classmethod
    def measure(cls, graph: UnitGraph, setting: Setting, timer: Timer | None = None) -> LatencyTable:
        """Time what the cache doesn't hold yet, and return the whole table.

        Raises:
            UnsupportedModelError: for networks with convolutions.
        """
        file = setting.cache_file()
        known = _read_cache(file)
        wanted = dict(_curves(graph))
        missing = {key: curve for key, curve in wanted.items() if key not in known}
        if missing:
            timer = timer or LinearTimer(setting, missing.values())
            known |= {key: _measure_curve(*curve, setting.widths, timer) for key, curve in missing.items()}
            write_text(file, json.dumps(known, indent=1, sort_keys=True) + "\n")
        return cls({key: known[key] for key in wanted})

    def latency(self, graph: UnitGraph, keep: Keep) -> float:
        """Return the seconds one pass spends in matrix products under `keep`.

        Divide by `Setting.tokens` for seconds per token.
        """
        removed = removed_units(graph, keep)
        total = 0.0
        for name, spec in graph.tensors.items():
            if not _is_matrix(spec.shape, spec.flops) or is_dropped(graph, removed, name):
                continue
            *stacked, rows, columns = kept_shape(graph, removed, name)
            share = graph[spec.average_over].size if spec.average_over else 1
            if spec.average_over in removed:
                share -= len(removed[spec.average_over])
            passes = math.prod(stacked) * spec.flops / 2 / share
            total += passes * self._seconds(spec.shape[-2:], (rows, columns))
        return total

    def _seconds(self, full: tuple[int, ...], kept: tuple[int, int]) -> float:
        """Interpolate along every axis that can shrink; where two do, their savings multiply."""
        curves = [
            (self.points[key], kept[axis]) for axis in (0, 1) if (key := curve_key(full, axis)) in self.points
        ]
        whole = curves[0][0][-1][1]
        return whole * math.prod(_interpolate(points, width) / points[-1][1] for points, width in curves)


def curve_key(shape: Sequence[int], axis: int) -> str:
    """Return the name of the curve of a (rows, columns) weight that shrinks along `axis`."""
    return f"{shape[0]}x{shape[1]}/{axis}"


def isotonic(values: Sequence[float]) -> list[float]:
    """Return the non-decreasing series nearest to `values` in squares (pool adjacent violators)."""
    blocks: list[tuple[float, int]] = []
    for value in values:
        mean, count = value, 1
        while blocks and blocks[-1][0] > mean:
            earlier, size = blocks.pop()
            mean, count = (earlier * size + mean * count) / (size + count), size + count
        blocks.append((mean, count))
    return [mean for mean, count in blocks for _ in range(count)]


class LinearTimer:
    """Time `functional.linear` on weights too many to stay in the caches."""

    def __init__(self, setting: Setting, curves: Iterable[tuple[tuple[int, int], int]]) -> None:
        largest = max(rows * columns for (rows, columns), _ in curves)
        entries = max(POOL_BYTES // setting.dtype.itemsize, largest)
        self.tokens = setting.tokens
        self.pool = torch.randn(entries, device=setting.device).to(setting.dtype)

    @torch.inference_mode()
    def __call__(self, rows: int, columns: int) -> float:
        """Return the median seconds of one product."""
        size = rows * columns
        weights = self.pool[: len(self.pool) // size * size].view(-1, rows, columns)
        inputs = self.pool[:columns].expand(self.tokens, columns).contiguous()
        self._run(weights, inputs, 1)
        once = self._run(weights, inputs, 2)
        count = max(1, math.ceil(LEAST_SECONDS / once))
        return float(np.median([self._run(weights, inputs, count) for _ in range(REPEATS)]))

    def _run(self, weights: torch.Tensor, inputs: torch.Tensor, count: int) -> float:
        start = now(inputs.device)
        for step in range(count):
            functional.linear(inputs, weights[step % len(weights)])
        return (now(inputs.device) - start) / count


def _curves(graph: UnitGraph) -> Iterator[tuple[str, tuple[tuple[int, int], int]]]:
    for name, spec in graph.tensors.items():
        if len(spec.shape) == 4 and spec.flops:
            raise UnsupportedModelError(
                f"A latency table covers matrix products; the {graph.family} family convolves. "
                "Give a budget of flops instead."
            )
        if _is_matrix(spec.shape, spec.flops):
            first = len(spec.shape) - 2
            shrinking = {part.axis - first for _, part in graph.slices_of.get(name, ())} & {0, 1}
            for axis in sorted(shrinking) or [0]:
                shape = (spec.shape[-2], spec.shape[-1])
                yield curve_key(shape, axis), (shape, axis)


def _is_matrix(shape: tuple[int, ...], flops: float) -> bool:
    return len(shape) >= 2 and flops > 0


def _measure_curve(shape: tuple[int, int], axis: int, widths: int, timer: Timer) -> Points:
    full = shape[axis]
    chosen = sorted({max(1, math.ceil(full * step / widths)) for step in range(1, widths + 1)})
    sizes = [(width, shape[1]) if axis == 0 else (shape[0], width) for width in chosen]
    return tuple(zip(chosen, isotonic([timer(*size) for size in sizes]), strict=True))


def _interpolate(points: Points, width: int) -> float:
    widths, seconds = zip(*points, strict=True)
    return float(np.interp(width, widths, seconds))


def _read_cache(file: Path) -> dict[str, Points]:
    """Return the cached curves; a damaged file counts as none."""
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        return {str(key): tuple((int(w), float(s)) for w, s in points) for key, points in data.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
