"""A network that nobody has learned from, through the whole pipeline: with the metanetwork, and without."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from prunepolicy.agents.metanet.family import target_seed
from prunepolicy.agents.metanet.pipeline import Pipeline
from prunepolicy.agents.metanet.recipe import MetanetRecipe
from prunepolicy.agents.metanet.report import WITH, WITHOUT, Outcome
from prunepolicy.agents.recovery.norm_statistics import remeasure_norms
from prunepolicy.agents.recovery.stored import load_network, operations
from prunepolicy.agents.recovery.task import LearningTask
from prunepolicy.policy.kinds.metanet import Metanet
from prunepolicy.pruning.io.progress import ProgressReporter
from prunepolicy.pruning.session.opened_model import Hardware


@dataclass(frozen=True)
class Trial:
    """One network.

    Attributes:
        folder: for what its stages leave.
        number: of the test network; gives its seed.
    """

    recipe: MetanetRecipe
    task: LearningTask
    policy: Metanet
    folder: Path
    number: int
    progress: ProgressReporter

    def outcomes(self) -> Iterator[tuple[Outcome, Tensor]]:
        """Yield what becomes of the network at every reduction of FLOPs, either way.

        With each comes how the network in the end does on every sample of the test part.
        """
        dense = self._pipeline("dense").from_nothing(self._built, self.recipe.family.training)
        ways = {WITH: self._pipeline("with", self.policy), WITHOUT: self._pipeline("without")}
        for speedup in self.recipe.evaluation.test_speedups:
            for way, pipeline in ways.items():
                yield self._outcome(way, pipeline, dense, speedup)

    @property
    def _seed(self) -> int:
        return target_seed(self.recipe.seed, self.number)

    def _built(self) -> nn.Module:
        return self.recipe.network.build(self.task, self._seed)

    def _pipeline(self, name: str, policy: Metanet | None = None) -> Pipeline:
        dtype = Hardware(self.recipe.device, self.recipe.dtype).torch_dtype
        folder = self.folder / name
        return Pipeline(self.task, self.recipe.pipeline, folder, self._seed, dtype, policy, self.progress)

    def _outcome(self, way: str, pipeline: Pipeline, dense: Path, speedup: float) -> tuple[Outcome, Tensor]:
        recovered = pipeline.recovered(dense, speedup)
        first = remeasure_norms(self._loaded(pipeline.pruned(dense, speedup)), self.task)
        networks = (self._loaded(dense), first, self._loaded(recovered))
        samples = [self.task.outcomes(network, "test") for network in networks]
        scores = [float(each.mean()) for each in samples]
        reached = operations(dense) / operations(recovered)
        return Outcome(self.number, way, speedup, reached, *scores), samples[-1]

    def _loaded(self, folder: Path) -> nn.Module:
        return load_network(folder).to(self.task.device)
