"""Compare a criterion of your own with random: `python examples/own_criterion.py smollm2-135m`."""

import argparse

from prunepolicy import Budget, frontier, register

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("model", help="a model folder, a .gguf file, an alias or a hub id")
parser.add_argument("--out", default="frontiers", help="folder of the results (frontiers)")
parser.add_argument("--keep", type=float, nargs="+", default=[0.9, 0.8], help="shares that stay (0.9 0.8)")
options = parser.parse_args()


@register.criterion("weights", "activations")
def own_criterion(graph, group, stats):
    """Return a unit's weight norm times the root mean square of its activations."""
    return stats.get("weight_l2", group.name) * stats.get("rms", group.name)


budgets = [Budget(keep, of="ffn") for keep in options.keep]
for policy in ("own_criterion", "random"):
    found = frontier(options.model, f"{options.out}/{policy}", budgets, policy)
    for row in found.rows:
        print(f"{policy:>15}  keep {row.keep:g}  perplexity {row.perplexity:.2f}  (dense {found.dense:.2f})")
