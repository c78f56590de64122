"""Networks that others trained, cut without learning from any others: what is left, and what returns.

PYTHONPATH=FOLDER_WITH_H5PY python benchmarks/measure/pretrained_networks.py   # 390 MB of packages

Rows are written as they come, so that a stop loses nothing: run it again to go on. Less than half an hour
of one core.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from metanet_bench import latency_ratio
from package_networks import cifar_images, cnn, lite
from photo_views import PhotoTask
from pretrained_methods import METHODS, pruned
from torch import nn

from prunepolicy.agents.images.task import ImageRecipe, ImageTask
from prunepolicy.agents.recovery.fit import Fit, FitRecipe
from prunepolicy.agents.recovery.norm_statistics import remeasure_norms
from prunepolicy.agents.recovery.stored import load_network, operations, save_network
from prunepolicy.agents.recovery.task import LearningTask
from prunepolicy.pruning.io.atomic import write_text
from prunepolicy.pruning.io.cache import cache_folder
from prunepolicy.pruning.io.machine import device_name, versions

RESULT = Path(__file__).parents[1] / "results" / "pretrained_networks.json"
SIZES = {"train": 4500, "validation": 500, "test": 5000}
TUNE = FitRecipe(epochs=2, learning_rate=0.01, batch_size=64)
SPEEDUPS = (1.5, 2.0)
SEEDS = (0, 1, 2)


@dataclass
class Network:
    """A trained network, and what it is judged on.

    Attributes:
        name: of its architecture, for rows.
        tuned: train what is left of it.
        timed: images at once where its speed is measured.
    """

    name: str
    task: LearningTask
    folder: Path
    tuned: bool
    timed: int

    @cached_property
    def dense(self) -> nn.Module:
        """The network as it came."""
        return load_network(self.folder)

    def scores(self, model: nn.Module) -> dict[str, float]:
        """Return what a network is worth."""
        found = {"accuracy": self.task.score(laid_out(model), "test")}
        if isinstance(self.task, PhotoTask):
            found["agreement"] = self.task.agreement(model, self.dense)
        return found


@dataclass
class Rows:
    """What was measured so far."""

    found: list[dict[str, Any]] = field(default_factory=list)

    def add(self, place: dict[str, Any], measure: Callable[[], dict[str, Any]]) -> None:
        """Measure a row and write everything; nothing where it is there."""
        if any(place.items() <= row.items() for row in self.found):
            return
        self.found.append(place | measure())
        print(json.dumps(self.found[-1]), flush=True)
        data = {
            "machine": device_name(torch.device("cpu")),
            "versions": versions("prunepolicy", "torch", "torch-pruning"),
            "sizes": SIZES,
            "tune": TUNE.model_dump(),
            "rows": self.found,
        }
        write_text(RESULT, json.dumps(data, indent=1) + "\n")


def measured(network: Network, method: str, seed: int, speedup: float) -> dict[str, Any]:
    """Cut one network, and return what is left, and what a short training brings back."""
    target = network.folder.with_name(f"{network.name}-cut")
    pruned(METHODS[method], network.folder, network.task, target, (seed, speedup))
    model = remeasure_norms(load_network(target), network.task)
    pixels = next(iter(network.task.inputs(network.timed)))["pixel_values"]
    row = {
        "reached": operations(network.folder) / operations(target),
        "params": sum(parameter.numel() for parameter in model.parameters()),
        "latency": latency_ratio(network.dense, model, pixels),
        "right_after": network.scores(model),
    }
    if network.tuned:
        Fit(network.task, TUNE, seed, dtype=torch.bfloat16).train(model)
        row["tuned"] = network.scores(model)
    return row


def measured_dense(network: Network, seed: int) -> dict[str, Any]:
    """Return what the whole network is worth, as it came and after what all others get."""
    model = remeasure_norms(load_network(network.folder), network.task)
    row = {"as_it_came": network.scores(network.dense), "right_after": network.scores(model)}
    if network.tuned:
        Fit(network.task, TUNE, seed, dtype=torch.bfloat16).train(model)
        row["tuned"] = network.scores(model)
    return row


def on_all_images(network: Network) -> dict[str, Any]:
    """Return the accuracy on all of CIFAR-10's test images, which others have measured too."""
    assert isinstance(network.task, ImageTask)
    images = network.task.images
    counts = {part: len(getattr(images, part)) for part in ("train", "validation", "test")}
    anypart: Any = network.task  # it evaluates on any part, though its type promises two
    right = sum(anypart.score(laid_out(network.dense), part) * count for part, count in counts.items())
    return {"accuracy": right / sum(counts.values()), "images": sum(counts.values())}


def laid_out(model: nn.Module) -> nn.Module:
    """Return a network in the memory layout of its images."""
    anyhow: Any = model  # torch types no memory format of modules
    placed: nn.Module = anyhow.to(memory_format=torch.channels_last)
    return placed


def networks(cache: Path) -> list[Network]:
    """Fetch and convert both networks."""
    device, work = torch.device("cpu"), cache / "networks"
    images = ImageRecipe(source=str(cifar_images(cache)), **SIZES).open(device)
    small = Network("cnn6", images, work / "cnn6", tuned=True, timed=32)
    large = Network(
        "efficientnet-lite0", PhotoTask.opened(cache), work / "efficientnet-lite0", tuned=False, timed=1
    )
    save_network(cnn(cache, images.images.mean, images.images.deviation), small.folder)
    save_network(lite(cache), large.folder)
    return [small, large]


def main() -> None:
    """Measure what is missing, and write it row by row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, default=cache_folder() / "packages")
    torch.set_num_threads(1)
    rows = Rows(json.loads(RESULT.read_text(encoding="utf-8"))["rows"] if RESULT.is_file() else [])
    small, large = networks(parser.parse_args().cache)
    whole = {"network": small.name, "method": "dense, all images", "seed": 0, "speedup": 1.0}
    rows.add(whole, lambda: on_all_images(small))
    for network in (small, large):
        for seed in SEEDS if network.tuned else (0,):
            place = {"network": network.name, "method": "dense", "seed": seed, "speedup": 1.0}
            rows.add(place, lambda network=network, seed=seed: measured_dense(network, seed))
        for seed, speedup, method in itertools.product(SEEDS, SPEEDUPS, METHODS):
            if seed and not network.tuned and not METHODS[method].drawn:
                continue  # nothing random: it would come out the same
            place = {"network": network.name, "method": method, "seed": seed, "speedup": speedup}
            rows.add(place, lambda n=network, m=method, s=seed, by=speedup: measured(n, m, s, by))


if __name__ == "__main__":
    main()
