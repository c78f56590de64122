"""How much of a budget a keep choice uses, as a share of the dense network."""

from __future__ import annotations

from collections.abc import Callable

from prunepolicy.pruning.cost import cost_of
from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.plan import Budget
from prunepolicy.pruning.units import Keep, UnitGraph

Meter = Callable[[Keep], float]
"""From what is kept to the share, in (0, 1], of whatever the budget names."""


def meter_for(graph: UnitGraph, budget: Budget, seconds: Meter | None = None) -> Meter:
    """Return the meter of `budget` on `graph`.

    Args:
        graph: the network.
        budget: names what is measured.
        seconds: latency of a keep choice, for `of="latency"` (`LatencyTable.latency`).

    Raises:
        UsageError: when the network has no unit of the kind the budget names.
    """
    if budget.of == "latency":
        if seconds is None:
            raise UsageError("A latency budget needs a measured latency table.")
        dense_seconds = seconds({})
        return lambda keep: seconds(keep) / dense_seconds
    if budget.kinds and budget.of not in ("params", "flops", "memory"):
        return _unit_meter(graph, budget)
    dense = cost_of(graph)
    if budget.of == "params":
        return lambda keep: cost_of(graph, keep).params / dense.params
    if budget.of == "flops":
        return lambda keep: cost_of(graph, keep).flops / dense.flops
    whole = dense.memory(budget.context)
    return lambda keep: cost_of(graph, keep).memory(budget.context) / whole


def _unit_meter(graph: UnitGraph, budget: Budget) -> Meter:
    """Share of the units of a kind; for heads, the share of query heads."""
    groups = graph.of_kind(*budget.kinds)
    if not groups:
        raise UsageError(f"This {graph.family} network has no {budget.of} to prune.")
    total = sum(group.size for group in groups)
    if budget.of != "heads":
        return lambda keep: sum(len(keep.get(g.name, range(g.size))) for g in groups) / total
    layers = {group.layer for group in groups}

    def share(keep: Keep) -> float:
        shares = dict.fromkeys(layers, 1.0)
        for group in groups:
            shares[group.layer] *= len(keep.get(group.name, range(group.size))) / group.size
        return sum(shares.values()) / len(layers)

    return share
