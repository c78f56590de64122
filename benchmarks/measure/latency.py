"""Speed of SmolLM2 pruned to 0.8 of its parameters, against the dense model in the same run."""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from prunepolicy.commands.evaluate.bench import BenchRequest, bench
from prunepolicy.commands.prune.job import PruneSettings
from prunepolicy.commands.prune.prune import prune
from prunepolicy.pruning.io.atomic import write_text
from prunepolicy.pruning.plan import Budget

VARIANTS = {
    "FFN channels": Budget(0.8),
    "layers": Budget(0.8, "layers"),
}


def main() -> None:
    """Cut each variant (random units: speed depends on shapes alone), time it, write the numbers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/latency.json"))
    options = parser.parse_args()
    request = BenchRequest((1, 8), prompt=128, new=32, repeats=options.repeats, threads=options.threads)
    results = {}
    with tempfile.TemporaryDirectory(prefix="latency-") as scratch:
        for name, budget in VARIANTS.items():
            folder = Path(scratch) / name.replace(" ", "-")
            prune("smollm2-135m", folder, budget, "random", PruneSettings(measure=False, verify=False))
            report = json.loads(bench(str(folder), "smollm2-135m", request).to_json())
            results[name] = report | {"model": name, "against": "dense"}
            print(name, [(row["phase"], row["batch"], row["speedup"]) for row in report["measurements"]])
    write_text(options.json, json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
