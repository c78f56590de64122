"""PruneNet's problem as an environment: layer by layer, which rows of the feed-forward block stay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray

from prunepolicy.envs.row_layer import RowLayer, invented_layers
from prunepolicy.envs.shaping import shapings
from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.row_features import LARGEST

Observation = dict[str, NDArray[Any]]
Action = NDArray[np.floating[Any]]


class PruneRowsEnv(gymnasium.Env[Observation, Action]):
    """A step per layer; the action scores its rows, and those with the highest scores stay.

    An episode is one network at one keep ratio, both drawn at reset. A layer's observation doesn't
    depend on what was removed before, so this is a contextual bandit as much as an episode.

    Observation:
        rows: scale-free features per row, zeros beyond the layer's own rows.
        mask: 1 for the layer's own rows.
        context: keep ratio, and the layer's depth in [0, 1].

    Action:
        One score per row; what lies beyond the mask is ignored.

    Args:
        networks: the blocks of every network; invented ones when None.
        keep: range from which the keep ratio is drawn.
        shaping: name of the reward.
        discount: factor on the reward from layer to layer; PruneNet's code has 0.99.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 (declared by the base class)

    def __init__(
        self,
        networks: Sequence[Sequence[RowLayer]] | None = None,
        keep: tuple[float, float] = (0.5, 0.95),
        shaping: str = "function_aware",
        discount: float = 1.0,
    ) -> None:
        if not 0 < keep[0] <= keep[1] <= 1:
            raise UsageError(f"keep is a range of fractions above 0 and at most 1; got {keep}.")
        self.networks = [tuple(layers) for layers in networks or [invented_layers()]]
        self.keep, self.shaping, self.discount = keep, shapings[shaping], discount
        layers = [layer for network in self.networks for layer in network]
        self.most_rows = max(layer.size for layer in layers)
        shape = (self.most_rows, layers[0].features.shape[1])
        self.observation_space: spaces.Space[Any] = spaces.Dict(
            {
                "rows": spaces.Box(-LARGEST, LARGEST, shape, np.float32),
                "mask": spaces.MultiBinary(self.most_rows),
                "context": spaces.Box(0, 1, (2,), np.float32),
            }
        )
        self.action_space: spaces.Space[Any] = spaces.Box(-1, 1, (self.most_rows,), np.float32)
        self._layers, self._index, self._ratio = self.networks[0], 0, keep[1]

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Draw a network and a keep ratio; `options` may fix them as `network` and `keep`."""
        super().reset(seed=seed)
        options = options or {}
        drawn = int(self.np_random.integers(len(self.networks)))
        ratio = float(self.np_random.uniform(*self.keep))
        self._layers = self.networks[int(options.get("network", drawn))]
        self._ratio = float(options.get("keep", ratio))
        self._index = 0
        return self._observation(), {"keep": self._ratio}

    def step(self, action: Action) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Keep the rows with the highest scores, and pay for what that does to the layer."""
        layer = self._layers[self._index]
        scores = torch.as_tensor(np.asarray(action, dtype=np.float32))[: layer.size]
        kept = torch.zeros(layer.size, dtype=torch.bool)
        kept[scores.argsort(descending=True, stable=True)[: rows_kept(layer.size, self._ratio)]] = True
        reward = self.shaping(layer.outcomes(kept[None], self.shaping.reads))[0]
        reward = float(reward) * self.discount**self._index
        mask = np.zeros(self.most_rows, bool)
        mask[: layer.size] = kept.numpy()
        info = {"layer": layer.name, "kept": mask}
        done = self._index == len(self._layers) - 1
        self._index += not done
        return self._observation(), reward, done, False, info

    def _observation(self) -> Observation:
        layer, depth = self._layers[self._index], max(1, len(self._layers) - 1)
        rows = np.zeros((self.most_rows, layer.features.shape[1]), np.float32)
        rows[: layer.size] = layer.features.numpy()
        mask = np.zeros(self.most_rows, np.int8)
        mask[: layer.size] = 1
        context = np.array([self._ratio, self._index / depth], np.float32)
        return {"rows": rows, "mask": mask, "context": context}


def rows_kept(size: int, keep: float) -> int:
    """Return how many of `size` rows stay: PruneNet truncates, and at least one stays."""
    return max(1, int(keep * size))
