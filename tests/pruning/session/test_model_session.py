"""Policies with the statistics of a real, tiny model: what they ask for is collected and is enough."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from prunepolicy.policy.base import Policy
from prunepolicy.policy.kinds.heuristic import Heuristic, HeuristicConfig
from prunepolicy.policy.load import load_policy
from prunepolicy.policy.planning import plan_for
from prunepolicy.pruning.budget_meter import meter_for
from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.criteria import criteria
from prunepolicy.pruning.errors import PrunePolicyError
from prunepolicy.pruning.plan import Budget, Plan
from prunepolicy.pruning.session.model_session import ModelSession
from prunepolicy.pruning.session.opened_model import Hardware
from prunepolicy.pruning.statistics.probe import Probe
from prunepolicy.pruning.statistics.stats import Stats

Make = Callable[..., Checkpoint]
POLICIES = [name for name in criteria if not criteria[name].kinds] + ["default"]
PROBE = Probe(samples=4, length=16)


def policy_called(name: str) -> Policy:
    if name == "default":
        return load_policy(name)
    return Heuristic(HeuristicConfig(criterion=name, samples=4, length=16))


@pytest.fixture
def session(tiny_checkpoint: Make, byte_tokenizer: object) -> ModelSession:
    checkpoint = tiny_checkpoint("llama", vocab_size=258, intermediate_size=64)
    byte_tokenizer.save_pretrained(checkpoint.folder)  # type: ignore[attr-defined]
    return ModelSession("tiny", checkpoint, Hardware("cpu", "float32"))


@pytest.mark.parametrize("name", POLICIES)
def test_a_saved_policy_plans_the_same(name: str, session: ModelSession, tmp_path: Path) -> None:
    policy, budget = policy_called(name), Budget(0.75, "ffn")
    policy.save(tmp_path / "policy")
    again = load_policy(tmp_path / "policy")
    assert (
        plan_for(session, again, budget, PROBE).to_json()
        == plan_for(session, policy, budget, PROBE).to_json()
    )
    assert again.repair == policy.repair
    assert again.probe == policy.probe


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("budget", [Budget(0.75, "ffn"), Budget(0.85), Budget(0.9, "flops")], ids=str)
def test_the_budget_is_met_from_below(name: str, budget: Budget, session: ModelSession) -> None:
    plan = plan_for(session, policy_called(name), budget, PROBE)
    plan.check(session.checkpoint.graph)
    used = meter_for(session.checkpoint.graph, budget)(plan.keep)
    assert budget.keep - 0.01 <= used <= budget.keep + 1e-9
    assert plan.is_uniform(session.checkpoint.graph)
    assert plan.fingerprint == session.checkpoint.fingerprint


@pytest.mark.parametrize("name", POLICIES)
def test_what_it_asks_for_is_enough_and_all_it_reads(name: str, session: ModelSession) -> None:
    policy, budget, graph = policy_called(name), Budget(0.75, "ffn"), session.checkpoint.graph
    needs = policy.needs(graph, budget)
    stats = session.stats(needs, PROBE)
    assert policy.plan(graph, stats, budget).keep == plan_for(session, policy, budget, PROBE).keep
    if needs:
        with pytest.raises(PrunePolicyError, match="not available"):
            policy.plan(graph, Stats(), budget)


@pytest.mark.parametrize("name", POLICIES)
def test_equal_seeds_give_equal_plans(name: str, session: ModelSession) -> None:
    policy, budget = policy_called(name), Budget(0.75, "ffn")
    first = plan_for(session, policy, budget, PROBE)
    torch.manual_seed(99)
    assert plan_for(session, policy, budget, PROBE) == first


def test_chance_depends_on_the_seed(session: ModelSession) -> None:
    policy, budget = policy_called("random"), Budget(0.75, "ffn")
    assert plan_for(session, policy, budget, PROBE) != plan_for(session, policy, budget, Probe(seed=1))


@pytest.mark.parametrize("family", ["llama", "mixtral", "gpt2"])
@pytest.mark.parametrize("cut", [False, True], ids=["whole", "masked"])
def test_one_pass_sees_what_two_would(
    family: str, cut: bool, tiny_checkpoint: Make, byte_tokenizer: object
) -> None:
    checkpoint = tiny_checkpoint(family, vocab_size=258)
    byte_tokenizer.save_pretrained(checkpoint.folder)  # type: ignore[attr-defined]
    session, probe = ModelSession("tiny", checkpoint, Hardware("cpu", "float32")), PROBE
    block = next(group for group in checkpoint.graph.groups if group.kind == "ffn")
    plan = Plan({block.name: tuple(range(block.size // 2))}, Budget(0.5), "test") if cut else None
    together = session.stats({"activations", "gradients"}, probe, plan)
    apart = session.stats({"activations"}, probe, plan).merged(session.stats({"gradients"}, probe, plan))
    assert together.values.keys() == apart.values.keys()
    for name, by_group in apart.values.items():
        assert together.values[name].keys() == by_group.keys()
        for group, numbers in by_group.items():
            torch.testing.assert_close(together.get(name, group), numbers, rtol=1e-4, atol=1e-6)
