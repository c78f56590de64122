"""What the benchmark of metanetworks trains, prunes and writes down; `metanet.py` says which methods."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from metanet_learning import STEPS, Variant
from torch import Tensor, nn

from prunepolicy.agents.images.networks import NetworkRecipe
from prunepolicy.agents.images.task import ImageRecipe, ImageTask
from prunepolicy.agents.recovery.fit import Epoch, Fit, FitRecipe
from prunepolicy.agents.recovery.norm_statistics import remeasure_norms
from prunepolicy.agents.recovery.stored import cut_network, load_network, operations, save_network
from prunepolicy.policy.kinds.heuristic import Heuristic, HeuristicConfig
from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.io.atomic import write_text
from prunepolicy.pruning.io.machine import device_name, versions
from prunepolicy.pruning.measure.latency import interleaved, time_model
from prunepolicy.pruning.plan import Budget

RESULT = Path(__file__).parents[1] / "results" / "metanet.json"
IMAGES = ImageRecipe(source="fashion-mnist", side=14, train=6000, validation=2000)
NETWORK = NetworkRecipe(arch="resnet20", width=8)
DENSE = FitRecipe(epochs=20)
BEFORE = FitRecipe(epochs=10, learning_rate=0.05)
AFTER = FitRecipe(epochs=10, learning_rate=0.05)
AT_ONCE = FitRecipe(epochs=BEFORE.epochs + AFTER.epochs, learning_rate=0.05)
"""For what is cut first, and has all epochs after it."""
SEEDS = (0, 1, 2)
CLOSE = (*SEEDS, 3, 4)
"""Of the ways that come closest to each other and to the dense network."""
SPEEDUPS = (2.0, 3.0)
STRENGTHS = (1e-3, 3e-3, 1e-2)
TUNING_SEED = 100
"""Of the network on whose validation images penalties, and checkpoints of metanetworks, are chosen."""
FAMILY = tuple(range(200, 209))
"""Seeds of the networks that metanetworks learn from, as many of the first as each of them says."""
GROUP_NORM = Heuristic(HeuristicConfig(criterion="group_norm", allocator="global_score"), "group_norm")
RANDOM = Heuristic(HeuristicConfig(criterion="random"), "random")
REPEATS = 20


@dataclass
class Bench:
    """Trains, prunes and keeps rows.

    Attributes:
        work: folder for networks, which later runs go on with.
        rows: what was measured so far.
        strengths: of the penalty, to validation accuracy after the hardest cut.
    """

    work: Path
    rows: list[dict[str, Any]] = field(default_factory=list)
    strengths: dict[str, float] = field(default_factory=dict)

    @classmethod
    def resumed(cls, work: Path) -> Bench:
        """Go on with what an earlier run has measured."""
        found = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.is_file() else {}
        return cls(work, found.get("rows", []), found.get("strengths", {}))

    @cached_property
    def task(self) -> ImageTask:
        """The images."""
        return IMAGES.open(torch.device("cpu"))

    @cached_property
    def pixels(self) -> Tensor:
        """A batch to time networks on."""
        return next(iter(self.task.inputs(128)))["pixel_values"]

    def network(self, name: str, make: Callable[[], nn.Module]) -> Path:
        """Return the folder of a network, made now unless an earlier run made it."""
        folder = self.work / name
        if not (folder / "config.json").is_file():
            save_network(make(), folder)
        return folder

    def trained(self, model: nn.Module, recipe: FitRecipe, seed: int, penalty: Any = None) -> nn.Module:
        """Train a network in place."""
        Fit(self.task, recipe, seed, penalty=penalty).train(model)
        return model

    def dense(self, seed: int) -> Path:
        """Return the trained network of a seed."""
        build = lambda: NETWORK.build(self.task, seed)  # noqa: E731
        return self.network(f"dense-{seed}", lambda: self.trained(build(), DENSE, seed))

    def before(self, method: str, seed: int, penalty: Callable[[nn.Module, Path], Any] | None = None) -> Path:
        """Return the dense network after the epochs that precede the cut."""

        def make() -> nn.Module:
            model = load_network(self.dense(seed))
            return self.trained(model, BEFORE, seed, penalty(model, self.dense(seed)) if penalty else None)

        return self.network(f"before-{method}-{seed}", make)

    def pruned(self, method: str, source: Path, policy: Heuristic, seed: int, speedup: float) -> Path:
        """Return a network cut to the dense one's operations over `speedup`."""
        target = self.work / f"pruned-{method}-{seed}-{speedup:g}"
        if not (target / "config.json").is_file():
            keep = operations(self.dense(seed)) / operations(source) / speedup
            budget = Budget(min(1.0, keep), of="flops", uniform=policy is RANDOM, multiple_of=1)
            cut_network(source, target, policy, budget, seed)
        return target

    def row(self, method: str, seed: int, speedup: float, pruned: Path, recipe: FitRecipe = AFTER) -> None:
        """Train a pruned network, evaluate it, and write the row; nothing where it is there."""
        place = {"method": method, "seed": seed, "speedup": speedup}
        if any(place.items() <= row.items() for row in self.rows):
            return
        scratch = method.startswith("scratch")
        model = load_network(pruned)
        if scratch:
            model = from_config(pruned, seed)
        right_after = 0.0 if scratch else self.task.score(remeasure_norms(model, self.task), "test")
        best = Best()
        history = Fit(self.task, recipe, seed, validate=True, after=best.see).train(model)
        found = {
            "reached": operations(self.dense(seed)) / operations(pruned),
            "right_after": right_after,
            "last": self.task.score(model, "test"),
            "best": self.task.score(best.model, "test"),
            "validation": history[-1].score,
            "params": sum(parameter.numel() for parameter in model.parameters()),
            "latency": latency_ratio(load_network(self.dense(seed)), model, self.pixels),
        }
        self.keep({**place, **found})

    def dense_row(self, seed: int) -> None:
        """Evaluate the dense network after as many epochs as all others have."""
        place = {"method": "dense", "seed": seed, "speedup": 1.0}
        if any(place.items() <= row.items() for row in self.rows):
            return
        model, best = load_network(self.before("plain", seed)), Best()
        first = self.task.score(load_network(self.dense(seed)), "test")
        Fit(self.task, AFTER, seed, validate=True, after=best.see).train(model)
        last, top = self.task.score(model, "test"), self.task.score(best.model, "test")
        self.keep({**place, "reached": 1.0, "right_after": first, "last": last, "best": top, "latency": 1.0})

    def keep(self, row: dict[str, Any]) -> None:
        """Add a row and write everything."""
        self.rows.append(row)
        print(json.dumps(row), flush=True)
        self.save()

    def save(self) -> None:
        """Write all rows and what they were measured on."""
        data = {
            "images": IMAGES.model_dump(),
            "network": NETWORK.model_dump(),
            "dense": DENSE.model_dump(),
            "before": BEFORE.model_dump(),
            "after": AFTER.model_dump(),
            "machine": device_name(torch.device("cpu")),
            "versions": versions("prunepolicy", "torch", "torch-pruning"),
            "strengths": self.strengths,
            "learning": {"steps": STEPS, "family": Variant().networks},
            "rows": self.rows,
        }
        write_text(RESULT, json.dumps(data, indent=1) + "\n")


class Best:
    """Remembers the network of the epoch with the best validation score."""

    def __init__(self) -> None:
        self.score, self.model = -1.0, nn.Module()

    def see(self, model: nn.Module, epoch: Epoch) -> None:
        """Copy the model where it is the best so far."""
        if epoch.score > self.score:
            self.score, self.model = epoch.score, copy.deepcopy(model)


def from_config(folder: Path, seed: int) -> nn.Module:
    """Return a network of the same shape with random weights."""
    checkpoint = Checkpoint.open(folder)
    torch.manual_seed(seed)
    return checkpoint.adapter.build(checkpoint.config)


def latency_ratio(dense: nn.Module, pruned: nn.Module, pixels: Tensor) -> float:
    """Return how many times as fast the pruned network is on a batch of images."""
    inputs = {"pixel_values": pixels.contiguous()}
    runs = [lambda model=model: time_model(model, inputs, 0) for model in (dense.eval(), pruned.eval())]
    first, second = (sorted(time.prefill for time in times) for times in interleaved(runs, REPEATS))
    return first[len(first) // 2] / second[len(second) // 2]
