"""Workers that may die: calls to them, and their events."""

from __future__ import annotations

import pickle
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from prunepolicy.agents.runtime.runner import Shared
from prunepolicy.pruning.errors import PrunePolicyError


@dataclass(frozen=True)
class WorkerCall:
    """One job for one worker.

    Attributes:
        work: key of the shared function.
        job: its argument.
        new: what the worker hasn't got yet, by key.
        kept: keys of everything that is still shared; the worker frees the rest.
    """

    work: str
    job: Any
    new: Mapping[str, Any]
    kept: frozenset[str]


@dataclass(frozen=True)
class Ready:
    """A worker can take a job."""

    worker: int


@dataclass(frozen=True)
class Done:
    """A worker has finished its job."""

    worker: int
    result: Any


@dataclass(frozen=True)
class Raised:
    """The work itself has failed, as it would anywhere."""

    worker: int
    error: Exception


@dataclass(frozen=True)
class Lost:
    """A worker is gone, and its job with it.

    Attributes:
        cause: what happened to it, to follow "Worker 3".
    """

    worker: int
    cause: str


WorkerEvent = Ready | Done | Raised | Lost


class WorkerPool(ABC):
    """A fixed number of places for workers, each of which can be filled anew.

    Attributes:
        size: number of places.
    """

    size: int

    def __init__(self) -> None:
        self._shared: dict[str, Any] = {}
        self._sent: defaultdict[int, set[str]] = defaultdict(set)

    @abstractmethod
    def begin(self, worker: int) -> None:
        """Put a new worker into a place; `wait` says when it is ready."""

    @abstractmethod
    def submit(self, worker: int, call: WorkerCall) -> None:
        """Send a job to a ready worker."""

    @abstractmethod
    def wait(self, seconds: float | None) -> list[WorkerEvent]:
        """Return what has happened since the last time, after at most `seconds` if nothing has."""

    @abstractmethod
    def end(self, worker: int) -> None:
        """End a worker at once, whatever it is doing; no further events are delivered."""

    @abstractmethod
    def close(self) -> None:
        """End all workers."""

    def share(self, shared: Shared[Any]) -> None:
        """Let every worker have what is shared before its next job."""
        self._shared[shared.key] = self._stored(shared.value)

    def forget(self, key: str) -> None:
        """Let every worker free what was shared before its next job."""
        self._shared.pop(key, None)

    def call(self, worker: int, work: str, job: Any) -> WorkerCall:
        """Return a job with everything that the worker lacks for it."""
        new = {key: stored for key, stored in self._shared.items() if key not in self._sent[worker]}
        self._sent[worker] |= new.keys()
        return WorkerCall(work, job, new, frozenset(self._shared))

    def _stored(self, value: Any) -> Any:
        """Return what is sent in the place of a shared value."""
        return value


def carry_out(
    worker: int, call: WorkerCall, fetch: Callable[[Any], Any] = lambda stored: stored
) -> Done | Raised:
    """Do a job in the worker's process.

    Args:
        fetch: from what was sent in the place of a shared value to the value.
    """
    for key in Shared.here.keys() - call.kept:
        del Shared.here[key]
    try:
        Shared.here.update({key: fetch(stored) for key, stored in call.new.items()})
        return Done(worker, Shared.here[call.work](call.job))
    except Exception as error:
        return Raised(worker, _portable(error))


def _portable(error: Exception) -> Exception:
    """Return the error, or its words where it can't travel."""
    try:
        pickle.dumps(error)
    except Exception:
        return PrunePolicyError(f"{type(error).__name__}: {error}")
    return error
