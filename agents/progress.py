"""Say what is going on: a live bar with the time left on a terminal, a line per step elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

from prunepolicy.agents.console import Console, harmless, styled

HEARTBEAT = 30.0
"""Seconds between lines in a log."""

Advance = Callable[[int], None]


class Steps:
    """Names the steps of a run as they happen."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(quiet=True)

    def __reduce__(self) -> tuple[type[Steps], tuple[()]]:
        """Travel to other processes as one that is silent."""
        return Steps, ()

    def note(self, sentence: str | Text) -> None:
        """Print one line."""
        self.console.print(sentence)

    @contextmanager
    def silence(self) -> Iterator[None]:
        """Say nothing while the context lasts: what happens in every episode is no news."""
        console, self.console = self.console, Console(quiet=True)
        try:
            yield
        finally:
            self.console = console

    @contextmanager
    def step(self, name: str, total: int = 0) -> Iterator[Advance]:
        """Show one step; the yielded function takes what was just done, in units of `total`."""
        start = time.monotonic()
        if self.console.is_terminal and not self.console.quiet:
            with Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=28),
                TaskProgressColumn(),
                TimeRemainingColumn(),
                console=self.console,
                transient=True,
            ) as bar:
                task = bar.add_task(harmless(name), total=total or None)
                yield lambda done: bar.advance(task, done)
        else:
            yield self._heartbeat(name, total)
        seconds = f"({time.monotonic() - start:.1f} s)"
        self.note(styled(("✓", "green"), f" {name} ", (seconds, "dim")))

    def _heartbeat(self, name: str, total: int) -> Advance:
        state = {"done": 0, "start": time.monotonic(), "said": time.monotonic()}

        def advance(done: int) -> None:
            state["done"] += done
            now = time.monotonic()
            if total and now - state["said"] > HEARTBEAT:
                state["said"] = now
                left = (now - state["start"]) / state["done"] * (total - state["done"])
                self.note(f"  {name}: {state['done'] / total:.0%}, about {left:.0f} s left")

        return advance
