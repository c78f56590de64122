"""What a metanetwork learns: networks that answer as before, and lose little when they are pruned."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from prunepolicy.pruning.io.config import StrictConfig

Share = Annotated[float, Field(gt=0, lt=1)]


class ObjectiveRecipe(StrictConfig):
    """The terms of a meta-step.

    Attributes:
        sparsity: what makes networks easy to prune: `group_norm` shrinks weak groups, as published; `cut`
            counts what a network loses when cut to a budget drawn from `keep`, with straight-through masks;
            `reward` draws several such cuts around what was decided, and makes the better ones likelier.
        strength: of the sparsity's term, against the mean loss.
        keep: shares of all operations that may stay, for `cut` and `reward`.
        draws: cuts per step, each compared with the others, for `reward`; 1 is compared with the value.
        std: of decisions around what was said, in logarithms of scores.
        distil: weight of the original network's answers against the labels.
        temperature: at which answers are compared.
        radius: change of a network, as a share of its weights' norm, beyond which `hold` pulls it back.
        hold: strength of that pull; 0 has none.
        tolerance: by how much the loss may exceed the original network's; a multiplier on the loss grows
            while it is above, and shrinks while below. None keeps the multiplier at 1.
        multiplier_rate: at which that multiplier moves.
        batch_statistics: norms see each batch's own statistics; else those of the network before its change.
    """

    sparsity: Literal["group_norm", "cut", "reward"] = "group_norm"
    strength: float = Field(default=0.1, ge=0)
    keep: tuple[Share, ...] = Field(default=(0.7, 0.5, 0.35), min_length=1)
    draws: int = Field(default=4, ge=1)
    std: float = Field(default=0.3, gt=0)
    distil: float = Field(default=0.5, ge=0, le=1)
    temperature: float = Field(default=2.0, gt=0)
    radius: float = Field(default=0.3, gt=0)
    hold: float = Field(default=10.0, ge=0)
    tolerance: float | None = Field(default=None, ge=0)
    multiplier_rate: float = Field(default=0.5, gt=0)
    batch_statistics: bool = True
