"""The benchmark's metanetwork on networks of another width, depth and data set, without learning more.

python benchmarks/metanet.py
python benchmarks/metanet_transfer.py --cifar models/cifar10-test   # see package_images.py
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from metanet_bench import DENSE, IMAGES, NETWORK
from metanet_learning import CURVE, VARIANTS, MetaTraining

from prunepolicy.agents.images.networks import NetworkRecipe
from prunepolicy.agents.images.task import ImageRecipe
from prunepolicy.agents.metanet.curve import curve_of
from prunepolicy.agents.metanet.data_model import DataModel
from prunepolicy.agents.metanet.recipe import PipelineRecipe
from prunepolicy.agents.recovery.fit import Fit
from prunepolicy.agents.recovery.norm_statistics import remeasure_norms
from prunepolicy.agents.recovery.stored import load_network, save_network
from prunepolicy.pruning.atomic import write_text
from prunepolicy.pruning.machine import device_name

RESULT = Path(__file__).parent / "results" / "metanet_transfer.json"
EPOCHS, SEED = 10, 300


def rows(setting: str, data: ImageRecipe, network: NetworkRecipe, work: Path) -> list[dict[str, Any]]:
    """Train one network, rewrite it, and return what both are worth right after cuts."""
    task = data.open(torch.device("cpu"))
    model = network.build(task, SEED)
    Fit(task, DENSE.model_copy(update={"epochs": EPOCHS}), SEED).train(model)
    folder = work / "transfer"
    save_network(model, folder)
    learned = MetaTraining(task, VARIANTS["metanetwork"], work / "metanetwork.safetensors")
    learned.run([], DataModel.opened(folder))
    changed = learned.rewritten(DataModel.opened(folder))
    dense = task.score(load_network(folder), "test")
    before, after = (
        curve_of(remeasure_norms(one, task), task, PipelineRecipe(), CURVE, "test")
        for one in (model, changed)
    )
    return [
        {"setting": setting, "dense": dense, "speedup": s, "as_trained": before[s], "rewritten": after[s]}
        for s in CURVE
    ]


def main() -> None:
    """Measure, and write row by row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("runs/metanet-benchmark"))
    parser.add_argument("--cifar", type=Path, help="Folder with CIFAR-10's binary version.")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    settings = [
        ("the same, another seed", IMAGES, NETWORK),
        ("width 12", IMAGES, NETWORK.model_copy(update={"width": 12})),
        ("ResNet-32", IMAGES, NETWORK.model_copy(update={"arch": "resnet32"})),
    ]
    if arguments.cifar:
        cifar = ImageRecipe(source=str(arguments.cifar), side=14, train=6000, validation=2000)
        settings.append(("CIFAR-10's test images, split", cifar, NETWORK))
    found: list[dict[str, Any]] = []
    for setting, data, network in settings:
        found += rows(setting, data, network, arguments.work)
        print(json.dumps(found[-2:]), flush=True)
        data_to_keep = {"epochs": EPOCHS, "machine": device_name(torch.device("cpu")), "rows": found}
        write_text(RESULT, json.dumps(data_to_keep, indent=1) + "\n")


if __name__ == "__main__":
    main()
