"""A runner whose workers may die: lost jobs are done again, from the start, by another worker."""

from __future__ import annotations

import math
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from prunepolicy.agents.runtime.runner import Job, Result, Runner, Shared, Value
from prunepolicy.agents.runtime.worker_pool import Done, Lost, Raised, Ready, WorkerEvent, WorkerPool
from prunepolicy.pruning.errors import PrunePolicyError


@dataclass(frozen=True)
class RetryPolicy:
    """When to stop waiting, and when to stop trying.

    Attributes:
        deadline: seconds that an ordinary piece of work may take; None waits for ever.
        attempts: workers that may be lost with one and the same job, and, times the number of workers,
            without any job being finished in between.
        start: seconds to wait while there is not one worker, as when a cluster is growing.
    """

    deadline: float | None = None
    attempts: int = 3
    start: float = 300.0


WARN_EVERY = 30.0
"""Seconds between warnings while there are no workers."""


class FaultTolerantRunner(Runner):
    """Gives jobs to the workers of a pool, and fills the places of those that die or hang.

    Args:
        pool: the workers.
        note: is called with one sentence for every worker that was lost.
    """

    def __init__(self, pool: WorkerPool, retry_policy: RetryPolicy, note: Callable[[str], None]) -> None:
        self.pool, self.retry_policy, self.note, self.workers = pool, retry_policy, note, pool.size
        self.idle: set[int] = set()
        self.lost_in_a_row = 0
        for worker in range(pool.size):
            pool.begin(worker)

    def share(self, value: Value) -> Shared[Value]:
        """Return a handle of `value`, which travels to every worker once, and is freed with the handle."""
        shared = super().share(value)
        self.pool.share(shared)
        weakref.finalize(shared, self.pool.forget, shared.key).atexit = False
        return shared

    def map(
        self,
        work: Callable[[Job], Result] | Shared[Callable[[Job], Result]],
        jobs: Iterable[Job],
        size: float = 1,
    ) -> Iterator[Result]:
        """Yield `work(job)` for every job, in the order of the jobs."""
        shared = work if isinstance(work, Shared) else self.share(work)
        deadline = None if self.retry_policy.deadline is None else self.retry_policy.deadline * size
        batch = _Batch(self, shared.key, list(jobs), deadline)
        try:
            yield from batch.results()
        finally:
            batch.abandon()

    def close(self) -> None:
        """End the workers."""
        self.pool.close()

    def replace(self, worker: int, cause: str) -> None:
        """Fill the place of a lost worker, unless workers only die.

        Raises:
            PrunePolicyError: when too many were lost without anything done.
        """
        self.idle.discard(worker)
        self.lost_in_a_row += 1
        if self.lost_in_a_row > self.retry_policy.attempts * self.pool.size:
            raise PrunePolicyError(
                f"{self.lost_in_a_row} workers were lost one after the other and nothing got done; "
                f"the last one {cause}."
            )
        self.pool.begin(worker)


@dataclass
class _Batch:
    """The jobs of one `map` on their way.

    Attributes:
        running: index of the job, and when it began, by worker.
        lost: how many workers were lost with a job, by its index.
    """

    runner: FaultTolerantRunner
    work: str
    jobs: list[Any]
    deadline: float | None
    running: dict[int, tuple[int, float]] = field(default_factory=dict)
    lost: Counter[int] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.queue = list(range(len(self.jobs)))
        self.finished: dict[int, Done | Raised] = {}
        self.alone_since = self.warned_at = time.monotonic()

    def results(self) -> Iterator[Any]:
        """Yield every result once all before it are there."""
        for index in range(len(self.jobs)):
            while index not in self.finished:
                self._submit_jobs()
                for event in self.runner.pool.wait(self._left()):
                    self._on_event(event)
                self._end_hung()
                self._warn_if_starved()
            outcome = self.finished.pop(index)
            if isinstance(outcome, Raised):
                raise outcome.error
            yield outcome.result

    def abandon(self) -> None:
        """Start the workers afresh that are still busy with jobs nobody waits for any more."""
        for worker in self.running:
            self.runner.pool.end(worker)
            self.runner.pool.begin(worker)

    def _submit_jobs(self) -> None:
        """Give every idle worker a job; where jobs come again, one that it may remember."""
        pool, idle = self.runner.pool, self.runner.idle
        for worker in sorted(idle)[: len(self.queue)]:
            own = (index for index in self.queue if index % pool.size == worker)
            index = next(own, self.queue[0])
            self.queue.remove(index)
            idle.discard(worker)
            self.running[worker] = (index, time.monotonic())
            pool.submit(worker, pool.call(worker, self.work, self.jobs[index]))

    def _on_event(self, event: WorkerEvent) -> None:
        match event:
            case Ready(worker):
                self.runner.idle.add(worker)
            case Done(worker) | Raised(worker):
                self.finished[self.running.pop(worker)[0]] = event
                self.runner.idle.add(worker)
                self.runner.lost_in_a_row = 0
            case Lost(worker, cause):
                self._do_again(worker, cause)

    def _do_again(self, worker: int, cause: str) -> None:
        """Queue the job of a lost worker first, and fill its place.

        Raises:
            PrunePolicyError: when the job has taken too many workers with it.
        """
        index, _ = self.running.pop(worker, (None, 0.0))
        if index is None:
            self.runner.note(f"Worker {worker} {cause} before it had a job; another takes its place.")
        else:
            self.lost[index] += 1
            if self.lost[index] >= self.runner.retry_policy.attempts:
                self.runner.replace(worker, cause)
                raise PrunePolicyError(
                    f"Job {index + 1} of {len(self.jobs)} was given to {self.lost[index]} workers, and "
                    f"all were lost; the last one {cause}."
                )
            self.queue.insert(0, index)
            self.runner.note(f"Worker {worker} {cause}; job {index + 1} of {len(self.jobs)} is done again.")
        self.runner.replace(worker, cause)

    def _left(self) -> float | None:
        """Return the seconds until there is something to do even if nothing happens."""
        if not self.running:
            return WARN_EVERY
        if self.deadline is None or self.deadline == math.inf:
            return None
        begun = min(since for _, since in self.running.values())
        return max(0.0, begun + self.deadline - time.monotonic())

    def _warn_if_starved(self) -> None:
        """Say so while there are no workers.

        Raises:
            PrunePolicyError: when there were none for too long.
        """
        now, pool = time.monotonic(), self.runner.pool
        if self.running or self.runner.idle:
            self.alone_since = self.warned_at = now
        elif now - self.alone_since > self.runner.retry_policy.start:
            raise PrunePolicyError(
                f"For {now - self.alone_since:.0f} s there was no place for any of {pool.size} workers."
            )
        elif now - self.warned_at >= WARN_EVERY:
            self.warned_at = now
            self.runner.note(f"Still no place for any of {pool.size} workers; waiting.")

    def _end_hung(self) -> None:
        if self.deadline is None:
            return
        now = time.monotonic()
        for worker, (_, since) in list(self.running.items()):
            if now - since >= self.deadline:
                self.runner.pool.end(worker)
                self._do_again(worker, f"had no answer after {self.deadline:g} s and was ended")
