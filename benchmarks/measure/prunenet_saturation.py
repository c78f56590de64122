"""PruneNet's published update against its mends, on the same made-up matrices: what does each learn?

The published update pays positive rewards without a baseline for a sum of logs that grows whenever
keep probabilities do, so that all of them rise to 1 and the choice drifts to chance. Every row of
the result changes one thing more. Takes about two minutes on one core.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from prunepolicy.agents.learned_pruning.reinforce import Reinforce, ReinforceConfig
from prunepolicy.envs.row_layer import RowLayer
from prunepolicy.envs.shaping.spectral import ks_distances
from prunepolicy.policy.kinds.prunenet import PruneNet, PruneNetConfig, context_of
from prunepolicy.policy.row_sampling import concrete, draw_by_weight
from prunepolicy.pruning.io.atomic import write_text
from prunepolicy.pruning.io.machine import device_name, versions
from prunepolicy.pruning.statistics.row_features import leverage, standardised, weight_columns

LAYERS, ROWS, COLUMNS, KEEP = 12, 1024, 256, 0.8
EPISODES = 20
SEEDS = (0, 1, 2)
RESULT = Path(__file__).parents[1] / "results" / "prunenet_saturation.json"
PUBLISHED: dict[str, Any] = {
    "shaping": "ks_inverse",
    "choices_per_layer": 1,
    "learning_rate": 1e-4,
    "log_prob": "published",
    "baseline": "none",
    "fresh_noise": True,
    "step_per_layer": True,
    "standardise": False,
    "discount": 0.99,
    "keep": (KEEP, KEEP),
    "max_grad_norm": 0.0,
}
BASELINE = {"choices_per_layer": 8, "baseline": "leave_one_out", "standardise": True}
EXACT = {"log_prob": "plackett_luce", "fresh_noise": False, "step_per_layer": False, "max_grad_norm": 1.0}
FREE = {"shaping": "ks", "discount": 1.0, "learning_rate": 3e-3}


@dataclass(frozen=True)
class Variant:
    """One step from the published learner to the corrected one."""

    name: str
    scorer: str
    learner: dict[str, Any]


VARIANTS = (
    Variant("as published", "affine", {}),
    Variant("+ baseline, 8 samples", "affine", BASELINE),
    Variant("+ exact log-probabilities, one step", "affine", {**BASELINE, **EXACT}),
    Variant("+ scale-free rows (corrected)", "mlp", {**BASELINE, **EXACT, **FREE}),
)


def matrices(seed: int) -> list[Tensor]:
    """Return random matrices whose rows differ in size, as those of trained networks do."""
    generator = torch.Generator().manual_seed(seed)
    scale = (0.25 * torch.randn(LAYERS, ROWS, 1, generator=generator)).exp()
    return list(torch.randn(LAYERS, ROWS, COLUMNS, generator=generator) * scale / COLUMNS**0.5)


def blocks(scored: list[Tensor], scorer: str) -> list[RowLayer]:
    """Return the matrices as blocks with what the scorer reads."""
    return [
        RowLayer(str(i), m if scorer == "affine" else standardised(weight_columns(m, m, m)), m)
        for i, m in enumerate(scored)
    ]


def distance(layers: list[RowLayer], choices: list[Tensor]) -> float:
    """Return the mean KS distance of choices of rows."""
    total = 0.0
    for layer, ids in zip(layers, choices, strict=True):
        kept = torch.zeros(1, layer.size, dtype=torch.bool).scatter_(1, ids[None], True)
        seen = layer.outcomes(kept, ("dense_spectrum", "kept_spectrum"))
        total += float(ks_distances(seen["dense_spectrum"], seen["kept_spectrum"])[0])
    return total / len(layers)


def rules(scored: list[Tensor], seed: int) -> dict[str, float]:
    """Return the distances of choices that nobody has to learn."""
    layers, count = blocks(scored, "affine"), int(KEEP * ROWS)
    generator = torch.Generator().manual_seed(seed)
    return {
        "random": distance(layers, [torch.randperm(ROWS, generator=generator)[:count] for _ in scored]),
        "largest norm": distance(layers, [m.norm(dim=1).topk(count).indices for m in scored]),
        "largest leverage": distance(layers, [leverage(m).topk(count).indices for m in scored]),
    }


def learned(variant: Variant, scored: list[Tensor], seed: int) -> dict[str, float]:
    """Train one variant and return how its scores moved, and the distance of what it chooses."""
    torch.manual_seed(seed)
    shape = (ROWS, COLUMNS) if variant.scorer == "affine" else None
    config = PruneNetConfig(scorer=variant.scorer, features=("weights",), shape=shape)  # type: ignore[arg-type]
    policy, layers = PruneNet(config), blocks(scored, variant.scorer)
    settings = ReinforceConfig(**{**PUBLISHED, **variant.learner})
    learner = Reinforce.on_networks(policy, settings, [layers], seed)
    start, before = time.perf_counter(), probabilities(policy, layers)
    for _ in range(EPISODES):
        learner.step()
    after, seconds = probabilities(policy, layers), time.perf_counter() - start
    return {
        "sigmoid of scores before": float(before.mean()),
        "sigmoid of scores after": float(after.mean()),
        "spread before": float(before.std()),
        "spread after": float(after.std()),
        "ks": distance(layers, chosen(policy, layers, settings, seed)),
        "seconds per episode": seconds / EPISODES,
    }


def scores(policy: PruneNet, layers: list[RowLayer]) -> list[Tensor]:
    """Return the policy's scores of every layer."""
    with torch.no_grad():
        return [policy.scorer(layer.features, context_of(KEEP, i, LAYERS)) for i, layer in enumerate(layers)]


def probabilities(policy: PruneNet, layers: list[RowLayer]) -> Tensor:
    """Return the sigmoid of all scores: the published policy's keep probabilities."""
    return torch.cat(scores(policy, layers)).sigmoid()


def chosen(policy: PruneNet, layers: list[RowLayer], settings: ReinforceConfig, seed: int) -> list[Tensor]:
    """Choose rows as the variant does at the end: drawn with noise as published, or the best."""
    count, generator = int(KEEP * ROWS), torch.Generator().manual_seed(seed)
    if settings.log_prob == "published":
        return [draw_by_weight(concrete(s, generator), count, generator) for s in scores(policy, layers)]
    return [s.topk(count).indices for s in scores(policy, layers)]


def averaged(rows: list[dict[str, float]]) -> dict[str, float]:
    """Return means over seeds, rounded for reading."""
    return {key: round(sum(row[key] for row in rows) / len(rows), 5) for key in rows[0]}


def main() -> None:
    """Measure, print and write the result."""
    torch.set_num_threads(1)
    data = {seed: matrices(seed) for seed in SEEDS}
    result = {
        "setting": f"{LAYERS} x ({ROWS}, {COLUMNS}), keep {KEEP}, {EPISODES} episodes, seeds {SEEDS}",
        "rules": averaged([rules(data[seed], seed) for seed in SEEDS]),
        "learned": {v.name: averaged([learned(v, data[seed], seed) for seed in SEEDS]) for v in VARIANTS},
        "machine": device_name(torch.device("cpu")),
        "versions": versions("prunepolicy", "torch"),
    }
    text = json.dumps(result, indent=1) + "\n"
    print(text)
    write_text(RESULT, text)


if __name__ == "__main__":
    main()
