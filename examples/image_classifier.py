"""Prune a classifier and fine-tune it: `python examples/image_classifier.py resnet/ fashion-mnist out/`."""

import argparse

from prunepolicy import Budget, PruneSettings, prune
from prunepolicy.commands.prune.finetune_images import RecoverySettings

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("model", help="a folder with an image classifier")
parser.add_argument("data", help="fashion-mnist, or a folder of labelled images")
parser.add_argument("out", help="folder of the result")
parser.add_argument("--keep", type=float, default=0.5, help="share of the FLOPs that stays (0.5)")
parser.add_argument("--epochs", type=int, default=20, help="of fine-tuning after the cut (20)")
options = parser.parse_args()

settings = PruneSettings(recovery=RecoverySettings(options.data, 0, options.epochs))
report = prune(
    options.model,
    options.out,
    Budget(options.keep, of="flops"),
    settings=settings,
    progress=True,
)
print(report.verdict)
