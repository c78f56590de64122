"""Start-up: `--help`, and the unit graph of a 70B configuration, each the median of fresh processes."""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from prunepolicy.pruning.io.atomic import write_text
from prunepolicy.pruning.io.machine import versions

HELP = "from prunepolicy.cli import prune_main; prune_main(['--help'])"
EMPTY = "pass"
GRAPH = """
import time
from prunepolicy.pruning.adapters import adapter_for
config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 8192,
          "intermediate_size": 28672, "num_hidden_layers": 80, "num_attention_heads": 64,
          "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 128256}
adapter = adapter_for(config)
start = time.perf_counter()
shapes = adapter.shapes(config)
middle = time.perf_counter()
adapter.units(config, shapes)
end = time.perf_counter()
adapter.units(config, adapter.shapes(config))
print(middle - start, end - middle, time.perf_counter() - end)
"""


def main() -> None:
    """Time fresh processes and write the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/startup.json"))
    options = parser.parse_args()
    graphs = [[float(word) for word in _run(GRAPH)[1].split()] for _ in range(options.repeats)]
    first_shapes, units, again = (statistics.median(column) for column in zip(*graphs, strict=True))
    results = {
        "empty_python_seconds": _median(EMPTY, options.repeats),
        "help_seconds": _median(HELP, options.repeats),
        "graph_70b": {
            "shapes_first_time_seconds": first_shapes,
            "unit_graph_seconds": units,
            "both_once_transformers_is_imported_seconds": again,
        },
        "versions": versions("prunepolicy", "torch", "transformers", "typer"),
    }
    write_text(options.json, json.dumps(results, indent=1) + "\n")
    print(options.json.read_text())


def _median(code: str, repeats: int) -> float:
    return statistics.median(_run(code)[0] for _ in range(repeats))


def _run(code: str) -> tuple[float, str]:
    start = time.perf_counter()
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    return time.perf_counter() - start, output


if __name__ == "__main__":
    main()
