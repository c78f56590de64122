"""Kill everything that writes at every step that touches the disk: the rerun ends with the same bytes.

A forked process counts its opens, writes, renames, removals, truncations and fsyncs, and kills itself with
SIGKILL at one of them (a write has got half of its bytes out by then). Afterwards the output is the old one
or the new one, never a mix; the same call again ends with what an undisturbed run leaves, and nothing else.
Once every step has been a kill, reruns are killed, too. Files that differ between two undisturbed runs
(times, process numbers) are compared by name.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from chaos import FAILED, Counts, arguments, conclude, content, in_child, scratch_folder
from deeds import Deed, deeds
from disk_steps import Steps

SEED = 0
SAME = "same bytes"
TIMED = re.compile(r"(^|/)((run|prune_report)\.json|smaller/README\.md)$")
"""Files that hold seconds, which may be the same by chance."""
NAMES = re.compile(r"events/.*")
"""TensorBoard writes a file per process, named by time and process."""


def killed() -> NoReturn:
    """End this process as the kernel would that has no memory left."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


@dataclass
class Undisturbed:
    """What a deed leaves when nobody kills it.

    Attributes:
        steps: on the disk.
        old: content of what it writes to, before; new: after.
        vary: files that differ between two such runs.
    """

    steps: int
    old: dict[str, str]
    new: dict[str, str]
    vary: set[str]

    @classmethod
    def of(cls, deed: Deed, scratch: Path) -> Undisturbed:
        """Do it twice."""
        found = []
        for place in (scratch / "first", scratch / "second"):
            shutil.rmtree(place, ignore_errors=True)
            deed.prepare(place)
            old = left(deed, place)
            end = in_child(lambda place=place: counted(deed, place))
            if end.status != 0:
                raise SystemExit(f"{deed.name} fails undisturbed: {end.said}")
            found.append(left(deed, place))
        vary = {name for name in found[0] if found[0][name] != found[1].get(name) or TIMED.search(name)}
        return cls(int(end.said), old, found[0], vary)

    def differs(self, found: dict[str, str]) -> str:
        """Return what is other than it should be; nothing where nothing is."""
        if found.keys() != self.new.keys():
            return f"files: {sorted(found.keys() ^ self.new.keys())}"
        return ", ".join(n for n in found if n not in self.vary and found[n] != self.new[n])


def left(deed: Deed, place: Path) -> dict[str, str]:
    """Return what lies below a deed's folder, but files that are named by chance."""
    return {name: data for name, data in content(place).items() if not NAMES.search(name)}


def warm(found: Iterable[Deed], place: Path) -> None:
    """Do everything once in this process, so that its children have nothing to import."""
    for deed in found:
        deed.prepare(place / deed.name)
        deed.done(place / deed.name, False)


def counted(deed: Deed, place: Path) -> str:
    """Do a deed and return the number of its steps."""
    steps = Steps(place, 0, killed)
    steps.start()
    deed.done(place, False)
    steps.watching = False
    return str(steps.count)


def attempt(deed: Deed, usual: Undisturbed, number: int, place: Path) -> tuple[str, str]:
    """Kill a deed once, or twice where every step was tried, and do it to its end."""
    drawn = random.Random(f"{SEED} {deed.name}")
    order = drawn.sample(range(1, usual.steps + 1), usual.steps)
    at = [order[number % usual.steps]]
    if number >= usual.steps:
        at.append(random.Random(f"{SEED} {deed.name} {number}").randint(1, usual.steps))
    shutil.rmtree(place, ignore_errors=True)
    deed.prepare(place)
    for again, step in enumerate(at):
        end = in_child(lambda again=again, step=step: until(deed, place, step, bool(again)))
        if end.status not in (0, -signal.SIGKILL):
            return FAILED, f"killed at {at}, run {again}: {end.status} {end.said}"
        if mixed := is_mixed(deed, usual, place):
            return FAILED, f"killed at {at}: {mixed}"
    end = in_child(lambda: deed.done(place, True))
    if end.status != 0:
        return FAILED, f"killed at {at}, rerun: {end.status} {end.said}"
    if wrong := usual.differs(left(deed, place)):
        return FAILED, f"killed at {at}, other than undisturbed: {wrong}"
    return SAME, ""


def until(deed: Deed, place: Path, step: int, again: bool) -> str:
    """Do a deed until a step."""
    Steps(place, step, killed).start()
    return deed.done(place, again)


def is_mixed(deed: Deed, usual: Undisturbed, place: Path) -> str:
    """Return how an output is neither the old one nor the new one."""
    target = "out/smaller/"
    found, old, new = (
        {name: data for name, data in one.items() if name.startswith(target)}
        for one in (content(place), usual.old, usual.new)
    )
    if found in ({}, old) or all(data == new.get(name) or name in usual.vary for name, data in found.items()):
        return "" if found in ({}, old) or found.keys() == new.keys() else f"a part of {target} is there"
    return f"{target} is mixed"


def kill(
    counts: Counts, scratch: Path, seconds: float, portion: int = 5, only: str = "", once: bool = False
) -> None:
    """Go round all deeds until the time is over, or once."""
    found = [deed for deed in deeds(scratch) if only in deed.name]
    warm(found, scratch / "warm")
    usual = {deed.name: Undisturbed.of(deed, scratch) for deed in found}
    by_name = {deed.name: deed for deed in found}

    def again(name: str, number: int) -> tuple[str, str] | None:
        deed = by_name.get(name)
        return None if deed is None else attempt(deed, usual[name], number, scratch / "place")

    counts.retry(again)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for deed in found:
            for _ in range(portion):
                came, said = attempt(deed, usual[deed.name], counts.tried(deed.name), scratch / "place")
                counts.add(deed.name, came, said)
        if once:
            return
        counts.save()


def main() -> None:
    """Kill until the time is over."""
    chosen = arguments(__doc__, "kills")
    counts = Counts.open(chosen.json)
    with scratch_folder() as scratch:
        kill(counts, scratch, chosen.seconds, only=chosen.only or "")
    conclude(counts)


if __name__ == "__main__":
    main()
