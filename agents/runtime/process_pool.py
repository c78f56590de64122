"""Workers that are processes of this machine, without Ray."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from multiprocessing import connection, get_context
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess

import torch

from prunepolicy.agents.runtime.worker_pool import (
    Lost,
    Raised,
    Ready,
    WorkerCall,
    WorkerEvent,
    WorkerPool,
    carry_out,
)
from prunepolicy.pruning.errors import PrunePolicyError


@dataclass(frozen=True)
class _Member:
    process: SpawnProcess
    pipe: Connection


class ProcessPool(WorkerPool):
    """Spawned processes, each at the other end of a pipe.

    Args:
        threads: of torch, in every process.
    """

    def __init__(self, size: int, threads: int = 1) -> None:
        super().__init__()
        self.size, self.threads = size, threads
        self._members: dict[int, _Member] = {}

    def begin(self, worker: int) -> None:
        """Start a process."""
        self._sent[worker].clear()
        context = get_context("spawn")
        here, there = context.Pipe()
        process = context.Process(target=_serve, args=(worker, there, self.threads), daemon=True)
        process.start()
        there.close()
        self._members[worker] = _Member(process, here)

    def submit(self, worker: int, call: WorkerCall) -> None:
        """Send a job; a process that died while it was idle is found by `wait`."""
        try:
            self._members[worker].pipe.send(call)
        except (BrokenPipeError, ConnectionResetError):
            return

    def wait(self, seconds: float | None) -> list[WorkerEvent]:
        """Return what came out of the pipes; a pipe that is closed has lost its process."""
        pipes = {member.pipe: worker for worker, member in self._members.items()}
        return [self._receive(pipes[pipe]) for pipe in connection.wait(list(pipes), seconds)]  # type: ignore[index]

    def end(self, worker: int) -> None:
        """Kill a process."""
        member = self._members.pop(worker)
        member.process.kill()
        member.process.join()
        member.pipe.close()

    def close(self) -> None:
        """Kill all processes."""
        for worker in list(self._members):
            self.end(worker)

    def _receive(self, worker: int) -> WorkerEvent:
        member = self._members[worker]
        try:
            event: WorkerEvent = member.pipe.recv()
        except (EOFError, ConnectionResetError):
            member.process.join()
            code = member.process.exitcode or 0
            self.end(worker)
            return Lost(
                worker,
                f"was ended by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}",
            )
        return event


def _serve(worker: int, pipe: Connection, threads: int) -> None:
    """Do the jobs that come through the pipe until it closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the driver, which ends its workers.
    torch.set_num_threads(threads)
    pipe.send(Ready(worker))
    while True:
        try:
            call = pipe.recv()
        except EOFError:
            return
        except Exception as error:
            pipe.send(Raised(worker, PrunePolicyError(f"A worker can't read its job: {error}.")))
        else:
            pipe.send(carry_out(worker, call))
