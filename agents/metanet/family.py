"""Networks to learn from, trained apart from each other and kept; what is there already is not done again."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from prunepolicy.agents.metanet.pipeline import Pipeline
from prunepolicy.agents.metanet.recipe import MetanetRecipe
from prunepolicy.agents.runtime import Runner
from prunepolicy.agents.runtime.files import Files, read_folder, write_folder
from prunepolicy.agents.training.recipe import RunRecipe
from prunepolicy.pruning.checkpoint.checkpoint import CONFIG
from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.io.progress import ProgressReporter
from prunepolicy.pruning.io.temporary import temporary_folder
from prunepolicy.pruning.session.opened_model import Hardware

SEED_STRIDE = 1000
"""Between the seeds of runs, so that no two of them share a network."""


@dataclass(frozen=True)
class Member:
    """One network to train.

    Attributes:
        seed: of its weights, and of the order of its batches.
    """

    recipe: MetanetRecipe
    seed: int


def trained_member(member: Member) -> Files:
    """Train a network from nothing, cut it as the recipe's pipeline begins, and return its folder's files."""
    recipe = member.recipe
    hardware = Hardware(recipe.device, recipe.dtype)
    task = recipe.data.open(hardware.torch_device)
    model = recipe.network.build(task, member.seed)
    with temporary_folder() as folder:
        pipeline = Pipeline(task, recipe.pipeline, folder, member.seed, hardware.torch_dtype)
        dense = pipeline.from_nothing(lambda: model, recipe.family.training)
        return read_folder(pipeline.prepared(dense))


@dataclass(frozen=True)
class Family:
    """The networks of one recipe, `00`, `01`, ... in `folder`."""

    recipe: MetanetRecipe
    folder: Path

    @property
    def members(self) -> list[Path]:
        """Their folders; the last ones are held out."""
        return [self.folder / f"{number:02}" for number in range(self.recipe.family.count)]

    @property
    def learned(self) -> list[Path]:
        """Networks that the metanetwork learns from."""
        return self.members[: -self.recipe.family.held_out]

    @property
    def held_out(self) -> list[Path]:
        """Validation networks."""
        return self.members[-self.recipe.family.held_out :]

    def train(self, runner: Runner, progress: ProgressReporter) -> None:
        """Train the networks that are missing, each whole or not at all."""
        missing = [folder for folder in self.members if not (folder / CONFIG).is_file()]
        if missing and self.recipe.family.folder is not None:
            raise UsageError(f"There is no network at {missing[0]}; leave out family.folder to train them.")
        members = [Member(self.recipe, self.seed_of(folder)) for folder in missing]
        with progress.step(f"train {len(missing)} networks to learn from", len(missing)) as tick:
            for folder, files in zip(missing, runner.map(trained_member, members, math.inf), strict=True):
                write_folder(folder, files)
                tick(1)

    def seed_of(self, folder: Path) -> int:
        """Return the seed of a member."""
        return SEED_STRIDE * (self.recipe.seed + 1) + int(folder.name)


def family_recipe(recipe: RunRecipe) -> MetanetRecipe:
    """Return the recipe as one that trains a family of its own.

    Raises:
        UsageError: when it learns no metanetwork.
    """
    if not isinstance(recipe, MetanetRecipe):
        raise UsageError(f"The algorithm {recipe.algorithm} learns from no family; name a metanet recipe.")
    return recipe.model_copy(update={"family": recipe.family.model_copy(update={"folder": None})})


def target_seed(seed: int, number: int) -> int:
    """Return the seed of a run's test network; no family has it."""
    return SEED_STRIDE * (seed + 2) - 1 - number
