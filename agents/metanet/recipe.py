"""What a recipe for a metanetwork says: networks to learn from, how it learns, what becomes of a network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from prunepolicy.agents.images.networks import VIT, NetworkRecipe
from prunepolicy.agents.images.task import ImageRecipe
from prunepolicy.agents.metanet.texts import LanguageNetworkRecipe, TextRecipe
from prunepolicy.agents.recovery.fit import FitRecipe
from prunepolicy.agents.training.recipe import PolicyRecipe, RunEvaluation
from prunepolicy.pruning.io.config import OldNames, StrictConfig
from prunepolicy.pruning.plan import Budget, Of

Speedup = Annotated[float, Field(ge=1)]


class CutRecipe(StrictConfig):
    """How networks are cut.

    Attributes:
        of: the unit of budgets.
        criterion: that ranks units.
        allocator: that spends budgets whose widths may differ.
        uniform: equal widths in all layers.
    """

    of: Of = "flops"
    criterion: str = "group_norm"
    allocator: str = "global_score"
    uniform: bool = False
    units: tuple[str, ...] = ()

    def budget(self, keep: float) -> Budget:
        """Return the budget that keeps a share of the network."""
        return Budget(keep, self.of, uniform=self.uniform, units=self.units, multiple_of=1)


class PipelineRecipe(StrictConfig):
    """What becomes of a network; a stage without epochs, and a cut by 1, is left out.

    Attributes:
        initial_speedup: reduction of FLOPs by the first cut, before the metanetwork.
        settle: training after it; without that cut only where it has a group-sparsity penalty.
        rewrite: let the metanetwork do its part.
        adapt: training after that.
        cut: how both cuts are made.
        recover: training after the last cut.
        distillation_weight: of the dense network's answers against the labels in that training; 0 has none.
    """

    renamed: ClassVar[OldNames] = {
        "initial": "initial_speedup",
        "distil": "distillation_weight",
    }
    initial_speedup: float = Field(default=1.0, ge=1)
    settle: FitRecipe = FitRecipe(epochs=5, learning_rate=0.05)
    rewrite: bool = True
    adapt: FitRecipe = FitRecipe(epochs=10, learning_rate=0.05)
    cut: CutRecipe = CutRecipe()
    recover: FitRecipe = FitRecipe(epochs=10, learning_rate=0.05)
    distillation_weight: float = Field(default=0.0, ge=0, le=1)


class FamilyRecipe(StrictConfig):
    """Networks to learn from: the same architecture and images, other seeds.

    Attributes:
        folder: of a family that was trained before; None trains one.
        count: of networks.
        held_out: of them that are for validation only: checkpoints are chosen on networks that nothing
            learned from.
        training: of each from scratch.
    """

    folder: Path | None = None
    count: int = Field(default=6, ge=2)
    held_out: int = Field(default=1, ge=1)
    training: FitRecipe = FitRecipe()

    @model_validator(mode="after")
    def _some_to_learn_from(self) -> Self:
        if self.held_out >= self.count:
            raise ValueError(f"held_out ({self.held_out}) leaves none of {self.count} networks to learn from")
        return self


class MetanetEvaluation(RunEvaluation):
    """How the metanetwork is evaluated.

    Attributes:
        speedups: reductions of FLOPs over which the validation accuracy right after the cut is averaged, to
            choose the best step.
        test_networks: of seeds that nothing learned from, which go through the whole pipeline at the end.
        test_speedups: reductions of their FLOPs.
    """

    renamed: ClassVar[OldNames] = {"targets": "test_networks", "reached": "test_speedups"}
    speedups: tuple[Speedup, ...] = Field(default=(1.5, 2.0, 2.5, 3.0), min_length=1)
    test_networks: int = Field(default=1, ge=0)
    test_speedups: tuple[Speedup, ...] = Field(default=(2.0, 3.0), min_length=1)


class MetanetRecipe(PolicyRecipe):
    """Everything that decides what a metanetwork learns, and what is done with it.

    Attributes:
        data: what networks are trained and evaluated on.
        network: their architecture.
    """

    data: ImageRecipe | TextRecipe
    network: NetworkRecipe | LanguageNetworkRecipe = NetworkRecipe()
    family: FamilyRecipe = FamilyRecipe()
    pipeline: PipelineRecipe = PipelineRecipe()
    evaluation: MetanetEvaluation = MetanetEvaluation()

    @model_validator(mode="after")
    def _reads_the_data(self) -> Self:
        if isinstance(self.data, TextRecipe) != isinstance(self.network, LanguageNetworkRecipe):
            raise ValueError(
                "data.text goes with a network of hidden, layers, heads; images with network.arch"
            )
        return self

    @model_validator(mode="after")
    def _widths(self) -> Self:
        transformer = isinstance(self.network, LanguageNetworkRecipe) or self.network.arch == VIT
        if transformer and not self.pipeline.cut.uniform:
            raise ValueError("transformers keep equal widths here: set pipeline.cut.uniform to true")
        return self

    @property
    def inputs(self) -> tuple[str, ...]:
        """The text or images, and the family, where it was trained before."""
        data = self.data.source if isinstance(self.data, ImageRecipe) else str(self.data.text)
        return (data, *([str(self.family.folder)] if self.family.folder else []))
