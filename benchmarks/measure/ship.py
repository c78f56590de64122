"""Ship the best policy of a run: `python benchmarks/measure/ship.py runs/graph llama-graph.v2 --key FILE`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console

from prunepolicy.commands.zoo.ship import Addition, ship
from prunepolicy.policy.zoo.signing import load_keys
from prunepolicy.policy.zoo.sources.package import SHIPPED
from prunepolicy.pruning.errors import PrunePolicyError
from prunepolicy.pruning.io.progress import ProgressReporter


def main() -> int:
    """Copy policy and card among those that ship, list their hashes in the index, and sign that."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="folder of a training run")
    parser.add_argument("name", help="NAME.vN or NAME.TAG-vN")
    parser.add_argument("--key", type=Path, required=True, help="private key whose public half is pinned")
    parser.add_argument("--caveat", default="", help="what benchmarks found that the run didn't see")
    parser.add_argument("--witness", default="", help="a model to score as well, which others can get")
    parser.add_argument("--version", help="of a better card for a policy that is there, as 1.1.0")
    parser.add_argument("--to", type=Path, default=SHIPPED, help="another zoo's folder")
    options = parser.parse_args()
    try:
        addition = Addition(options.caveat, options.witness, ProgressReporter(Console()))
        keys = load_keys([options.key])
        ship(options.run, options.name, keys, options.to, addition, options.version)
    except PrunePolicyError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(f"{options.name} ships.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
