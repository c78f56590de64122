"""Damaged files of every kind through everything that reads one: read, or refused in one sentence.

The k-th damage to a kind of file is always the same: counts go on where an earlier run stopped, what failed
then is tried again first, and `--replay KIND NUMBER` shows where. Exits with 1 where anything failed.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Sequence
from pathlib import Path

from chaos import RESULTS, Counts, conclude, scratch_folder, verdict
from damage import damaged
from fuzz_targets import Target, targets

SEED = 0


def attack(target: Target, counts: Counts, folder: Path, portion: int | None = None) -> None:
    """Try the next damages to one kind of file."""
    for _ in range(portion or target.portion):
        counts.add(target.name, *tried(target, counts.tried(target.name), folder))


def tried(target: Target, number: int, folder: Path) -> tuple[str, str]:
    """Do one attempt."""
    place(target, number, folder)
    return verdict(lambda: target.load(folder))


def place(target: Target, number: int, folder: Path) -> None:
    """Write a target's files, one of them with the damage of that number."""
    drawn = random.Random(f"{SEED} {target.name} {number}")
    chosen = drawn.choice(sorted(target.damage))
    for name, data in target.files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(damaged(data, target.damage[name], drawn) if name == chosen else data)


def check_sound(target: Target, folder: Path) -> None:
    """Raise what the reader raises on undamaged files."""
    for name, data in target.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    target.load(folder)


def fuzz(counts: Counts, scratch: Path, seconds: float, portion: int | None = None, only: str = "") -> None:
    """Go round all targets until the time is over, or once with `portion` inputs each."""
    found = [target for target in targets(scratch) if only in target.name]
    folders = {target.name: scratch / f"damaged-{number}" for number, target in enumerate(found)}
    for target in found:
        check_sound(target, folders[target.name])

    by_name = {target.name: target for target in found}

    def again(name: str, number: int) -> tuple[str, str] | None:
        target = by_name.get(name)
        return None if target is None else tried(target, number, folders[name])

    counts.retry(again)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for target in found:
            attack(target, counts, folders[target.name], portion)
        if portion:
            return
        counts.save()


def replay(words: Sequence[str], scratch: Path) -> None:
    """Do one attempt again, and let it raise."""
    name, number = words
    target = next(target for target in targets(scratch) if target.name == name)
    place(target, int(number), scratch / "again")
    target.load(scratch / "again")
    print("accepted")


def main() -> None:
    """Attack until the time is over."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600, help="how long to go on")
    parser.add_argument("--json", type=Path, default=RESULTS / "fuzz.json", help="counts, which go on")
    parser.add_argument("--only", default="", help="kinds of file whose names hold this")
    parser.add_argument("--replay", nargs=2, metavar=("KIND", "NUMBER"), help="do one attempt again")
    chosen = parser.parse_args()
    with scratch_folder() as scratch:
        if chosen.replay:
            return replay(chosen.replay, scratch)
        counts = Counts.open(chosen.json)
        fuzz(counts, scratch, chosen.seconds, only=chosen.only)
    conclude(counts)


if __name__ == "__main__":
    main()
