"""From a trained network to a smaller one in stages, each kept in a folder, so that a kill loses one at most.

(cut a little, train), let the metanetwork rewrite the weights, train, cut, train. Score heads only affect the
final pruning step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch
from torch import nn

from prunepolicy.agents.metanet.recipe import PipelineRecipe
from prunepolicy.agents.metanet.rewriting import rewritten
from prunepolicy.agents.recovery.distillation import Teacher
from prunepolicy.agents.recovery.fit import Fit, FitRecipe
from prunepolicy.agents.recovery.norm_statistics import remeasure_norms
from prunepolicy.agents.recovery.savepoint import Savepoint
from prunepolicy.agents.recovery.sparsity import GroupPenalty
from prunepolicy.agents.recovery.stored import cut_network, load_network, operations, save_network
from prunepolicy.agents.recovery.task import LearningTask
from prunepolicy.policy.kinds.heuristic import Heuristic, HeuristicConfig
from prunepolicy.policy.kinds.metanet import Metanet
from prunepolicy.pruning.checkpoint.checkpoint import CONFIG, Checkpoint
from prunepolicy.pruning.io.progress import ProgressReporter

DENSE = "dense"


@dataclass(frozen=True)
class Pipeline:
    """The stages of one network.

    Attributes:
        folder: for what the stages leave.
        policy: the metanetwork that helps; None for none.
    """

    task: LearningTask
    recipe: PipelineRecipe
    folder: Path
    seed: int
    dtype: torch.dtype = torch.float32
    policy: Metanet | None = None
    progress: ProgressReporter = field(default_factory=ProgressReporter)

    def from_nothing(self, build: Callable[[], nn.Module], recipe: FitRecipe) -> Path:
        """Return a network trained from random weights."""
        return self.trained("0-trained", self._stage("0-random", build), recipe)

    def prepared(self, source: Path) -> Path:
        """Return the network after the first cut and the training that follows.

        Without a cut it is trained only with a group-sparsity penalty; else the source is returned.
        """
        if self.recipe.initial_speedup > 1:
            cut = self._cut("1-initial-cut", source, 1 / self.recipe.initial_speedup)
            return self.trained("2-settled", cut, self.recipe.settle)
        settle = self.recipe.settle
        return self.trained("2-settled", source, settle) if settle.group_sparsity else source

    def adapted(self, source: Path) -> Path:
        """Return the network rewritten and trained, ready for any cut."""
        prepared = self.prepared(source)
        changed = prepared
        if self.policy is not None and self.recipe.rewrite and self.policy.rewrites:
            make = partial(rewritten, self.policy, prepared, self.task.device)
            changed = self._stage("3-rewritten", lambda: remeasure_norms(make(), self.task))
        return self.trained("4-adapted", changed, self.recipe.adapt)

    def pruned(self, source: Path, speedup: float) -> Path:
        """Return the network cut to the source's FLOPs over `speedup`, not yet trained."""
        adapted = self.adapted(source)
        keep = operations(source) / operations(adapted) / speedup
        helped = self.policy if self.recipe.rewrite else None
        return self._cut(f"5-cut-{speedup:g}", adapted, min(1.0, keep), helped)

    def recovered(self, source: Path, speedup: float) -> Path:
        """Return the pruned network, trained."""
        pruned = self.pruned(source, speedup)
        weight = self.recipe.distillation_weight
        teacher = Teacher(load_network(source), weight) if weight else None
        return self.trained(f"6-recovered-{speedup:g}", pruned, self.recipe.recover, teacher)

    def trained(self, name: str, source: Path, recipe: FitRecipe, teacher: Teacher | None = None) -> Path:
        """Return a network after a training, in the folder `name`; the source where there are no epochs."""
        if recipe.epochs == 0:
            return source

        def make() -> nn.Module:
            savepoint = Savepoint(self.folder / f"{name}.fit", f"{name} {recipe.model_dump_json()}")
            model = load_network(source).to(self.task.device)
            strength = recipe.group_sparsity
            penalty = GroupPenalty.of(Checkpoint.open(source), strength) if strength else None
            fit = Fit(self.task, recipe, self.seed, teacher, penalty, savepoint, self.dtype)
            with self.progress.step(f"{name}, epochs: {recipe.epochs}", fit.steps) as tick:
                replace(fit, tick=tick).train(model)
            return model

        folder = self._stage(name, make)
        Savepoint(self.folder / f"{name}.fit", "").finish()
        return folder

    def _cut(self, name: str, source: Path, keep: float, policy: Metanet | None = None) -> Path:
        target = self.folder / name
        if not (target / CONFIG).is_file():
            with self.progress.step(name):
                chooser = policy or ranking(self.recipe)
                cut_network(source, target, chooser, self.recipe.cut.budget(keep), self.seed)
        return target

    def _stage(self, name: str, make: Callable[[], nn.Module]) -> Path:
        target = self.folder / name
        if not (target / CONFIG).is_file():
            save_network(make().cpu(), target)
        return target


def ranking(recipe: PipelineRecipe) -> Heuristic:
    """Return the policy that makes the cuts: a criterion, and an allocator."""
    config = HeuristicConfig(criterion=recipe.cut.criterion, allocator=recipe.cut.allocator)
    return Heuristic(config, recipe.cut.criterion)
