"""Time of one PruneNet episode as published, as here for the same reward, and with the function-aware reward.

Random matrices with SmolLM2-135M's shapes. Per layer, the published procedure scores all rows twice
with its predictor and decomposes the sliced matrix with its singular vectors. Backward passes and
optimiser steps are left out on both sides. Beside them: the least that counting eigenvalues takes, the
Gram matrices of the rows that stay, and for one threshold the number of eigenvalues below it. The statistic
moves in steps of one eigenvalue, 1/576, so that a reward within 1e-3 is an exact one. Takes about a minute
on one core.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch import Tensor

from prunepolicy.envs.row_layer import RowLayer
from prunepolicy.envs.shaping import Rewards, shapings
from prunepolicy.envs.shaping.spectral import ks_distances
from prunepolicy.policy.row_scorers import AffineScorer, RowScorer
from prunepolicy.pruning.io.atomic import write_text
from prunepolicy.pruning.io.machine import device_name, versions
from prunepolicy.pruning.statistics.moments import output_interactions
from prunepolicy.pruning.statistics.row_features import standardised, weight_columns

LAYERS, ROWS, COLUMNS, KEEP, REPEATS = 6, 1536, 576, 0.8, 3
RESULT = Path(__file__).parents[1] / "results" / "prunenet_episode.json"
CONTEXT = torch.tensor([KEEP, 0.5])


def made_up() -> list[RowLayer]:
    """Return blocks with everything that both rewards read."""
    generator = torch.Generator().manual_seed(0)
    layers = []
    for index in range(LAYERS):
        scored = torch.randn(ROWS, COLUMNS, generator=generator) / COLUMNS**0.5
        read = torch.randn(COLUMNS, ROWS, generator=generator)
        seen = torch.randn(2048, ROWS, generator=generator)
        features = standardised(weight_columns(scored, scored, read.T))
        interactions = output_interactions(read, seen.T @ seen / len(seen))
        layers.append(RowLayer(str(index), features, scored, interactions))
    return layers


def kept_by(scores: Tensor) -> Tensor:
    """Return the choice of the best rows, bool (1, rows)."""
    kept = torch.zeros(1, ROWS, dtype=torch.bool)
    kept[0, scores.topk(int(KEEP * ROWS)).indices] = True
    return kept


def published(
    layers: list[RowLayer], scorer: AffineScorer, kept: list[Tensor], dense: list[Tensor]
) -> Rewards:
    """Return rewards by full decompositions with singular vectors; `dense` are the spectra before."""
    rewards = []
    for layer, choice, before in zip(layers, kept, dense, strict=True):
        assert layer.scored is not None
        for _ in ("to choose", "to learn"):
            scorer(layer.scored, CONTEXT)
        after = torch.linalg.svd(layer.scored[choice[0]], full_matrices=False)[1]
        rewards.append(-ks_distances(before.double().numpy()[None], after.double().numpy()[None]))
    return np.concatenate(rewards)


def ours(layers: list[RowLayer], scorer: RowScorer, kept: list[Tensor], name: str) -> Rewards:
    """Return rewards by one of our shapings."""
    shaping, rewards = shapings[name], []
    for layer, choice in zip(layers, kept, strict=True):
        for _ in ("to choose", "to learn"):
            scorer(layer.features, CONTEXT)
        rewards.append(shaping(layer.outcomes(choice, shaping.reads)))
    return np.concatenate(rewards)


def one_count(layers: list[RowLayer], kept: list[Tensor], grams: list[Tensor]) -> Rewards:
    """Return how many eigenvalues lie below one threshold, by Sylvester's law of inertia.

    Negative pivots of the factorisation count; a block of two rows has one of either sign (Bunch and Kaufman,
    "Some Stable Methods for Calculating Inertia and Solving Symmetric Linear Systems").
    """
    counts = []
    for layer, choice, gram in zip(layers, kept, grams, strict=True):
        assert layer.scored is not None
        removed = layer.scored[~choice[0]]
        shifted = gram - removed.T @ removed
        shifted.diagonal().sub_(gram.diagonal().median())
        factors, pivots = torch.linalg.ldl_factor(shifted)
        alone = pivots > 0
        counts.append(int((alone & (factors.diagonal() < 0)).sum() + (~alone).sum() // 2))
    return np.array(counts)


def timed(work: Callable[[], Rewards]) -> tuple[float, Rewards]:
    """Return the median seconds per episode, and the rewards; the first run is for the caches."""
    rewards, seconds = work(), []
    for _ in range(REPEATS):
        start = time.perf_counter()
        rewards = work()
        seconds.append(time.perf_counter() - start)
    return median(seconds), rewards


@torch.no_grad()
def main() -> None:
    """Measure, print and write the result."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    layers, affine, mlp = made_up(), AffineScorer(ROWS, COLUMNS), RowScorer(4, 64, 8.0)
    kept = [kept_by(torch.rand(ROWS)) for _ in layers]
    dense = [torch.linalg.svdvals(layer.scored) for layer in layers if layer.scored is not None]
    old, expected = timed(lambda: published(layers, affine, kept, dense))
    same, found = timed(lambda: ours(layers, mlp, kept, "ks"))
    function_aware, _ = timed(lambda: ours(layers, mlp, kept, "function_aware"))
    grams = [layer.scored.T @ layer.scored for layer in layers if layer.scored is not None]
    least, _ = timed(lambda: one_count(layers, kept, grams))
    result = {
        "setting": f"{LAYERS} layers of {ROWS} x {COLUMNS}, keep {KEEP}, median of {REPEATS}",
        "published_seconds": round(old, 4),
        "same_reward_seconds": round(same, 4),
        "same_reward_times_faster": round(old / same, 1),
        "one_count_seconds": round(least, 4),
        "one_count_times_faster": round(old / least, 1),
        "largest_difference_of_rewards": float(np.abs(expected - found).max()),
        "function_aware_seconds": round(function_aware, 4),
        "function_aware_times_faster": round(old / function_aware, 1),
        "machine": device_name(torch.device("cpu")),
        "versions": versions("prunepolicy", "torch"),
    }
    text = json.dumps(result, indent=1) + "\n"
    print(text)
    write_text(RESULT, text)


if __name__ == "__main__":
    main()
