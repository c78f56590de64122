"""Runners: results in the order of the jobs, whatever happens to workers; sentences where it can't go on."""

from __future__ import annotations

import importlib
import math
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from prunepolicy.agents.runtime import LocalRunner, Shared
from prunepolicy.agents.runtime.fault_tolerant_runner import FaultTolerantRunner, RetryPolicy
from prunepolicy.agents.runtime.process_pool import ProcessPool
from prunepolicy.agents.runtime.worker_pool import (
    Done,
    Lost,
    Ready,
    WorkerCall,
    WorkerEvent,
    WorkerPool,
    carry_out,
)
from prunepolicy.pruning.errors import PrunePolicyError


class Invented(WorkerPool):
    """A pool without processes: what happens is what the test says.

    Attributes:
        fate: of jobs, in the order in which they are handed out: a cause of loss, `hang`, or nothing.
    """

    def __init__(self, size: int, fate: tuple[str, ...] = (), starts: bool = True) -> None:
        super().__init__()
        self.size, self.fate, self.starts = size, list(fate), starts
        self.event: list[WorkerEvent] = []
        self.begun: list[int] = []
        self.handed: list[tuple[int, Any]] = []

    def begin(self, worker: int) -> None:
        self._sent[worker].clear()
        self.begun.append(worker)
        if self.starts:
            self.event.append(Ready(worker))

    def submit(self, worker: int, call: WorkerCall) -> None:
        self.handed.append((worker, call.job))
        fate = self.fate.pop(0) if self.fate else ""
        if fate != "hang":
            self.event.append(Lost(worker, fate) if fate else Done(worker, call.job * 10))

    def wait(self, seconds: float | None) -> list[WorkerEvent]:
        event, self.event = self.event[-1:], self.event[:-1]  # the last to begin is the first to end
        return event

    def end(self, worker: int) -> None:
        self.event = [one for one in self.event if one.worker != worker]

    def close(self) -> None: ...


def runner(pool: WorkerPool, notes: list[str], **retry_policy: Any) -> FaultTolerantRunner:
    return FaultTolerantRunner(pool, RetryPolicy(**retry_policy), notes.append)


def test_results_come_in_the_order_of_the_jobs_and_lost_jobs_are_done_again() -> None:
    notes: list[str] = []
    pool = Invented(3, ("", "died", "", "was lost with its node"))
    assert list(runner(pool, notes).map(abs, range(7))) == [0, 10, 20, 30, 40, 50, 60]
    causes = [re.fullmatch(r"Worker \d (.*); job \d of 7 is done again\.", note) for note in notes]
    assert [cause and cause[1] for cause in causes] == ["died", "was lost with its node"]
    assert (len(pool.handed), len(pool.begun)) == (9, 5)


def test_a_job_that_takes_every_worker_with_it_ends_in_a_sentence() -> None:
    notes: list[str] = []
    with pytest.raises(
        PrunePolicyError, match=r"Job 1 of 1 was given to 3 workers, and all were lost; the last one died"
    ):
        list(runner(Invented(2, ("died",) * 9), notes, attempts=3).map(abs, [1]))
    assert len(notes) == 2


class Stillborn(Invented):
    """Workers that die before they have a job."""

    def begin(self, worker: int) -> None:
        self.begun.append(worker)
        self.event.append(Lost(worker, "exited with code 1"))


def test_workers_that_only_die_end_in_a_sentence() -> None:
    pool, notes = Stillborn(2), []
    with pytest.raises(PrunePolicyError, match=r"5 workers were lost one after the.*exited with code 1"):
        list(runner(pool, notes, attempts=2).map(abs, range(3)))
    assert notes[0] == "Worker 1 exited with code 1 before it had a job; another takes its place."
    assert len(pool.begun) == 2 + 4


def test_a_hung_worker_is_ended_at_its_deadline_which_grows_with_the_size_of_jobs() -> None:
    notes: list[str] = []
    pool = Invented(1, ("hang",))
    assert list(runner(pool, notes, deadline=0.01).map(abs, [4], size=2)) == [40]
    assert notes == ["Worker 0 had no answer after 0.02 s and was ended; job 1 of 1 is done again."]
    with pytest.raises(StopAsyncIteration):  # without a deadline it is waited for
        list(runner(Hanging(1, ("hang",)), [], deadline=0.01).map(abs, [4], size=math.inf))


class Hanging(Invented):
    """Stops the test when it would wait for ever."""

    def wait(self, seconds: float | None) -> list[WorkerEvent]:
        if seconds is None:
            raise StopAsyncIteration
        return super().wait(seconds)


def test_a_cluster_without_room_ends_in_a_sentence() -> None:
    with pytest.raises(PrunePolicyError, match="there was no place for any of 2 workers"):
        list(runner(Invented(2, starts=False), [], start=0.0).map(abs, [1]))


class Together(Invented):
    """Workers that answer at the same time."""

    def wait(self, seconds: float | None) -> list[WorkerEvent]:
        event, self.event = self.event, []
        return event


def test_jobs_that_come_again_go_where_they_were() -> None:
    pool = Together(2)
    working = runner(pool, [])
    for _ in range(3):
        list(working.map(abs, [0, 1]))
    assert sorted(set(pool.handed)) == [(0, 0), (1, 1)]


def test_an_abandoned_map_leaves_no_busy_worker_behind() -> None:
    pool = Invented(2)
    working = runner(pool, [])
    results = working.map(abs, range(8))
    assert next(results) == 0
    results.close()  # type: ignore[attr-defined]
    assert list(working.map(abs, [7])) == [70]


def test_what_is_shared_is_sent_once_and_freed_with_its_handle() -> None:
    pool = Invented(1)
    working = runner(pool, [])
    table = working.share({"a": 1})
    assert table.value == {"a": 1}
    assert pool.call(0, table.key, None).new == {table.key: {"a": 1}}
    assert pool.call(0, table.key, None).new == {}
    pool.begin(0)
    assert set(pool.call(0, table.key, None).new) == {table.key}
    key = table.key
    del table
    assert key not in Shared.here
    assert pool.call(0, "", None).kept == frozenset()


def test_errors_that_cannot_travel_are_told_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    class LocalError(Exception):
        pass

    def work(job: int) -> None:
        raise LocalError("no way")

    monkeypatch.setattr(Shared, "here", {"work": work})
    raised = carry_out(0, WorkerCall("work", 1, {}, frozenset(["work"])))
    assert not isinstance(raised, Done)
    assert isinstance(raised.error, PrunePolicyError)
    assert str(raised.error) == "LocalError: no way"


@pytest.fixture(scope="module")
def notes() -> list[str]:
    return []


@pytest.fixture(scope="module")
def processes(notes: list[str]) -> Iterator[FaultTolerantRunner]:
    pool = ProcessPool(2)
    with runner(pool, notes, deadline=3.0) as working:
        yield working
    assert not [member for member in pool._members.values() if member.process.is_alive()]


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGSTOP])
def test_processes_that_are_killed_or_stopped_change_nothing(
    processes: FaultTolerantRunner, notes: list[str], tmp_path: Path, sign: signal.Signals
) -> None:
    work = importlib.import_module("cluster_work")
    jobs = [(number, str(tmp_path / "flag") if number == 3 else "", sign) for number in range(8)]
    expected = list(LocalRunner().map(work.square, jobs))
    notes.clear()
    assert list(processes.map(work.square, jobs)) == expected
    what = "was ended by SIGKILL" if sign == signal.SIGKILL else "had no answer after 3 s and was ended"
    (said,) = notes
    assert said.split(" ", 2)[2] == f"{what}; job 4 of 8 is done again."


def test_processes_pass_on_errors_and_shared_things(processes: FaultTolerantRunner) -> None:
    work = importlib.import_module("cluster_work")
    table = processes.share({number: -number for number in range(6)})
    answers = list(processes.map(work.Adds(table), range(6)))
    assert [answer for answer, _, _ in answers] == [0, -1, -2, -3, -4, -5]
    assert os.getpid() not in {process for _, process, _ in answers}
    assert {count for _, _, count in answers} == {2}
    assert set(processes.map(work.threads, range(2))) == {1}
    halves = processes.map(work.half, [2, 4, 5])
    assert [next(halves), next(halves)] == [1, 2]
    with pytest.raises(ValueError, match="5 is odd"):
        next(halves)
