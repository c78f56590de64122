"""Run somebody else's check in a process of its own, with a deadline.

Started as a program (`python -m prunepolicy.envs.thinking.isolated MODULE:FUNCTION`) this is that process:
it reads one JSON list of arguments a line, and answers each with a line of JSON.
"""

from __future__ import annotations

import importlib
import json
import os
import queue
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import IO, Any

from prunepolicy.pruning.errors import PrunePolicyError

STARTING = 120.0
"""Seconds within which the process has to be ready; imports are slow on a busy machine."""
MEMORY = 4 << 30
"""Bytes that the process may take, where the system can limit them."""


class IsolatedError(Exception):
    """The check failed, took too long, or took its process down."""


class Isolated:
    """A function of JSON values in another process, which is replaced when it hangs or dies.

    Args:
        place: `module:function`; the module's `prepare()` is called first, beyond any deadline.
        deadline: seconds for one call.
    """

    def __init__(self, place: str, deadline: float) -> None:
        self.place, self.deadline = place, deadline
        self._process: subprocess.Popen[str] | None = None
        self._lines: queue.Queue[str] = queue.Queue()
        self._end: Callable[[], object] = lambda: None

    def __call__(self, *arguments: Any) -> Any:
        """Return what the function returns.

        Raises:
            IsolatedError: when it raises, misses the deadline, or its process dies.
            PrunePolicyError: when the process doesn't start, with what `prepare` raised.
        """
        process = self._started()
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(arguments) + "\n")
            process.stdin.flush()
            answer = json.loads(self._line(self.deadline))
        except (OSError, ValueError, queue.Empty) as error:
            late = isinstance(error, queue.Empty)
            self.close()
            reason = f"no answer in {self.deadline:g} s" if late else "the process died"
            raise IsolatedError(reason) from error
        if "error" in answer:
            raise IsolatedError(answer["error"])
        return answer["result"]

    def close(self) -> None:
        """End the process; another call starts a new one."""
        self._end()
        self._process = None

    def _started(self) -> subprocess.Popen[str]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        self.close()
        self._process = process = subprocess.Popen(
            [sys.executable, "-m", __name__, self.place],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        self._lines, self._end = queue.Queue(), weakref.finalize(self, _kill, process)
        assert process.stdout is not None
        threading.Thread(target=_read, args=(process.stdout, self._lines), daemon=True).start()
        try:
            ready = json.loads(self._line(STARTING))
        except (queue.Empty, ValueError) as error:
            self.close()
            raise PrunePolicyError(f"The process for {self.place} doesn't start.") from error
        if "error" in ready:
            self.close()
            raise PrunePolicyError(ready["error"])
        return process

    def _line(self, seconds: float) -> str:
        return self._lines.get(timeout=seconds)


def _read(stream: IO[str], lines: queue.Queue[str]) -> None:
    """Pass lines on; an empty one says that the process has ended."""
    with suppress(ValueError):  # closed meanwhile
        for line in stream:
            lines.put(line)
    lines.put("")


def _kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        with suppress(OSError):
            if stream is not None:
                stream.close()


def _answers(function: Callable[..., Any], requests: IO[str]) -> Iterator[dict[str, Any]]:
    for request in requests:
        try:
            yield {"result": function(*json.loads(request))}
        # Whatever goes wrong is an answer, too; the caller counts it.
        except Exception as error:
            yield {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"}


def _limit_memory() -> None:
    with suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def main(place: str) -> None:
    """Answer requests until there are no more."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what the function prints is no answer
    _limit_memory()
    name, _, function = place.partition(":")
    try:
        module = importlib.import_module(name)
        module.prepare()
    except Exception as error:
        print(json.dumps({"error": str(error)}), file=answers, flush=True)
        return
    print(json.dumps({}), file=answers, flush=True)
    for answer in _answers(getattr(module, function), sys.stdin):
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
