"""Workers that are Ray actors, one for every bundle of a placement group."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import ray
import torch
from ray.actor import ActorHandle
from ray.exceptions import (
    ActorUnavailableError,
    ActorUnschedulableError,
    NodeDiedError,
    OutOfMemoryError,
    RayError,
)
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from prunepolicy.agents.runtime.settings import ClusterSettings
from prunepolicy.agents.runtime.worker_pool import (
    Done,
    Lost,
    Raised,
    Ready,
    WorkerCall,
    WorkerEvent,
    WorkerPool,
    carry_out,
)
from prunepolicy.pruning.errors import PrunePolicyError


class RayPool(WorkerPool):
    """Actors on reserved resources; what is shared lies once in the object store of every node.

    Ray's own restarts and retries are off: they hide why a worker was lost, and repeat a deadly job for
    ever. A lost node's bundles are Ray's to place anew.

    Raises:
        PrunePolicyError: when the cluster can't hold the workers.
    """

    def __init__(self, settings: ClusterSettings, note: Callable[[str], None]) -> None:
        super().__init__()
        needs = settings.needs
        self.size = settings.workers or places(ray.nodes(), needs)
        self._settings = settings
        described = f"{self.size or 'any'} workers with {_described(needs)} each"
        if not self.size:
            raise PrunePolicyError(
                f"The cluster has {_described(ray.cluster_resources())}: no room for {described}."
            )
        note(f"Ray: {described}")
        self._group = placement_group([needs] * self.size, strategy=settings.strategy)
        if not self._group.wait(settings.start):
            remove_placement_group(self._group)
            raise PrunePolicyError(
                f"Within {settings.start:g} s the cluster found no room for {described}; "
                f"it has {_described(ray.cluster_resources())} in all."
            )
        self._actors: dict[int, ActorHandle[Any]] = {}
        self._awaited: dict[Any, int] = {}

    def begin(self, worker: int) -> None:
        """Start an actor."""
        self._sent[worker].clear()
        needs, place = self._settings.needs, PlacementGroupSchedulingStrategy(self._group, worker)
        actor = _Actor.options(
            num_cpus=needs["CPU"], num_gpus=needs.get("GPU", 0), scheduling_strategy=place
        ).remote(worker, self._settings.threads)
        self._actors[worker] = actor
        self._awaited[actor.ready.remote()] = worker

    def submit(self, worker: int, call: WorkerCall) -> None:
        """Send a job."""
        self._awaited[self._actors[worker].carry_out.remote(call)] = worker

    def wait(self, seconds: float | None) -> list[WorkerEvent]:
        """Return what the actors have answered."""
        every = list(self._awaited)
        if not every:
            raise RuntimeError("Nothing is awaited.")
        first, _ = ray.wait(every, timeout=seconds)
        answered, _ = ray.wait(every, num_returns=len(every), timeout=0) if first else ([], None)
        return [self._receive(answer) for answer in answered]

    def end(self, worker: int) -> None:
        """Kill an actor."""
        self._awaited = {answer: other for answer, other in self._awaited.items() if other != worker}
        ray.kill(self._actors.pop(worker))

    def close(self) -> None:
        """Kill all actors and give back what was reserved."""
        if not ray.is_initialized():
            return
        for worker in list(self._actors):
            self.end(worker)
        remove_placement_group(self._group)

    def _stored(self, value: Any) -> Any:
        return ray.put(value)

    def _receive(self, answer: Any) -> WorkerEvent:
        worker = self._awaited.pop(answer)
        try:
            event: WorkerEvent = ray.get(answer)
        except RayError as error:
            self.end(worker)
            return Lost(worker, cause_of(error))
        return event


class _Member:
    """The process of one worker."""

    def __init__(self, worker: int, threads: int) -> None:
        self.worker = worker
        torch.set_num_threads(threads)

    def ready(self) -> Ready:
        """Answer once the process has started."""
        return Ready(self.worker)

    def carry_out(self, call: WorkerCall) -> Done | Raised:
        """Do a job."""
        return carry_out(self.worker, call, ray.get)


_Actor: Any = ray.remote(max_restarts=0, max_task_retries=0)(_Member)


def places(nodes: Sequence[dict[str, Any]], needs: dict[str, float]) -> int:
    """Return how many workers the living nodes can hold."""
    return sum(
        min(int(node["Resources"].get(name, 0) / amount + 1e-9) for name, amount in needs.items())
        for node in nodes
        if node["Alive"]
    )


def cause_of(error: RayError) -> str:
    """Return what happened to a worker in a few words, to follow "Worker 3"."""
    words = " ".join(str(error).split())
    if isinstance(error, OutOfMemoryError):
        return "was ended by Ray because its node ran out of memory"
    if isinstance(error, NodeDiedError) or "its node has died" in words:
        return "was lost with its node"
    if isinstance(error, ActorUnavailableError):
        return "can't be reached any more: its connection broke"
    if isinstance(error, ActorUnschedulableError):
        return "found no place in the cluster any more"
    if "worker process has died" in words:
        return "died: its process was killed or crashed"
    return f"was lost ({type(error).__name__}: {words[:200]})"


def _described(resources: dict[str, float]) -> str:
    return " and ".join(
        f"{resources.get(name, 0):g} {name}" for name in ("CPU", "GPU") if resources.get(name)
    )
