"""Kernel counts of remembered states: exact, or by random Fourier features."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
FORGOTTEN = 1e-3
"""Weight below which the exact buffer drops a state."""


class Density(ABC):
    """States, each counting for 1 where it lies and for less further away.

    Attributes:
        added: how many states have been added, faded or not.
    """

    added: int = 0

    @abstractmethod
    def add(self, states: Array) -> None:
        """Remember states, (n, dimensions)."""

    @abstractmethod
    def fade(self, share: float) -> None:
        """Multiply all weights."""

    @abstractmethod
    def count(self, states: Array) -> Array:
        """Return the weighted sum of kernels at every state, never negative."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Return the memory as JSON can hold it."""

    @abstractmethod
    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` returned."""


class ExactDensity(Density):
    """Remembers distinct states and their weights; time and memory grow with these."""

    def __init__(self, bandwidth: float) -> None:
        self.bandwidth = bandwidth
        self._states: Array = np.zeros((0, 0))
        self._weights: Array = np.zeros(0)

    def add(self, states: Array) -> None:
        """Remember states; equal ones share a weight."""
        before = self._states if len(self._weights) else states[:0]
        # Prompts come again every epoch: one weight for equal states keeps the memory as small as the data
        # set.
        self._states, place = np.unique(np.concatenate([before, states]), axis=0, return_inverse=True)
        weights: Array = np.append(self._weights, np.ones(len(states)))
        self._weights = np.asarray(np.bincount(place.reshape(-1), weights), np.float64)
        self.added += len(states)

    def fade(self, share: float) -> None:
        """Multiply all weights, and drop states that hardly count any more."""
        weights = self._weights * share
        alive = weights >= FORGOTTEN
        self._states, self._weights = self._states[alive], weights[alive]

    def count(self, states: Array) -> Array:
        """Return the weighted sum of kernels at every state."""
        if not len(self._weights):
            return np.zeros(len(states))
        distances = np.square(states[:, None] - self._states[None]).sum(-1)
        counts: Array = np.exp(-distances / (2 * self.bandwidth**2)) @ self._weights
        return counts

    def state(self) -> dict[str, Any]:
        """Return states and weights."""
        shape = list(self._states.shape)
        lists = {"states": self._states.tolist(), "weights": self._weights.tolist()}
        return {"added": self.added, "shape": shape, **lists}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` returned."""
        self.added = state["added"]
        self._states = np.array(state["states"], np.float64).reshape(state["shape"])
        self._weights = np.array(state["weights"], np.float64)


class RandomFeatureDensity(Density):
    """Sums squares of products of random features, which are never negative.

    The product of features approximates a Gaussian kernel, and its square one narrower by a root of two;
    frequencies are drawn for a kernel wider by that root, so that counts are those of the bandwidth.
    The sum of squares of products with z is z^T (sum of z_j z_j^T) z: one matrix, however many states.
    """

    def __init__(self, bandwidth: float, features: int, seed: int) -> None:
        self.bandwidth, self.features, self.seed = bandwidth, features, seed
        self._products = np.zeros((features, features))

    def add(self, states: Array) -> None:
        """Remember states."""
        seen = self._seen(states)
        self._products = self._products + seen.T @ seen
        self.added += len(states)

    def fade(self, share: float) -> None:
        """Multiply all weights."""
        self._products = self._products * share

    def count(self, states: Array) -> Array:
        """Return the weighted sum of kernels at every state."""
        seen = self._seen(states)
        counts: Array = np.einsum("nm,nm->n", seen @ self._products, seen)
        return np.maximum(counts, 0.0)

    def state(self) -> dict[str, Any]:
        """Return the matrix."""
        return {"added": self.added, "products": self._products.tolist()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` returned."""
        self.added = state["added"]
        self._products = np.array(state["products"], np.float64)

    def _seen(self, states: Array) -> Array:
        """Return the random Fourier features of states."""
        generator = np.random.default_rng(self.seed)
        shift = generator.uniform(0, 2 * np.pi, self.features)
        # Drawn again from the seed at every call: nothing but the products has to be saved.
        frequencies = generator.normal(0, 1 / (self.bandwidth * 2**0.5), (states.shape[1], self.features))
        seen: Array = np.sqrt(2 / self.features) * np.cos(states @ frequencies + shift)
        return seen
