"""Episodes a second by number of workers, the price of a job, and what that means for a thousand workers.

Episodes burn a set amount of processor time, so that nothing but the distribution differs. Run it on a quiet
machine with two cores; it takes about five minutes. `--quick` shows in a minute that it runs.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from schedule import Costs, Plant, rollout, saturation
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv

from prunepolicy.agents.runtime import Runner
from prunepolicy.agents.runtime.open_runner import open_runner
from prunepolicy.agents.runtime.settings import ClusterSettings
from prunepolicy.agents.runtime.vec_env import RunnerVecEnv
from prunepolicy.pruning.io.atomic import write_text
from prunepolicy.pruning.io.machine import device_name, versions

RESULT = Path(__file__).parents[1] / "results" / "cluster.json"
ENTRIES = 1024
"""Numbers of an observation: about what a network of 60 groups shows."""
EPISODE_MS = (2, 10, 50, 200)
SHARED = 270 << 20
"""Bytes of the largest model of configs/train/graph.yaml, which every node gets once."""
Numbers = NDArray[np.float32]
THOUSAND = (1, 10, 100, 300, 1000)


class Burns(gymnasium.Env[Numbers, Numbers]):
    """Every step is an episode that burns `seconds` of processor time."""

    observation_space = spaces.Box(-1, 1, (ENTRIES,), np.float32)
    action_space = spaces.Box(-1, 1, (64,), np.float32)

    def __init__(self, seconds: float) -> None:
        self.seconds, self.seen = seconds, np.zeros(ENTRIES, np.float32)

    def reset(
        self, *, seed: int | None = None, options: Any = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Show zeros."""
        return self.seen, {}

    def step(
        self, action: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Burn, and end the episode."""
        end = time.thread_time() + self.seconds
        while time.thread_time() < end:
            pass
        return self.seen, 1.0, True, False, {}


def runner_of(kind: str, workers: int) -> Any:
    """Open a runner with so many workers."""
    return open_runner(ClusterSettings(runner=kind, address="local", workers=workers, deadline=None))  # type: ignore[arg-type]


@contextmanager
def envs_of(way: str, workers: int, seconds: float, episodes: int) -> Iterator[VecEnv]:
    """Yield a vector environment; SubprocVecEnv has one process for each, and so as many as workers."""
    make = partial(Burns, seconds)
    if way == "this process":
        yield DummyVecEnv([make] * episodes)
    elif way == "SB3 SubprocVecEnv":
        envs = SubprocVecEnv([make] * workers, start_method="spawn")
        yield envs
        envs.close()
    else:
        with runner_of(way, workers) as runner:
            yield RunnerVecEnv([make] * episodes, runner)


def rate(envs: VecEnv, seconds: float) -> float:
    """Return episodes per second, the first steps not counted."""
    envs.reset()
    actions = np.zeros((envs.num_envs, 64), np.float32)
    for _ in range(2):
        envs.step(actions)
    done, start = 0, time.perf_counter()
    while (passed := time.perf_counter() - start) < seconds or not done:
        done += int(envs.step(actions)[2].sum())
    return done / passed


def scaling(seconds: float) -> list[dict[str, Any]]:
    """Return episodes per second by length of the episodes, way and number of workers."""
    rows = []
    for length in EPISODE_MS:
        for way in ("this process", "processes", "ray", "SB3 SubprocVecEnv"):
            rates = []
            for workers in (1,) if way == "this process" else (1, 2):
                with envs_of(way, workers, length / 1000, 32) as envs:
                    rates.append(rate(envs, seconds))
            efficiency = rates[1] / (2 * rates[0]) if len(rates) == 2 else None
            rows.append({"ms": length, "way": way, "per_second": rates, "efficiency": efficiency})
            print(rows[-1], flush=True)
    return rows


def echo(job: Numbers) -> Numbers:
    """Return as much as an episode returns."""
    return np.zeros(ENTRIES, np.float32)


def pool(jobs: list[Any]) -> Iterator[Any]:
    """Map with the standard library."""
    with multiprocessing.get_context("spawn").Pool(2) as processes:
        list(processes.imap(echo, jobs[:8], chunksize=1))
        start = time.perf_counter(), time.process_time()
        list(processes.imap(echo, jobs, chunksize=1))
        yield start


def mapped(kind: str, jobs: list[Any]) -> Iterator[Any]:
    """Map with one of our runners."""
    runner: Runner
    with runner_of(kind, 2) as runner:
        work = runner.share(echo)
        list(runner.map(work, jobs[:8]))
        start = time.perf_counter(), time.process_time()
        list(runner.map(work, jobs))
        yield start


def prices(count: int) -> list[dict[str, Any]]:
    """Return what a job costs with two workers that have nothing to do: wall clock and driver's processor."""
    jobs = [np.zeros(64, np.float32)] * count
    ways: dict[str, Callable[[], Iterator[Any]]] = {
        "multiprocessing.Pool.imap": partial(pool, jobs),
        "processes": partial(mapped, "processes", jobs),
        "ray": partial(mapped, "ray", jobs),
    }
    rows = []
    for name, way in ways.items():
        for wall, processor in way():
            ends = time.perf_counter() - wall, time.process_time() - processor
            rows.append({"way": name, "ms": 1000 * ends[0] / count, "driver_ms": 1000 * ends[1] / count})
            print(rows[-1], flush=True)
    return rows


def thousand(price: dict[str, Any]) -> dict[str, Any]:
    """Simulate many workers with the measured price of a Ray job."""
    message = 4 * (ENTRIES + 64)
    # Two workers answer in turn, so that a job's way there and back is about twice the time between jobs.
    costs = Costs(price["driver_ms"] / 1000, 2 * price["ms"] / 1000, message, SHARED)
    rows = [rollout(Plant(n, seconds), costs) for seconds in (0.05, 0.2, 1.0) for n in THOUSAND]
    full = {str(seconds): saturation(seconds, costs) for seconds in (0.05, 0.2, 1.0)}
    return {"costs": asdict(costs), "rows": rows, "driver_full_at_workers": full}


def main() -> None:
    """Measure, simulate, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="hardly measure, write nothing")
    parser.add_argument("--json", type=Path, default=RESULT)
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = prices(200 if options.quick else 3000)
    simulated = thousand(next(row for row in found if row["way"] == "ray"))
    for row in simulated["rows"]:
        print({name: float(f"{value:.4g}") for name, value in row.items()})
    result = {
        "prices": found,
        "thousand": simulated,
        "scaling": scaling(0.2 if options.quick else 8.0),
        "load_average": round(os.getloadavg()[0], 2),
        "cores": os.cpu_count(),
        "machine": device_name(torch.device("cpu")),
        "versions": versions("prunepolicy", "ray", "torch", "stable-baselines3"),
    }
    if not options.quick:
        write_text(options.json, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
