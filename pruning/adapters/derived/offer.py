"""What a network is found to offer: a kind of unit, what counts it, and how its entries lie."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from prunepolicy.pruning.adapters.derived.movement import Axis, unnumbered

Layout = Literal["runs", "blocks", "query|key|value"]
"""How the entries of units lie along one axis.

`runs`: those of one unit follow each other. `blocks`: one entry per unit, then all over again (gate and
up projection in one). `query|key|value`: runs of each of the three, one behind the other.
"""


class Offer(BaseModel):
    """A kind of unit that a configuration counts.

    Attributes:
        tie: path of the number of units; for heads, of KV heads.
        layouts: by axis, as `unnumbered.name:axis`; `runs` where nothing is said.
        heads: path of the number of query heads, for heads.
        head_dim: path of the explicit size of a head, where the class reads one.
        queries: query heads within a KV head can go, too.
        divides: configurations load only with numbers of query heads that divide the hidden size.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["ffn", "kv_head", "expert", "layer", "vocabulary"]
    tie: str
    layouts: dict[str, Layout] = {}
    heads: str = ""
    head_dim: str = ""
    queries: bool = True
    divides: bool = False

    def layout_of(self, axis: Axis) -> Layout:
        """Return how the entries of one unit lie along an axis."""
        return self.layouts.get(axis_key(axis), "runs")


def axis_key(axis: Axis) -> str:
    """Return what an axis is called in all layers alike."""
    return f"{unnumbered(axis[0])}:{axis[1]}"


class Findings(BaseModel):
    """All that was found out about one configuration.

    Attributes:
        offers: what passed the trial.
        refusals: by kind of unit, one sentence about why it isn't offered.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    offers: tuple[Offer, ...] = ()
    refusals: dict[str, str] = {}
