"""A worker takes more memory than its node allows: Ray ends it, and its job is done again.

The node is `ray start --block` with a limit four gigabytes above what the machine uses now. Linux only;
half a minute. Exits with 1 where results differ or the cause isn't said.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
from lost_node import HEAD, PORT, node, wait_for

from prunepolicy.pruning.io.atomic import write_text

RESULT = Path(__file__).parents[1] / "results" / "out_of_memory.json"
JOBS, GREEDY = 6, 3
ROOM, PIECE = 4 << 30, 64 << 20
"""Bytes above what is used that the node allows, and that a greedy job takes at a time."""


@dataclass(frozen=True)
class Squares:
    """Squares numbers; the first worker that meets the greedy one takes memory until it is ended."""

    flag: Path

    def __call__(self, number: int) -> int:
        """Return the square."""
        if number == GREEDY and not self.flag.exists():
            self.flag.touch()
            taken = []
            while len(taken) * PIECE < 2 * ROOM:
                taken.append(os.urandom(1024) * (PIECE // 1024))
                time.sleep(0.02)
        return number * number


def main() -> None:
    """Work on such a node, and compare."""
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    memory = psutil.virtual_memory()
    limit = (memory.total - memory.available + ROOM) / memory.total
    os.environ |= {"RAY_memory_usage_threshold": f"{limit:.3f}", "RAY_memory_monitor_refresh_ms": "100"}
    from prunepolicy.agents.runtime.open_runner import open_runner  # Ray reads the token when it is imported
    from prunepolicy.agents.runtime.settings import ClusterSettings

    said: list[str] = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        with node(
            folder, "--head", f"--node-ip-address={HEAD}", f"--port={PORT}", "--include-dashboard=false"
        ):
            wait_for(PORT, HEAD)
            settings = ClusterSettings(address=f"{HEAD}:{PORT}", workers=1, deadline=120)
            with open_runner(settings, said.append) as runner:
                found = list(runner.map(Squares(folder / "flag"), range(JOBS)))
    what = f"a worker takes memory until its node ends it, in job {GREEDY + 1} of {JOBS}"
    causes, equal = said[1:], found == [number * number for number in range(JOBS)]
    text = json.dumps({"what": what, "said": causes, "equal": equal, "exit": 0}, indent=1)
    print(text)
    if not equal or "out of memory" not in " ".join(causes):
        sys.exit("It went wrong.")
    write_text(RESULT, text + "\n")


if __name__ == "__main__":
    main()
