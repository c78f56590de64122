"""A synchronous rollout on many workers, event by event: what the one driver and its messages allow.

The driver hands out jobs and takes results one at a time; workers play episodes whose lengths vary; a rollout
ends with its last episode, and then the driver learns. Costs per message are measured, see cluster.py.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Costs:
    """What was measured.

    Attributes:
        driver: seconds of the driver's time per job.
        latency: seconds between the driver's hand and the worker, both ways together.
        message: bytes of a job and its result.
        shared: bytes that every node gets once.
    """

    driver: float
    latency: float
    message: int
    shared: int


@dataclass(frozen=True)
class Plant:
    """What is simulated: `workers` on nodes of `per_node`, episodes of `seconds` that vary by `spread`.

    Attributes:
        spread: standard deviation of the logarithm of an episode's length.
        per_worker: episodes of a rollout, times the workers.
        learn: seconds of an update.
    """

    workers: int
    seconds: float
    spread: float = 0.3
    per_worker: int = 4
    per_node: int = 16
    learn: float = 0.0


def rollout(plant: Plant, costs: Costs, seed: int = 0) -> dict[str, float]:
    """Return episodes per second of one rollout, its efficiency, and how busy the driver is.

    Efficiency is the workers' time spent on episodes, as a share of all their time.
    """
    generator = np.random.default_rng(seed)
    jobs = plant.workers * plant.per_worker
    lengths = generator.lognormal(np.log(plant.seconds) - plant.spread**2 / 2, plant.spread, jobs)
    arrivals: list[float] = []
    now, handed, received = 0.0, 0, 0
    while received < jobs:
        free = handed - received < plant.workers
        if handed < jobs and free and not (arrivals and arrivals[0] <= now):
            now += costs.driver / 2
            heapq.heappush(arrivals, now + costs.latency + lengths[handed])
            handed += 1
        else:
            now = max(now, heapq.heappop(arrivals)) + costs.driver / 2
            received += 1
    whole = now + plant.learn
    return {
        "workers": plant.workers,
        "episode_seconds": plant.seconds,
        "episodes_per_second": jobs / whole,
        "efficiency": float(lengths.sum()) / (plant.workers * whole),
        "driver_busy": jobs * costs.driver / whole,
        "message_mib_per_second": jobs * costs.message / whole / 2**20,
        "shared_gib_once": -(-plant.workers // plant.per_node) * costs.shared / 2**30,
    }


def saturation(seconds: float, costs: Costs) -> int:
    """Return the number of workers at which the driver has no time left."""
    return int(seconds / costs.driver)
