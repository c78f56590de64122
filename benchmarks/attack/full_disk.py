"""Every place that is written, full, read-only, missing or no folder: one sentence, and nothing lost.

Places are the output, the cache, TMPDIR and the folder of a run. A full one is a small file system in a mount
namespace of its own where the system allows that, a limit on the size of files, or an ENOSPC from the drawn
step on; the last is repeated on a disk with space, which ends with what an undisturbed run leaves.
"""

from __future__ import annotations

import ctypes
import errno
import os
import random
import resource
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from chaos import (
    ACCEPTED,
    FAILED,
    REFUSED,
    Counts,
    End,
    arguments,
    conclude,
    in_child,
    is_sentence,
    scratch_folder,
)
from deeds import Deed, deeds
from disk_steps import Steps
from kills import Undisturbed, left, warm

SEED = 0
CLONE_NEWNS, MS_RDONLY, MS_REC, MS_PRIVATE = 0x20000, 1, 0x4000, 1 << 18
"""From Linux's <sched.h> and <sys/mount.h>."""


@dataclass(frozen=True)
class Fault:
    """Something wrong with a place.

    Attributes:
        begin: makes it so in this process, which ends afterwards.
        passes: whether the same call goes on where the place is as it was.
    """

    name: str
    begin: Callable[[Path, random.Random], object]
    passes: bool = False


def failing(code: int) -> Callable[[], object]:
    """Return what raises an error of the operating system."""

    def fail() -> None:
        raise OSError(code, os.strerror(code))

    return fail


def fills_up(place: Path, drawn: random.Random) -> None:
    """Let every step from a drawn one on find a full disk."""
    Steps(place, drawn.randint(1, 60), failing(errno.ENOSPC), lasting=True).start()


def breaks(place: Path, drawn: random.Random) -> None:
    """Let every step from a drawn one on find a broken disk."""
    Steps(place, drawn.randint(1, 60), failing(errno.EIO), lasting=True).start()


def forbids(place: Path, drawn: random.Random) -> None:
    """Let nothing below a place be written from the start."""
    Steps(place, 1, failing(errno.EROFS), lasting=True).start()


def limited_files(place: Path, drawn: random.Random) -> None:
    """Let no file grow beyond a drawn size, libraries' files included."""
    most = drawn.choice((0, 1, 64, 1000, 5000, 30_000))
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))


def small_disk(place: Path, drawn: random.Random) -> None:
    """Mount a small file system, which fills up."""
    mount(place, f"size={drawn.choice((4, 8, 16, 32, 64, 128))}k,nr_inodes={drawn.choice((4, 20, 1000))}")


def read_only_disk(place: Path, drawn: random.Random) -> None:
    """Mount a file system that can't be written."""
    mount(place, "size=4k", MS_RDONLY)


def missing(place: Path, drawn: random.Random) -> None:
    """Remove a place, with its parent's permission to make it again."""
    shutil.rmtree(place)


def a_file(place: Path, drawn: random.Random) -> None:
    """Put a file where the folder was."""
    shutil.rmtree(place)
    place.write_text("a file")


def a_circle(place: Path, drawn: random.Random) -> None:
    """Put a link to itself where the folder was."""
    shutil.rmtree(place)
    place.symlink_to(place)


def a_pipe(place: Path, drawn: random.Random) -> None:
    """Put a pipe where the folder was: whoever opens it waits."""
    shutil.rmtree(place)
    os.mkfifo(place)


def mount(place: Path, options: str, flags: int = 0) -> None:
    """Mount a file system in memory that this process alone sees.

    Raises:
        OSError: where the system forbids it.
    """
    library = ctypes.CDLL(None, use_errno=True)
    for done in (
        lambda: library.unshare(CLONE_NEWNS),
        lambda: library.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None),
        lambda: library.mount(b"tmpfs", os.fsencode(place), b"tmpfs", flags, options.encode()),
    ):
        if done():
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def may_mount(scratch: Path) -> bool:
    """Return whether this process may mount file systems in a namespace of its own."""

    def tried() -> str:
        mount(scratch, "size=4k")
        return ""

    return in_child(tried).status == 0


MOUNTED = (Fault("a full file system", small_disk), Fault("a read-only file system", read_only_disk))
FAULTS = (
    Fault("ENOSPC", fills_up, passes=True),
    Fault("EIO", breaks, passes=True),
    Fault("EROFS", forbids, passes=True),
    Fault("files that can't grow", limited_files, passes=True),
    Fault("missing", missing),
    Fault("a file", a_file),
    Fault("a link to itself", a_circle),
    Fault("a pipe", a_pipe),
)


def attempt(
    deed: Deed, fault: Fault, part: str, usual: Undisturbed, drawn: random.Random, place: Path
) -> tuple[str, str]:
    """Do a deed where one of its places has a fault, and again where that is gone."""
    shutil.rmtree(place, ignore_errors=True)
    deed.prepare(place)

    def faulty() -> str:
        fault.begin(place / part, drawn)
        return deed.done(place, False)

    came = judged(in_child(faulty))
    if came[0] == FAILED or not fault.passes:
        return came
    end = in_child(lambda: deed.done(place, True))
    if end.status != 0:
        return FAILED, f"{came[1]} and again, with space: {end.status} {end.said}"
    wrong = usual.differs(left(deed, place))
    return (FAILED, f"{came[1]} and again, with space, other than undisturbed: {wrong}") if wrong else came


def judged(end: End) -> tuple[str, str]:
    """Return what an end means: it did without, it was refused in one sentence, or it failed."""
    if end.status == 0:
        return ACCEPTED, ""
    if end.status is None:
        return FAILED, "hangs"
    return (REFUSED if end.status in (1, 2) and is_sentence(end.said) else FAILED), f"{end.status} {end.said}"


def cases(found: list[Deed], faults: tuple[Fault, ...]) -> Iterator[tuple[Deed, Fault, str]]:
    """Yield every deed with every fault of every place that it writes."""
    for fault in faults:
        for deed in found:
            for part in deed.written:
                yield deed, fault, part


def fill(counts: Counts, scratch: Path, seconds: float, only: str = "", once: int = 0) -> None:
    """Go round all cases until the time is over; or until `once` were tried."""
    found = list(deeds(scratch))
    warm(found, scratch / "warm")
    usual = {deed.name: Undisturbed.of(deed, scratch) for deed in found}
    faults = FAULTS + (MOUNTED if may_mount(scratch) and not once else ())
    listed = [
        case for case in cases(found, faults) if only in " ".join((case[0].name, case[1].name, case[2]))
    ]
    random.Random(SEED).shuffle(listed)
    by_name = {f"{fault.name}: {part}, {deed.name}": (deed, fault, part) for deed, fault, part in listed}

    def tried(name: str, number: int) -> tuple[str, str]:
        deed, fault, part = by_name[name]
        drawn = random.Random(f"{SEED} {name} {number}")
        return attempt(deed, fault, part, usual[deed.name], drawn, scratch / "place")

    counts.retry(tried)
    names = list(by_name)
    end = time.monotonic() + seconds
    while time.monotonic() < end and (not once or counts.total < once):
        name = names[counts.total % len(names)]
        counts.add(name, *tried(name, counts.tried(name)))
        if counts.total % 20 == 0 and not once:
            counts.save()


def main() -> None:
    """Fill until the time is over."""
    chosen = arguments(__doc__, "full_disk")
    counts = Counts.open(chosen.json)
    with scratch_folder() as scratch:
        fill(counts, scratch, chosen.seconds, chosen.only or "")
    conclude(counts)


if __name__ == "__main__":
    main()
