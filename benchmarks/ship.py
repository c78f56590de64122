"""Ship the best policy of a run: `python benchmarks/ship.py runs/graph llama-graph.v2 --key FILE`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from prunepolicy.agents.zoo.ship import ship
from prunepolicy.policy.zoo.signing import load_keys
from prunepolicy.policy.zoo.sources.package import SHIPPED
from prunepolicy.pruning.errors import PrunePolicyError


def main() -> int:
    """Copy policy and card among those that ship, list their hashes in the index, and sign that."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="folder of a training run")
    parser.add_argument("name", help="NAME.vN or NAME.TAG-vN")
    parser.add_argument("--key", type=Path, required=True, help="private key whose public half is pinned")
    parser.add_argument("--caveat", default="", help="what benchmarks found that the run didn't see")
    parser.add_argument("--to", type=Path, default=SHIPPED, help="another zoo's folder")
    options = parser.parse_args()
    try:
        ship(options.run, options.name, load_keys([options.key]), options.to, options.caveat)
    except PrunePolicyError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(f"{options.name} ships.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
