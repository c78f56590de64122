"""The benchmark's metanetworks on networks of another width, depth and data set, without learning more.

python benchmarks/measure/metanet.py
python benchmarks/measure/metanet_transfer.py --cifar models/cifar10-test   # see package_images.py
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from metanet_bench import AFTER, DENSE, GROUP_NORM, IMAGES, NETWORK, SPEEDUPS
from metanet_learning import VARIANTS, MetaTraining

from prunepolicy.agents.images.networks import NetworkRecipe
from prunepolicy.agents.images.task import ImageRecipe, ImageTask
from prunepolicy.agents.metanet.data_model import DataModel
from prunepolicy.agents.recovery.fit import Fit
from prunepolicy.agents.recovery.norm_statistics import remeasure_norms
from prunepolicy.agents.recovery.stored import cut_network, load_network, save_network
from prunepolicy.policy.kinds.heuristic import Heuristic
from prunepolicy.pruning.io.atomic import write_text
from prunepolicy.pruning.io.machine import device_name
from prunepolicy.pruning.plan import Budget

RESULT = Path(__file__).parents[1] / "results" / "metanet_transfer.json"
EPOCHS, SEED = 10, 300
WITHOUT = "without"
WAYS = (WITHOUT, "metanetwork", "metanetwork, scores")


def rows(setting: str, data: ImageRecipe, network: NetworkRecipe, work: Path) -> list[dict[str, Any]]:
    """Train one network, and return what is left of it after cuts, with each metanetwork and with none."""
    task = data.open(torch.device("cpu"))
    model = network.build(task, SEED)
    Fit(task, DENSE.model_copy(update={"epochs": EPOCHS}), SEED).train(model)
    folder = work / "transfer"
    save_network(model, folder)
    dense = task.score(model, "test")
    found = []
    for way in WAYS:
        whole, policy = helped(way, task, folder, work)
        for speedup in SPEEDUPS:
            pruned = work / "transfer-pruned"
            keep = Budget(1 / speedup, of="flops", uniform=False, multiple_of=1)
            cut_network(whole, pruned, policy, keep)
            cut = remeasure_norms(load_network(pruned), task)
            right_after = task.score(cut, "test")
            Fit(task, AFTER, SEED).train(cut)
            place = {"setting": setting, "dense": dense, "speedup": speedup, "way": way}
            found.append({**place, "right_after": right_after, "trained": task.score(cut, "test")})
            print(json.dumps(found[-1]), flush=True)
    return found


def helped(way: str, task: ImageTask, folder: Path, work: Path) -> tuple[Path, Heuristic]:
    """Return the network as one way has prepared it, and what ranks it."""
    if way == WITHOUT:
        return folder, GROUP_NORM
    learned = MetaTraining(task, VARIANTS[way], work / f"{way}.safetensors")
    learned.run([], DataModel.opened(folder))
    changed = work / "transfer-changed"
    save_network(remeasure_norms(learned.rewritten(DataModel.opened(folder)), task), changed)
    return changed, learned.policy


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
        kept = {"epochs": EPOCHS, "after": AFTER.epochs, "rows": found}
        data_to_keep = {**kept, "machine": device_name(torch.device("cpu"))}
        write_text(RESULT, json.dumps(data_to_keep, indent=1) + "\n")


if __name__ == "__main__":
    main()
