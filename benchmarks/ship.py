"""Ship the best policy of a run: `python benchmarks/ship.py runs/graph llama-graph.v1`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from prunepolicy.agents.ship import ship
from prunepolicy.policy.shelf import SHELF, Shelf
from prunepolicy.pruning.errors import PrunePolicyError


def main() -> int:
    """Copy policy and card onto the shelf, and list their hashes in its index."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="folder of a training run")
    parser.add_argument("name", help="NAME.vN")
    parser.add_argument("--caveat", default="", help="what benchmarks found that the run didn't see")
    parser.add_argument("--shelf", type=Path, default=SHELF, help="another folder with an index.json")
    options = parser.parse_args()
    try:
        ship(options.run, options.name, Shelf(options.shelf), options.caveat)
    except PrunePolicyError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(f"{options.name} is on the shelf.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
