"""Predict seconds per token or image from measured times of products with weights, cached per machine."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional

from prunepolicy.pruning.io import bounded
from prunepolicy.pruning.io.cache import cache_folder, recalled, remember
from prunepolicy.pruning.io.machine import device_name
from prunepolicy.pruning.keep_masks import is_dropped, kept_shape, removed_units
from prunepolicy.pruning.measure.latency import now
from prunepolicy.pruning.units import Keep, TensorSpec, UnitGraph

POOL_BYTES = 128 << 20
"""Weights to cycle through while timing: beyond the caches, as in a whole model."""
LEAST_SECONDS = 2e-3
REPEATS = 5

Timer = Callable[..., float]
"""From the rows and columns of a weight to the seconds of one product with it; for a convolution its kernel's
height and width follow, and the side of the image that it gives."""
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


class Product(NamedTuple):
    """What a weight is multiplied with.

    Attributes:
        first: the axis of its rows; columns come next.
        window: kernel height and width, and the side of the image; empty for a matrix.
    """

    first: int
    window: tuple[int, ...] = ()


class Curve(NamedTuple):
    """What is timed at several widths: a weight of (rows, columns) that shrinks along `axis`."""

    shape: tuple[int, int]
    axis: int
    window: tuple[int, ...] = ()

    @property
    def key(self) -> str:
        """Its name in the table and the cache."""
        window = "".join(f"@{number}" for number in self.window)
        return f"{self.shape[0]}x{self.shape[1]}{window}/{self.axis}"

    def measured(self, widths: int, timer: Timer) -> Points:
        """Return seconds by width."""
        full = self.shape[self.axis]
        chosen = sorted({max(1, math.ceil(full * step / widths)) for step in range(1, widths + 1)})
        sizes = [(width, self.shape[1]) if self.axis == 0 else (self.shape[0], width) for width in chosen]
        return tuple(zip(chosen, isotonic([timer(*size, *self.window) for size in sizes]), strict=True))


@dataclass(frozen=True)
class LatencyTable:
    """Measured seconds of every shape of weight in a network, along the axes that can shrink.

    Only products with weights count. Attention scores, norms and the time between operations, none of
    which a narrower layer changes, are left out; so are differences between a weight and its transpose, and
    between a convolution with a stride or in groups and one without that has as many operations.

    Attributes:
        points: per curve, by its key.
    """

    points: Mapping[str, Points]

    @classmethod
    def measure(cls, graph: UnitGraph, setting: Setting, timer: Timer | None = None) -> LatencyTable:
        """Time what the cache doesn't hold yet, and return the whole table."""
        file = setting.cache_file()
        known = recalled(file, _read_points) or {}
        wanted = {curve.key: curve for curve in _curves(graph)}
        missing = {key: curve for key, curve in wanted.items() if key not in known}
        if missing:
            timer = timer or ProductTimer(setting, missing.values())
            known |= {key: curve.measured(setting.widths, timer) for key, curve in missing.items()}
            remember(file, f"{json.dumps(known, indent=1, sort_keys=True)}\n".encode())
        return cls({key: known[key] for key in wanted})

    def latency(self, graph: UnitGraph, keep: Keep) -> float:
        """Return the seconds one pass spends in products with weights under `keep`.

        Divide by `Setting.tokens` for seconds per token.
        """
        removed = removed_units(graph, keep)
        total = 0.0
        for name, spec in graph.tensors.items():
            product = _product(spec)
            if product is None or is_dropped(graph, removed, name):
                continue
            kept, places = kept_shape(graph, removed, name), slice(product.first, product.first + 2)
            share = graph[spec.average_over].size if spec.average_over else 1
            if spec.average_over in removed:
                share -= len(removed[spec.average_over])
            times = 1 if product.window else math.prod(kept[: product.first]) * spec.flops / 2
            total += times / share * self._seconds(spec.shape[places], kept[places], product.window)
        return total

    def _seconds(self, full: Sequence[int], kept: Sequence[int], window: tuple[int, ...]) -> float:
        """Interpolate along every axis that can shrink; where two do, their savings multiply."""
        keys = [Curve((full[0], full[1]), axis, window).key for axis in (0, 1)]
        curves = [(self.points[k], width) for k, width in zip(keys, kept, strict=True) if k in self.points]
        whole = curves[0][0][-1][1]
        return whole * math.prod(_interpolate(points, width) / points[-1][1] for points, width in curves)


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


class ProductTimer:
    """Time `functional.linear` and `functional.conv2d` on weights too many to stay in the caches."""

    def __init__(self, setting: Setting, curves: Iterable[Curve]) -> None:
        largest = max(math.prod((*curve.shape, *curve.window[:2])) for curve in curves)
        entries = max(POOL_BYTES // setting.dtype.itemsize, largest)
        self.tokens = setting.tokens
        self.pool = torch.randn(entries, device=setting.device).to(setting.dtype)

    @torch.inference_mode()
    def __call__(self, rows: int, columns: int, *window: int) -> float:
        """Return the median seconds of one product."""
        *kernel, side = window or (0,)
        size = math.prod((rows, columns, *kernel))
        weights = self.pool[: len(self.pool) // size * size].view(-1, rows, columns, *kernel)
        shape = (self.tokens, columns, side, side) if kernel else (self.tokens, columns)
        inputs = torch.randn(shape, device=self.pool.device).to(self.pool.dtype)
        self._run(weights, inputs, 1)
        once = self._run(weights, inputs, 2)
        count = max(1, math.ceil(LEAST_SECONDS / once))
        return float(np.median([self._run(weights, inputs, count) for _ in range(REPEATS)]))

    def _run(self, weights: torch.Tensor, inputs: torch.Tensor, count: int) -> float:
        start = now(inputs.device)
        for step in range(count):
            weight = weights[step % len(weights)]
            if weight.dim() == 2:
                functional.linear(inputs, weight)
            else:
                functional.conv2d(inputs, weight, padding=(weight.shape[2] // 2, weight.shape[3] // 2))
        return (now(inputs.device) - start) / count


def _curves(graph: UnitGraph) -> Iterator[Curve]:
    for name, spec in graph.tensors.items():
        product = _product(spec)
        if product is not None:
            shrinking = {part.axis - product.first for _, part in graph.slices_of.get(name, ())} & {0, 1}
            for axis in sorted(shrinking) or [0]:
                rows, columns = spec.shape[product.first : product.first + 2]
                yield Curve((rows, columns), axis, product.window)


def _product(spec: TensorSpec) -> Product | None:
    """Return what a tensor is multiplied with, None for one that isn't."""
    if len(spec.shape) < 2 or not spec.flops:
        return None
    if len(spec.shape) < 4:
        return Product(len(spec.shape) - 2)
    # Every entry of a kernel is used once for each place of the image.
    return Product(0, (*spec.shape[2:], max(1, round(math.sqrt(spec.flops / 2)))))


def _interpolate(points: Points, width: int) -> float:
    widths, seconds = zip(*points, strict=True)
    return float(np.interp(width, widths, seconds))


def _read_points(file: Path) -> dict[str, Points]:
    data = bounded.read_json(file)
    return {str(key): tuple((int(w), float(s)) for w, s in points) for key, points in data.items()}
