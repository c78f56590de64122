"""PruneNet's problem as an environment: layer by layer, which rows of the FFN block stay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from pydantic import Field

from prunepolicy.envs.drawing import PlanDrawing, Strip
from prunepolicy.envs.episodes import EpisodeEnv, Taken, indexed
from prunepolicy.envs.named_model import NamedModel
from prunepolicy.envs.row_layer import RowLayer, invented_layers, refuse_unmeasured
from prunepolicy.envs.settings import EnvSettings, KeepRange, as_range, checked
from prunepolicy.envs.shaping import ShapingName, shapings
from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.statistics.row_features import LARGEST

Observation = dict[str, NDArray[Any]]
Action = NDArray[np.floating[Any]]


class PruneRowsSettings(EnvSettings):
    """Settings of an environment of rows.

    Attributes:
        keep: range from which the keep ratio is drawn, or the one it has.
        shaping: name of the reward.
        discount: factor on the reward from layer to layer; PruneNet's code has 0.99.
    """

    keep: KeepRange = (0.5, 0.95)
    shaping: ShapingName = "function_aware"
    discount: float = Field(default=1.0, gt=0, le=1)


class PruneRowsEnv(EpisodeEnv[Observation, Action]):
    """A step per layer; the action scores its rows, and those with the highest scores stay.

    An episode is one network at one keep ratio, both drawn at reset. A layer's observation doesn't
    depend on what was removed before, so this is a contextual bandit as much as an episode.

    Observation:
        rows: scale-free features per row, zeros beyond the layer's own rows.
        mask: 1 for the layer's own rows.
        context: keep ratio, and the layer's depth in [0, 1].

    Action:
        One score per row; what lies beyond the mask is ignored.

    Options of reset:
        network: which of the networks, a number from 0 on; keep: the keep ratio.

    Args:
        networks: the blocks of every network; with neither these nor `model`, invented ones.
        model: a folder, hub id or alias; its statistics are collected now.
        render_mode: see `EpisodeEnv`.
        settings: those of `PruneRowsSettings`.

    Raises:
        PrunePolicyError: for settings or models that can't work.
    """

    known_options: ClassVar[tuple[str, ...]] = ("network", "keep")

    def __init__(
        self,
        networks: Sequence[Sequence[RowLayer]] | None = None,
        *,
        model: str | None = None,
        render_mode: str | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(render_mode)
        self.settings = checked(PruneRowsSettings, settings, "PruneRows")
        self.shaping = shapings[self.settings.shaping]
        refuse_unmeasured(self.shaping.reads)
        self.networks = _networks(networks, model, self.shaping.reads)
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
        self._layers, self._index, self._ratio = self.networks[0], 0, self.settings.keep[1]
        self._paid: list[float] = []

    def begin(self, options: Mapping[str, Any], anew: bool) -> tuple[Observation, dict[str, Any]]:
        """Draw a network and a keep ratio."""
        drawn = int(self.np_random.integers(len(self.networks)))
        ratio = float(self.np_random.uniform(*self.settings.keep))
        self._layers = self.networks[indexed(options, "network", drawn, len(self.networks))]
        self._ratio, _ = as_range(options.get("keep", ratio))
        self._index, self._paid = 0, []
        return self._observation(), {"keep": self._ratio}

    def take(self, action: Action) -> Taken[Observation]:
        """Keep the rows with the highest scores, and pay for what that does to the layer."""
        layer = self._layers[self._index]
        scores = torch.as_tensor(np.asarray(action, dtype=np.float32))[: layer.size]
        kept = torch.zeros(layer.size, dtype=torch.bool)
        kept[scores.argsort(descending=True, stable=True)[: rows_kept(layer.size, self._ratio)]] = True
        outcomes = layer.outcomes(kept[None], self.shaping.reads)
        reward = float(self.shaping(outcomes)[0]) * self.settings.discount**self._index
        self._paid.append(reward)
        mask = np.zeros(self.most_rows, bool)
        mask[: layer.size] = kept.numpy()
        info = {
            "layer": layer.name,
            "kept": mask,
            "measured": outcomes.row(0),
            "terms": {self.shaping.name: reward},
        }
        done = self._index == len(self._layers) - 1
        self._index += not done
        return self._observation(), reward, done, info

    def drawing(self) -> PlanDrawing:
        """Return what stays of every layer, and what was paid for it."""
        strips, stays, rows = [], 0, sum(layer.size for layer in self._layers)
        for layer, reward in zip_longest(self._layers, self._paid):
            kept = layer.size if reward is None else rows_kept(layer.size, self._ratio)
            strips.append(Strip(layer.name, kept / layer.size, reward is not None, reward))
            stays += kept
        return PlanDrawing("rows", strips, stays / rows, self._ratio, self.reward)

    def _observation(self) -> Observation:
        layer, depth = self._layers[self._index], max(1, len(self._layers) - 1)
        rows = np.zeros((self.most_rows, layer.features.shape[1]), np.float32)
        rows[: layer.size] = layer.features.numpy()
        mask = np.zeros(self.most_rows, np.int8)
        mask[: layer.size] = 1
        context = np.array([self._ratio, self._index / depth], np.float32)
        return {"rows": rows, "mask": mask, "context": context}


def _networks(
    networks: Sequence[Sequence[RowLayer]] | None, model: str | None, reads: Sequence[str]
) -> list[tuple[RowLayer, ...]]:
    if model is not None and networks is not None:
        raise UsageError("Give networks, or a model to make one of; not both.")
    if model is not None:
        return [NamedModel(model).row_layers(reads)]
    found = [tuple(layers) for layers in ([invented_layers()] if networks is None else networks)]
    if not found or not all(found):
        raise UsageError("There is no layer whose rows could be chosen.")
    return found


def rows_kept(size: int, keep: float) -> int:
    """Return how many of `size` rows stay: PruneNet truncates, and at least one stays."""
    return max(1, int(keep * size))
