"""Prune a language model and read the report: `python examples/prune_one.py smollm2-135m smaller/`."""

import argparse

from prunepolicy import Budget, prune

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("model", help="a model folder, a .gguf file, an alias or a hub id")
parser.add_argument("out", help="folder of the result")
parser.add_argument("--keep", type=float, default=0.8, help="share of the FFN channels that stays (0.8)")
options = parser.parse_args()

report = prune(options.model, options.out, keep=Budget(options.keep, of="ffn"), progress=True)
print(f"{report.before.cost.params:,} parameters became {report.after.cost.params:,}.")
print(report.verdict)
