"""How far runs have come that others are training, as their folders say."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from prunepolicy.agents.training.detached_runs import RunRequest
from prunepolicy.agents.training.run_folder import METRICS
from prunepolicy.pruning.io import bounded
from prunepolicy.pruning.io.progress import Advance, ProgressReporter

SECONDS = 2.0
"""Between looks."""
TAIL = 1 << 16
"""Bytes that hold the last row of the metrics."""


@contextmanager
def monitored(orders: Sequence[RunRequest], progress: ProgressReporter) -> Iterator[None]:
    """Show the steps of all runs together while the context lasts.

    Runs on machines with other disks show nothing before they end.
    """
    over = threading.Event()
    with progress.step("learn", sum(order.recipe.max_steps for order in orders)) as advance:
        monitor = threading.Thread(target=_monitor, args=(orders, advance, over), daemon=True)
        monitor.start()
        try:
            yield
        finally:
            over.set()
            monitor.join()


def _monitor(orders: Sequence[RunRequest], advance: Advance, over: threading.Event) -> None:
    seen = 0
    while True:
        ended = over.wait(SECONDS)
        now = sum(steps_done(order.folder) for order in orders)
        if now > seen:
            advance(now - seen)
            seen = now
        if ended:
            return


def steps_done(folder: Path) -> int:
    """Return the step of a run's last whole row of metrics."""
    try:
        with bounded.open_regular(folder / METRICS) as file:
            file.seek(max(0, file.seek(0, 2) - TAIL))
            rows = file.read().split(b"\n")[:-1]
        return int(bounded.parsed_json(rows[-1])["step"]) if rows else 0
    except (OSError, ValueError, LookupError, TypeError):
        return 0
