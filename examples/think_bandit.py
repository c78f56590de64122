"""Learn when thinking pays, on simulated prompts: `python examples/think_bandit.py`."""

import argparse
from pathlib import Path

from prunepolicy import load_recipe, train

RECIPE = Path(__file__).parents[1] / "configs" / "think" / "bandit.yaml"
parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--out", default="runs/bandit", help="folder of the run (runs/bandit)")
parser.add_argument("--set", action="append", default=[], help="a key of the recipe, as in seed=1")
options = parser.parse_args()

report = train(load_recipe(RECIPE, options.set), options.out, progress=True)
print(report.verdict)
