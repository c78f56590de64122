"""What carries out work: one call per job, results in the order of the jobs, wherever they were made."""

from __future__ import annotations

import uuid
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, ClassVar, Generic, Self, TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")
Value = TypeVar("Value")
Held = TypeVar("Held", covariant=True)


class Shared(Generic[Held]):
    """Something large that every worker gets once, by reference afterwards: a model, a table.

    It can be the work of `Runner.map`, or lie anywhere inside work and jobs.
    """

    here: ClassVar[dict[str, Any]] = {}
    """What has arrived in this process, by key."""

    def __init__(self, key: str) -> None:
        self.key = key

    @property
    def value(self) -> Held:
        """The thing itself, in the process that asks."""
        value: Held = self.here[self.key]
        return value


class Runner(ABC):
    """Calls one function for every job.

    Whatever is random comes from a seed in the job, never from the worker, so that equal jobs give equal
    results with any number of workers, and with workers that die.

    Attributes:
        workers: how many jobs are worked on at a time.
    """

    workers: int = 1

    @abstractmethod
    def map(
        self,
        work: Callable[[Job], Result] | Shared[Callable[[Job], Result]],
        jobs: Iterable[Job],
        size: float = 1,
    ) -> Iterator[Result]:
        """Yield `work(job)` for every job, in the order of the jobs, each as soon as its turn has come.

        Args:
            work: a function of a module, or an object with `__call__`; it travels to every worker once.
            size: how many ordinary pieces of work one job is. Deadlines grow with it; `math.inf` has none.

        Raises:
            PrunePolicyError: when one job was lost with its worker too often; whatever `work` raises.
        """

    def share(self, value: Value) -> Shared[Value]:
        """Return a handle of `value`, which travels to every worker once, and is freed with the handle."""
        shared: Shared[Value] = Shared(uuid.uuid4().hex)
        Shared.here[shared.key] = value
        weakref.finalize(shared, Shared.here.pop, shared.key, None).atexit = False
        return shared

    def close(self) -> None:  # noqa: B027 (this process has nothing to end)
        """End the workers."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class LocalRunner(Runner):
    """Works in this process, one job after the other."""

    def map(
        self,
        work: Callable[[Job], Result] | Shared[Callable[[Job], Result]],
        jobs: Iterable[Job],
        size: float = 1,
    ) -> Iterator[Result]:
        """Yield `work(job)` for every job."""
        call = work.value if isinstance(work, Shared) else work
        return map(call, jobs)
