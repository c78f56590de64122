"""How far a network can shrink, as its sizes say it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from prunepolicy.pruning.adapters import adapter_for
from prunepolicy.pruning.budget_meter import meter_for
from prunepolicy.pruning.errors import BudgetError, UsageError
from prunepolicy.pruning.plan import Budget
from prunepolicy.pruning.reach import check_reachable, least, rounded_up
from prunepolicy.pruning.units import VOCABULARY, UnitGraph, UnitGroup


@pytest.fixture
def graph() -> UnitGraph:
    adapter = adapter_for({"model_type": "llama"})
    config = {**adapter.tiny(), "num_hidden_layers": 2}
    return adapter.units(config, adapter.shapes(config))


def least_share(graph: UnitGraph, budget: Budget) -> Callable[[Sequence[UnitGroup]], float]:
    meter = meter_for(graph, budget)
    return lambda groups: meter(least(groups, budget.multiple_of or 1))


def refusal(graph: UnitGraph, budget: Budget, *kinds: str, possible: tuple[str, ...] = ()) -> str:
    with pytest.raises(BudgetError) as refused:
        check_reachable(graph, graph.of_kind(*kinds), budget, least_share(graph, budget), possible)
    assert isinstance(refused.value, UsageError)
    return str(refused.value)


def test_the_number_in_the_sentence_can_be_asked_for(graph: UnitGraph) -> None:
    said = refusal(graph, Budget(0.01), "ffn")
    reached = float(re.findall(r"at least|0\.\d{4}", said)[0])
    budget = replace(Budget(0.01), keep=reached)
    check_reachable(graph, graph.of_kind("ffn"), budget, least_share(graph, budget))
    assert meter_for(graph, budget)(least(graph.of_kind("ffn"))) == pytest.approx(reached, abs=1e-4)


def test_more_kinds_are_offered_only_where_they_suffice(graph: UnitGraph) -> None:
    everything = meter_for(graph, Budget(1.0))(least([g for g in graph.groups if g.kind != VOCABULARY]))
    enough = refusal(graph, Budget(everything + 0.01), "ffn")
    assert enough.endswith("--units ffn,heads,layers.")
    assert f"with heads and layers {rounded_up(everything)}" in enough
    assert "--units" not in refusal(graph, Budget(everything / 2), "ffn")
    assert "layers" not in refusal(graph, Budget(0.01), "ffn", possible=("ffn", "kv_head", "query_head"))


def test_a_multiple_that_was_asked_for_is_a_floor(graph: UnitGraph) -> None:
    group = graph.of_kind("ffn")[0]
    assert len(least([group])[group.name]) < len(least([group], 16)[group.name]) == 16
    assert "ffn alone leaves" in refusal(graph, Budget(0.1, "ffn", multiple_of=group.size), "ffn")


@pytest.mark.parametrize(("share", "said"), [(0.44123, "0.4413"), (0.5, "0.5000"), (1.0, "1.0000")])
def test_shares_are_rounded_to_what_can_be_reached(share: float, said: str) -> None:
    assert rounded_up(share) == said
