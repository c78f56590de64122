"""The loss of a metanetwork: networks that answer as before, and lose little when they are pruned."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from prunepolicy.pruning.io.config import OldNames, StrictConfig

Share = Annotated[float, Field(gt=0, lt=1)]


class MetaObjectiveRecipe(StrictConfig):
    """The terms of a meta-step.

    Attributes:
        sparsity: what makes networks easy to prune: `group_norm` shrinks weak groups, as published; `cut`
            adds the loss of the network cut to a budget drawn from `keep`, with straight-through masks;
            `reward` samples several such cuts around the head's output, and reinforces the better ones.
        sparsity_strength: weight of that term against the mean loss.
        keep: shares of all FLOPs that may stay, for `cut` and `reward`.
        num_cuts: sampled per step for `reward`, with a leave-one-out baseline; 1 takes the value head's.
        std: of sampled decisions around the head's output, in logarithms of scores.
        distillation_weight: of the original network's answers against the labels.
        temperature: of both distributions in the distillation.
        trust_radius: change of the weights, relative to their norm, beyond which `trust_penalty` acts.
        trust_penalty: weight of the squared excess over the radius; 0 has none.
        loss_tolerance: by how much the loss may exceed the original network's; a Lagrange multiplier on the
            loss grows while it is above, and shrinks while below. None keeps the multiplier at 1.
        multiplier_learning_rate: of that multiplier.
        batch_statistics: norms use each batch's own statistics; else those of the network before its change.
    """

    renamed: ClassVar[OldNames] = {
        "strength": "sparsity_strength",
        "draws": "num_cuts",
        "distil": "distillation_weight",
        "radius": "trust_radius",
        "hold": "trust_penalty",
        "tolerance": "loss_tolerance",
        "multiplier_rate": "multiplier_learning_rate",
    }
    sparsity: Literal["group_norm", "cut", "reward"] = "group_norm"
    sparsity_strength: float = Field(default=0.1, ge=0)
    keep: tuple[Share, ...] = Field(default=(0.7, 0.5, 0.35), min_length=1)
    num_cuts: int = Field(default=4, ge=1)
    std: float = Field(default=0.3, gt=0)
    distillation_weight: float = Field(default=0.5, ge=0, le=1)
    temperature: float = Field(default=2.0, gt=0)
    trust_radius: float = Field(default=0.3, gt=0)
    trust_penalty: float = Field(default=10.0, ge=0)
    loss_tolerance: float | None = Field(default=None, ge=0)
    multiplier_learning_rate: float = Field(default=0.5, gt=0)
    batch_statistics: bool = True
