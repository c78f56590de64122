"""Train on the user's images around a cut: what the metanetwork rewrote, and what the cut left."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from prunepolicy.agents.images.task import ImageRecipe, ImageTask
from prunepolicy.agents.metanet.pipeline import Pipeline
from prunepolicy.agents.metanet.recipe import PipelineRecipe
from prunepolicy.agents.recovery.fit import FitRecipe
from prunepolicy.agents.recovery.norm_statistics import remeasure_norms
from prunepolicy.agents.recovery.stored import cut_by_plan, load_network
from prunepolicy.commands.prune.measure import Measurements
from prunepolicy.pruning.checkpoint.checkpoint import CONFIG, Checkpoint
from prunepolicy.pruning.checkpoint.cut import Edits
from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.plan import Plan
from prunepolicy.pruning.session.model_session import ModelSession

STAGES = ".stages"


@dataclass(frozen=True)
class RecoverySettings:
    """How a pruned network is trained.

    Attributes:
        data: images, as `ImageRecipe.source` spells them.
        before: epochs before the cut; 0 for none.
        after: epochs after it.
        shrink: of weak groups of weights before it, as `FitRecipe` has it.
        learning_rate: at the start of either.
    """

    data: str
    before: int = 0
    after: int = 20
    shrink: float = 0.0
    learning_rate: float = 0.05

    @property
    def trainings(self) -> tuple[FitRecipe, FitRecipe]:
        """The training before the cut, and the one after it."""
        before = FitRecipe(epochs=self.before, learning_rate=self.learning_rate, group_sparsity=self.shrink)
        return before, FitRecipe(epochs=self.after, learning_rate=self.learning_rate)


@dataclass(frozen=True)
class Recovery:
    """Both trainings of one network; their stages lie beside the target until it is there."""

    settings: RecoverySettings
    task: ImageTask
    folder: Path
    seed: int

    @classmethod
    def opened(cls, settings: RecoverySettings, session: ModelSession, target: Path, seed: int) -> Recovery:
        """Read the images at the size that the network sees.

        Raises:
            UsageError: when it sees no images, or others.
        """
        checkpoint = session.checkpoint
        if checkpoint.adapter.task != "vision":
            raise UsageError("--data trains image classifiers; this model sees no images.")
        task = ImageRecipe(source=settings.data).open(session.device)
        side = int(checkpoint.config.get("image_size", task.images.side))
        if side < task.images.side:
            task = ImageRecipe(source=settings.data, side=side).open(session.device)
        _check(checkpoint.config, task)
        return cls(settings, task, stages_of(target), seed)

    def adapted(self, session: ModelSession) -> ModelSession:
        """Return the network trained before its cut."""
        recipe, _ = self.settings.trainings
        name = f"adapted-{self._key(session.checkpoint.fingerprint, recipe)}"
        trained = self._pipeline(session).trained(name, session.checkpoint.folder, recipe)
        return replace(session, checkpoint=Checkpoint.open(trained))

    def edits(self, session: ModelSession, plan: Plan) -> Edits:
        """Return the weights of the pruned network after its training."""
        _, recipe = self.settings.trainings
        key = self._key(plan.to_json(), recipe)
        cut = self.folder / f"cut-{key}"
        if not (cut / CONFIG).is_file():
            cut_by_plan(session.checkpoint, plan, cut)
            first = remeasure_norms(load_network(cut).to(self.task.device), self.task)
            session.progress.note(f"  accuracy right after the cut: {self.accuracy(first):.1%}")
        trained = Checkpoint.open(self._pipeline(session).trained(f"recovered-{key}", cut, recipe))
        types = {name: session.checkpoint.read(name).dtype for name in trained.tensors}
        return Edits({name: trained.read(name).to(types[name]) for name in trained.tensors})

    def accuracy(self, model: nn.Module) -> float:
        """Return the accuracy on the test part."""
        return self.task.score(model, "test")

    def measured(self, found: Measurements, original: ModelSession, folder: Path) -> Measurements:
        """Return what was measured, with the accuracy before and after."""
        models = (load_network(original.checkpoint.folder), load_network(folder))
        before, after = (self.task.outcomes(model.to(self.task.device), "test") for model in models)
        return replace(
            found,
            before=replace(found.before, accuracy=float(before.mean())),
            after=replace(found.after, accuracy=float(after.mean())),
            images=self.task.images.name,
            change=self.task.difference(before, after),
        )

    @contextmanager
    def clearing(self) -> Iterator[None]:
        """Remove the stages when all went well; after a failure or a kill the next run goes on with them."""
        yield
        shutil.rmtree(self.folder, ignore_errors=True)

    def _pipeline(self, session: ModelSession) -> Pipeline:
        return Pipeline(
            self.task, PipelineRecipe(), self.folder, self.seed, session.dtype, progress=session.progress
        )

    def _key(self, what: str, recipe: FitRecipe) -> str:
        settings = f"{what} {self.settings.data} {recipe.model_dump_json()} {self.seed}"
        return hashlib.sha256(settings.encode()).hexdigest()[:12]


def stages_of(target: Path) -> Path:
    """Return the folder beside `target` that holds the trainings around its cut."""
    return target.with_name(target.name + STAGES)


def _check(config: dict[str, Any], task: ImageTask) -> None:
    sees, labels = int(config.get("num_channels", 3)), config.get("num_labels")
    if sees != task.images.channels or (labels is not None and int(labels) < task.images.classes):
        raise UsageError(
            f"The network sees images of {sees} channels in {labels} classes; {task.images.name} has "
            f"{task.images.channels} channels and {task.images.classes} classes. Give --data images "
            'that fit it (docs/metanet.md, "Images", says what each source has), or a network for these.'
        )
    side = config.get("image_size")
    if "patch_size" in config and side != task.images.side:
        raise UsageError(
            f"The network sees images {side} pixels wide, those of {task.images.name} are {task.images.side}."
        )
