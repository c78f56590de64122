"""The main job's time, step by step, for two sizes from one run: what the second one doesn't do again."""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from prunepolicy import PruneSettings
from prunepolicy.commands.prune.job import parts_of
from prunepolicy.commands.prune.prune import prune_sizes
from prunepolicy.pruning.io.atomic import write_text
from prunepolicy.pruning.io.machine import device_name, versions
from prunepolicy.pruning.io.progress import Event, ProgressReporter


class Clock:
    """Times steps: on the wall, and what the processor spent on them in this process and its children."""

    def __init__(self, first: int) -> None:
        self.first, self.rows, self._began = first, [], 0.0  # type: int, list[dict[str, Any]], float

    def __call__(self, event: Event) -> None:
        """Note a step when it ends."""
        if event.share in (None, 0) and not event.ended:
            self._began = processor_seconds()
        if event.ended:
            size = int(event.number is not None and event.number > self.first)
            spent = processor_seconds() - self._began
            self.rows.append({"size": size, "step": event.step, "wall": event.seconds, "processor": spent})


def processor_seconds() -> float:
    """Return what the processor has spent on this process and the children that have ended."""
    return sum(os.times()[:4])


@contextmanager
def empty_cache() -> Iterator[Path]:
    """Yield a folder for results; nothing that earlier runs found out is known within."""
    before = os.environ.get("XDG_CACHE_HOME")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = f"{folder}/cache"
        try:
            yield Path(folder)
        finally:
            os.environ.pop("XDG_CACHE_HOME") if before is None else os.environ.update(XDG_CACHE_HOME=before)


def main() -> None:
    """Run the main job for two sizes and write the times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--keep", type=float, nargs=2, default=(0.9, 0.8))
    parser.add_argument("--before", type=Path, help="Rows of an earlier version, to show beside these.")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/main_job.json"))
    options = parser.parse_args()
    clock = Clock(1 + len(parts_of(PruneSettings())))
    with empty_cache() as folder:
        start = time.monotonic()
        prune_sizes(options.model, folder / "out", options.keep, progress=ProgressReporter(listener=clock))
        total = time.monotonic() - start
    results = {
        "model": options.model,
        "keep": options.keep,
        "rows": clock.rows,
        "before": json.loads(options.before.read_text(encoding="utf-8")) if options.before else [],
        "wall": total,
        "machine": {
            "processor": device_name(torch.device("cpu")),
            "threads": torch.get_num_threads(),
            "load_average": round(os.getloadavg()[1], 1),
        },
        "versions": versions("prunepolicy", "torch", "transformers"),
    }
    write_text(options.json, json.dumps(results, indent=1) + "\n")
    print(options.json.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
