from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from prunepolicy.policy.kinds.gates import Gates
from prunepolicy.policy.load import load_policy
from prunepolicy.pruning.budget_meter import meter_for
from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.errors import PrunePolicyError, UsageError
from prunepolicy.pruning.plan import Budget
from prunepolicy.pruning.statistics.stats import Stats
from prunepolicy.pruning.units import UnitGraph

Make = Callable[..., Checkpoint]
OURS = Stats(fingerprint="ours")


@pytest.fixture
def graph(tiny_checkpoint: Make) -> UnitGraph:
    return tiny_checkpoint("llama").graph


def learned(graph: UnitGraph) -> Gates:
    generator = torch.Generator().manual_seed(3)
    logits = {group.name: torch.randn(group.size, generator=generator) for group in graph.of_kind("ffn")}
    return Gates(name="mine").learned(logits, "ours")


def test_the_best_scores_stay_and_nothing_has_to_be_measured(graph: UnitGraph) -> None:
    policy, budget = learned(graph), Budget(0.75, "ffn")
    assert policy.needs(graph, budget) == set()
    plan = policy.plan(graph, OURS, budget)
    for name, units in plan.keep.items():
        best = policy.logits[name].topk(len(units)).indices.tolist()
        assert units == tuple(sorted(best))


def test_layers_with_higher_scores_stay_wider_where_they_may(graph: UnitGraph) -> None:
    policy, budget = learned(graph), Budget(0.6, "ffn", uniform=False)
    first, second = (group.name for group in graph.of_kind("ffn")[:2])
    raised = policy.learned({**policy.logits, first: policy.logits[first] + 1}, "ours")
    plan = raised.plan(graph, OURS, budget)
    assert len(plan.kept(graph[first])) > len(plan.kept(graph[second]))
    assert meter_for(graph, budget)(plan.keep) <= budget.keep + 1e-9


def test_learned_scores_survive_their_files(graph: UnitGraph, tmp_path: Path) -> None:
    policy, budget = learned(graph), Budget(0.75, "ffn")
    policy.save(tmp_path)
    restored = load_policy(tmp_path)
    assert restored.plan(graph, OURS, budget) == policy.plan(graph, OURS, budget)
    restored.save(tmp_path / "again")
    for file in ("policy.json", "weights.safetensors"):
        assert (tmp_path / file).read_bytes() == (tmp_path / "again" / file).read_bytes()


def test_damaged_scores_are_refused(graph: UnitGraph, tmp_path: Path) -> None:
    policy = learned(graph)
    policy.logits[graph.of_kind("ffn")[0].name][3] = torch.nan
    policy.save(tmp_path)
    with pytest.raises(PrunePolicyError, match="NaN"):
        load_policy(tmp_path)


@pytest.mark.parametrize("stranger", [Stats(fingerprint="theirs"), Stats()])
def test_another_network_is_refused(graph: UnitGraph, stranger: Stats) -> None:
    with pytest.raises(UsageError, match="'mine' learned the units of another network"):
        learned(graph).plan(graph, stranger, Budget(0.75, "ffn"))


def test_units_without_learned_scores_are_refused(graph: UnitGraph) -> None:
    with pytest.raises(UsageError, match=r"no scores for units of the kind .*kv_head"):
        learned(graph).plan(graph, OURS, Budget(0.75, "heads"))
