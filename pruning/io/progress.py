"""Say what is going on: a live bar on a terminal, plain lines elsewhere, or a call per event."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

from prunepolicy.pruning.io.console import Console, harmless, styled

HEARTBEAT = 10.0
"""Seconds between lines in a log, at least."""
BAR_WIDTH = 16
"""Columns; with the share and the time left, names of fifty characters fit into eighty."""

Advance = Callable[[int], None]


@dataclass(frozen=True)
class Event:
    """How far a step of a run is.

    Attributes:
        step: its short name.
        number: which one it is of those of the run, from 1; None where they aren't counted.
        of: how many there are.
        share: how much of it is done, 0 to 1; None where nobody can tell.
        seconds: since it began.
        ended: whether this is the last word about it.
    """

    step: str
    number: int | None
    of: int | None
    share: float | None
    seconds: float
    ended: bool = False

    @property
    def left(self) -> float | None:
        """Seconds until its end, at the speed so far; None where nobody can tell."""
        return self.seconds * (1 / self.share - 1) if self.share else None

    @property
    def title(self) -> str:
        """Its name with its number: `step 3 of 8: repair`."""
        return f"step {self.number} of {self.of}: {self.step}" if self.number else self.step


Listener = Callable[[Event], None]


class ProgressReporter:
    """Names the steps of a run as they happen.

    Args:
        console: where they are shown.
        listener: is called at the beginning of every step, whenever it gets on, and at its end.
    """

    def __init__(self, console: Console | None = None, listener: Listener = lambda event: None) -> None:
        self.console = console or Console(quiet=True)
        self.listener = listener
        self._parts: Sequence[str] = ()
        self._place: int | None = None

    @classmethod
    def of(cls, progress: bool | Listener | ProgressReporter) -> ProgressReporter:
        """Return what tells a caller: nothing for False, lines on standard error for True, or calls."""
        if isinstance(progress, ProgressReporter):
            return progress
        if isinstance(progress, bool):
            return cls(Console(stderr=True) if progress else None)
        return cls(listener=progress)

    def __reduce__(self) -> tuple[type[ProgressReporter], tuple[()]]:
        """Travel to other processes as one that is silent."""
        return ProgressReporter, ()

    def note(self, sentence: str | Text) -> None:
        """Print one line, which no width breaks."""
        self.console.print(sentence, soft_wrap=True)

    def outline(self, parts: Sequence[str]) -> None:
        """Say what the run consists of, in order, so that its steps can be counted."""
        self._parts, self._place = tuple(parts), None

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count the steps within the context as the next part of that name."""
        before, first = self._place, 0 if self._place is None else self._place + 1
        self._place = self._parts.index(name, first) if name in self._parts[first:] else before
        yield

    @contextmanager
    def silence(self) -> Iterator[None]:
        """Say nothing while the context lasts: what happens in every episode is no news."""
        console, listener = self.console, self.listener
        self.console, self.listener = Console(quiet=True), lambda event: None
        try:
            yield
        finally:
            self.console, self.listener = console, listener

    @contextmanager
    def step(self, name: str, total: int = 0) -> Iterator[ProgressStep]:
        """Show one step; the yielded object is called with what was just done, in units of `total`."""
        number = None if self._place is None else self._place + 1
        step = ProgressStep(name, number, len(self._parts), total)
        live = self.console.is_terminal and not self.console.quiet
        with _bar(self.console, step) if live else nullcontext():
            if not live:
                step.listeners.append(self._heartbeat())
            step.listeners.append(self.listener)
            self.listener(step.event())
            yield step
        self.listener(step.event(ended=True))
        took = step.remark or f"{time.monotonic() - step.began:.1f} s"
        self.note(styled(("✓", "green"), f" {step.event().title} ", (f"({took})", "dim")))

    def _heartbeat(self) -> Listener:
        said = time.monotonic()

        def beat(event: Event) -> None:
            nonlocal said
            if event.left is not None and time.monotonic() - said > HEARTBEAT:
                said = time.monotonic()
                self.note(f"  {event.title}: {event.share:.0%}, about {event.left:.0f} s left")

        return beat


class ProgressStep:
    """One step under way; calling it says what was just done."""

    def __init__(self, name: str, number: int | None, of: int, total: int) -> None:
        self.name, self.number, self.of, self.total = name, number, of, total
        self.began, self.done, self.remark = time.monotonic(), 0, ""
        self.listeners: list[Listener] = []

    def __call__(self, done: int) -> None:
        """Count what was just done."""
        self.done += done
        event = self.event()
        for listener in self.listeners:
            listener(event)

    def event(self, ended: bool = False) -> Event:
        """Return how far it is."""
        share = min(1.0, self.done / self.total) if self.total else None
        seconds = time.monotonic() - self.began
        return Event(self.name, self.number, self.of if self.number else None, share, seconds, ended)


@contextmanager
def _bar(console: Console, step: ProgressStep) -> Iterator[None]:
    """Show a bar while the context lasts, and nothing of it afterwards."""
    columns = (
        TextColumn("{task.description}", markup=False),
        TaskProgressColumn(),
        TimeRemainingColumn(compact=True),
        BarColumn(bar_width=BAR_WIDTH),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(harmless(step.event().title), total=step.total or None)
        step.listeners.append(lambda event: bar.update(task, completed=step.done))
        yield
