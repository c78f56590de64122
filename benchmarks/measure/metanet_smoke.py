"""The whole pipeline of metanetworks, small, on architectures other than the ResNet that it was made with.

One seed and a few steps each: rows say that every stage works there, not how good it is. Minutes on one core.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from prunepolicy.agents.metanet.report import MetanetReport
from prunepolicy.agents.training.recipe_file import load_recipe
from prunepolicy.agents.training.train import train
from prunepolicy.pruning.io.atomic import write_text
from prunepolicy.pruning.io.machine import device_name, versions

RECIPE = Path("configs/train/metanet_resnet20_published.yaml")
RESULT = Path(__file__).parents[1] / "results" / "metanet_smoke.json"
SMALL = (
    "family.count=3",
    "family.training.epochs=10",
    "max_steps=40",
    "evaluation.every=20",
    "checkpoint_every=20",
    "pipeline.adapt.epochs=4",
    "pipeline.recover.epochs=4",
    "evaluation.speedups=[1.5, 2.0]",
    "evaluation.test_speedups=[1.5, 2.0]",
)
ADAM = "{optimiser: adamw, learning_rate: 0.001, weight_decay: 0.05, max_grad_norm: 1.0, epochs: %d}"
NETWORKS = {
    "vgg": ("network.arch=vgg11", "network.width=8"),
    "vit": (
        "network.arch=vit",
        "network.width=32",
        "data.side=28",
        "pipeline.cut.uniform=true",  # transformers has one width for all layers
        f"family.training={ADAM % 10}",
        f"pipeline.adapt={ADAM % 4}",
        f"pipeline.recover={ADAM % 4}",
    ),
}
"""What is set in the recipe."""


def row(name: str, report: MetanetReport) -> dict[str, Any]:
    """Return what is kept of a run."""
    return {
        "name": name,
        "network": report.recipe["network"],
        "images": report.recipe["data"],
        "dense_epochs": report.recipe["family"]["training"]["epochs"],
        "steps": report.steps,
        "best_step": report.best_step,
        "untouched": report.untouched,
        "selected": report.selected,
        "curves": report.curves,
        "outcomes": [asdict(outcome) for outcome in report.outcomes],
        "verdict": report.verdict,
    }


def main() -> None:
    """Run what is missing, and write row by row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("runs/metanet-smoke"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for name, changes in NETWORKS.items():
        recipe = load_recipe(RECIPE, (*SMALL, *changes))
        report = train(recipe, arguments.work / name, resume=True, command=f"smoke {name}")
        assert isinstance(report, MetanetReport)
        rows.append(row(name, report))
        found = versions("prunepolicy", "torch", "transformers")
        data = {"machine": device_name(torch.device("cpu")), "versions": found, "rows": rows}
        write_text(RESULT, json.dumps(data, indent=1) + "\n")
        print(json.dumps(rows[-1]), flush=True)


if __name__ == "__main__":
    main()
