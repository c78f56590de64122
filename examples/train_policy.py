"""Train PruneNet's row policy, then prune with it: `python examples/train_policy.py smollm2-135m`."""

import argparse
from pathlib import Path

from prunepolicy import Budget, load_policy, load_recipe, prune, train

RECIPE = Path(__file__).parents[1] / "configs" / "train" / "prunenet.yaml"
parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("model", help="a model folder, a .gguf file, an alias or a hub id")
parser.add_argument("--out", default="runs/example", help="folder of the run (runs/example)")
parser.add_argument("--keep", type=float, default=0.8, help="share of the FFN channels that stays (0.8)")
parser.add_argument("--set", action="append", default=[], help="a key of the recipe, as in seed=1")
options = parser.parse_args()

report = train(load_recipe(RECIPE, [f"models=[{options.model}]", *options.set]), options.out, progress=True)
print(report.verdict)
learned = load_policy(f"{options.out}/best")
print(
    prune(options.model, f"{options.out}/pruned", keep=Budget(options.keep, of="ffn"), policy=learned).verdict
)
