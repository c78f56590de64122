"""Pruning episodes per second on the surrogate, one and several processes, beside the published cost.

Random statistics of the networks' sizes: what an episode costs doesn't depend on them. The published
procedure decomposes every layer's matrix, see prunenet_episode.py. Takes about four minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from prunenet_episode import COLUMNS, KEEP, LAYERS, ROWS, kept_by, made_up, published, timed
from stable_baselines3.common.vec_env import SubprocVecEnv

import prunepolicy.envs  # noqa: F401 (registers the environments)
from prunepolicy.envs.prune_case import PruneCase, invented_case
from prunepolicy.policy.row_scorers import AffineScorer
from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.checkpoint.source import resolve
from prunepolicy.pruning.io.atomic import write_text
from prunepolicy.pruning.io.machine import device_name, versions
from prunepolicy.pruning.statistics.stats import Stats

ENVIRONMENT = "prunepolicy/Prune-v0"
RESULT = Path(__file__).parents[1] / "results" / "episodes.json"
DEEP = 30
"""Layers of SmolLM2-135M."""
Step = Callable[[], int]
"""Takes one step everywhere, and returns how many episodes ended."""


def language_model() -> PruneCase:
    """Return SmolLM2-135M with random statistics."""
    graph = Checkpoint.open(resolve("smollm2-135m")).graph
    generator = torch.Generator().manual_seed(0)
    gradients = {g.name: torch.randn(64, g.size, generator=generator) for g in graph.groups}
    output = {g.name: torch.rand(g.size, generator=generator) for g in graph.groups}
    return PruneCase("smollm2-135m", graph, Stats({"gradients": gradients, "output": output}))


@dataclass(frozen=True)
class Setting:
    """One network, and what an action decides; one budget, so that its reference is computed once."""

    case: PruneCase
    step: str

    @property
    def arguments(self) -> dict[str, Any]:
        """What the environment is made with."""
        return {"cases": (self.case,), "keep": (0.7, 0.7), "step": self.step}

    def make(self) -> gymnasium.Env[Any, Any]:
        """Return the environment."""
        return gymnasium.make(ENVIRONMENT, **self.arguments)


@contextmanager
def alone(setting: Setting, processes: int) -> Iterator[Step]:
    """Step in this process."""
    env = setting.make()
    env.reset(seed=0)

    def step() -> int:
        _, _, ended, cut, _ = env.step(env.action_space.sample())
        if ended or cut:
            env.reset()
        return int(ended or cut)

    yield step
    env.close()


@contextmanager
def gymnasium_processes(setting: Setting, processes: int) -> Iterator[Step]:
    """Step in processes of gymnasium's vector environment."""
    envs = gymnasium.make_vec(ENVIRONMENT, processes, vectorization_mode="async", **setting.arguments)
    envs.reset(seed=0)

    def step() -> int:
        _, _, ended, cut, _ = envs.step(envs.action_space.sample())
        return int((ended | cut).sum())

    yield step
    envs.close()


@contextmanager
def sb3_processes(setting: Setting, processes: int) -> Iterator[Step]:
    """Step in processes of Stable-Baselines3."""
    envs = SubprocVecEnv([setting.make] * processes, start_method="fork")
    envs.reset()

    def step() -> int:
        actions = np.stack([envs.action_space.sample() for _ in range(processes)])
        return int(envs.step(actions)[2].sum())

    yield step
    envs.close()


STEPS = ("group", "all")
WAYS = (
    ("this process", alone, 1),
    ("gymnasium.make_vec, async", gymnasium_processes, 1),
    ("gymnasium.make_vec, async", gymnasium_processes, 2),
    ("SB3 SubprocVecEnv", sb3_processes, 1),
    ("SB3 SubprocVecEnv", sb3_processes, 2),
)


def rate(step: Step, seconds: float) -> float:
    """Return episodes per second, the first one of each environment not counted."""
    while not step():
        pass
    done, start = 0, time.perf_counter()
    while (passed := time.perf_counter() - start) < seconds or not done:
        done += step()
    return done / passed


@torch.no_grad()
def published_seconds() -> float:
    """Return the seconds of one published episode on the language model, from fewer layers."""
    layers, affine = made_up(), AffineScorer(ROWS, COLUMNS)
    kept = [kept_by(torch.rand(ROWS)) for _ in layers]
    dense = [torch.linalg.svdvals(layer.scored) for layer in layers if layer.scored is not None]
    return timed(lambda: published(layers, affine, kept, dense))[0] * DEEP / LAYERS


def described(setting: Setting) -> dict[str, Any]:
    """Return what an episode is about."""
    units = sum(group.size for group in setting.case.groups)
    return {"network": setting.case.name, "units": units, "step": setting.step}


def main() -> None:
    """Measure, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="for every row")
    parser.add_argument("--json", type=Path, default=RESULT)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rows = []
    settings = [Setting(case, step) for case in (invented_case(0), language_model()) for step in STEPS]
    for setting in settings:
        for name, way, processes in WAYS:
            with way(setting, processes) as step:
                found = round(rate(step, options.seconds), 2)
            rows.append(described(setting) | {"way": name, "processes": processes, "per_second": found})
            print(rows[-1], flush=True)
    result = {
        "rows": rows,
        "published_seconds": round(published_seconds(), 3),
        "published": f"{DEEP} layers of {ROWS} x {COLUMNS}, keep {KEEP}, from {LAYERS} layers",
        "load_average": round(os.getloadavg()[0], 2),
        "machine": device_name(torch.device("cpu")),
        "versions": versions("prunepolicy", "torch", "gymnasium", "stable-baselines3"),
    }
    write_text(options.json, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
