"""torch-pruning's own sparse training and cutting, at the budgets of this benchmark."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from prunepolicy.agents.recovery.stored import load_network, operations, save_network
from prunepolicy.pruning.convnets.shapes import config_for

STEPS = 200
"""In which all channels would go; the cut ends at the first that is small enough."""


@dataclass
class DepGraph:
    """GroupNormPruner with its regulariser.

    Source: Fang et al., "DepGraph: Towards Any Structural Pruning", as torch-pruning implements it.
    """

    bench: Any
    strength: float

    def pruned(self, seed: int, speedup: float) -> Path:
        """Return the network of a seed, trained sparsely and cut."""
        source = self.bench.before("DepGraph", seed, self.penalty)
        target: Path = self.bench.work / f"pruned-DepGraph-{seed}-{speedup:g}"
        if (target / "config.json").is_file():
            return target
        model, most = load_network(source), operations(self.bench.dense(seed)) / speedup
        pruner, tried = self.pruner(model), self.bench.work / "trying"
        for _ in range(STEPS):
            pruner.step()
            shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
            model.config.widths = config_for(model.config.arch, shapes)["widths"]
            save_network(model, tried)
            if operations(tried) <= most:
                save_network(model, target)
                return target
        raise RuntimeError(f"{STEPS} steps don't reduce operations {speedup} times")

    def pruner(self, model: nn.Module) -> Any:
        """Return the pruner of a network, ranking globally by max-normalised group norms."""
        import torch_pruning as tp

        importance = tp.importance.GroupMagnitudeImportance(p=2, normalizer="max")
        return tp.pruner.GroupNormPruner(
            model,
            next(iter(self.bench.task.inputs(2)))["pixel_values"],
            importance,
            reg=self.strength,
            global_pruning=True,
            pruning_ratio=1.0,
            iterative_steps=STEPS,
            ignored_layers=[model.fc],
        )

    def penalty(self, model: nn.Module, folder: Path) -> _Penalty:
        """Return what adds the pruner's regulariser to gradients."""
        return _Penalty(self.pruner(model))


class _Penalty:
    def __init__(self, pruner: Any) -> None:
        self.pruner = pruner

    def add(self, model: nn.Module, step: int) -> None:
        """Add the regulariser's gradient."""
        if step == 0:
            self.pruner.update_regularizer()
        self.pruner.regularize(model)
