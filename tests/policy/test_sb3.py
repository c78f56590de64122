"""The graph policy inside Stable-Baselines3: padding means nothing, weights are the policy's own."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from torch import Tensor
from torch.distributions import Normal

from prunepolicy.envs.prune_case import PruneCase, invented_case
from prunepolicy.envs.prune_env import PruneEnv
from prunepolicy.metanet.group_network.graph import DECISIONS
from prunepolicy.policy.kinds.graph import Graph, GraphConfig
from prunepolicy.policy.load import load_policy_folder
from prunepolicy.policy.sb3 import GraphActorCritic, graph_policy

Observations = dict[str, Tensor]
STD = 0.2


@pytest.fixture(scope="module")
def env() -> PruneEnv:
    return PruneEnv([invented_case(0), invented_case(1, widths=24, layers=2)], step="all")


@pytest.fixture
def graph() -> Graph:
    """A policy that has opinions."""
    torch.manual_seed(0)
    policy = Graph(GraphConfig(hidden=16))
    for head in (policy.network.decide, policy.network.value):
        torch.nn.init.normal_(head[-1].weight, std=0.1)
    return policy


def actor(env: PruneEnv, graph: Graph) -> GraphActorCritic:
    kwargs = graph_policy(graph.network, math.log(STD))
    policy: GraphActorCritic = PPO(
        GraphActorCritic, env, n_steps=2, batch_size=2, policy_kwargs=kwargs
    ).policy
    return policy


def seen(env: PruneEnv, *networks: int) -> Observations:
    """Observations of the networks with these numbers, as one batch."""
    found = [env.reset(options={"network": number, "keep": 0.8})[0] for number in networks]
    return {key: torch.from_numpy(np.stack([one[key] for one in found])) for key in found[0]}


def decisions(policy: GraphActorCritic, observations: Observations) -> Tensor:
    mean = policy.get_distribution(observations).mode()
    return mean.reshape(len(mean), -1, len(DECISIONS))


def test_a_batch_is_judged_as_its_networks_alone(env: PruneEnv, graph: Graph) -> None:
    policy = actor(env, graph)
    together, values = decisions(policy, seen(env, 1, 0, 1)), policy.predict_values(seen(env, 1, 0, 1))
    for row, number in enumerate((1, 0, 1)):
        case: PruneCase = env.cases[number]
        env.reset(options={"network": number, "keep": 0.8})
        alone = graph.network(case.described.nodes)
        count = len(case.groups)
        assert together[row, :count].abs().max() > 0.01
        torch.testing.assert_close(together[row, :count], alone.decisions)
        torch.testing.assert_close(values[row, 0], alone.value[0])
        assert not together[row, count:].any()


def test_the_order_of_groups_and_padding_does_not_matter(env: PruneEnv, graph: Graph) -> None:
    policy, plain = actor(env, graph), seen(env, 1)
    shuffled, order = dict(plain), torch.tensor([1, 2, 0])  # the padding comes to lie in the middle
    assert plain["group_mask"].tolist() == [[1, 1, 0]]
    for key in ("groups", "group_mask"):
        shuffled[key] = plain[key][:, order]
    shuffled["edges"] = order.argsort()[plain["edges"]]
    backwards = torch.arange(plain["edges"].shape[2] - 1, -1, -1)
    for key, axis in (("edges", 2), ("edge_features", 1), ("edge_mask", 1)):
        shuffled[key] = shuffled[key].index_select(axis, backwards)
    torch.testing.assert_close(decisions(policy, shuffled), decisions(policy, plain)[:, order])
    torch.testing.assert_close(policy.predict_values(shuffled), policy.predict_values(plain))


def test_padding_changes_neither_log_probability_nor_entropy(env: PruneEnv, graph: Graph) -> None:
    small = PruneEnv(env.cases[1:], step="all")
    wide, narrow = actor(env, graph), actor(small, graph)
    length, drawn = len(narrow.log_std) * 2, torch.randn(1, 3 * len(DECISIONS))
    value, log_prob, entropy = wide.evaluate_actions(seen(env, 1), drawn)
    expected = narrow.evaluate_actions(seen(small, 0), drawn[:, :length])
    torch.testing.assert_close((value, log_prob, entropy), expected)
    mean = decisions(narrow, seen(small, 0)).flatten()
    by_hand = Normal(mean, STD).log_prob(drawn[0, :length]).sum()
    torch.testing.assert_close(log_prob[0], by_hand)
    torch.testing.assert_close(entropy[0], Normal(0, STD).entropy() * length)


def test_drawn_decisions_spread_around_the_networks_and_are_scored_as_drawn(
    env: PruneEnv, graph: Graph
) -> None:
    policy, observations = actor(env, graph), seen(env, *[1] * 400)
    torch.manual_seed(0)
    actions, _, log_probs = policy(observations)
    torch.testing.assert_close(policy.evaluate_actions(observations, actions)[1], log_probs)
    drawn = actions.reshape(400, -1, len(DECISIONS))
    assert not drawn[:, 2].any()
    spread = (drawn - decisions(policy, observations))[:, :2].detach()
    assert float(spread.std()) == pytest.approx(STD, rel=0.05)
    assert float(spread.mean()) == pytest.approx(0, abs=0.01)
    certain, _, _ = policy(observations, deterministic=True)
    torch.testing.assert_close(certain, decisions(policy, observations).flatten(1))


def test_what_stable_baselines_trains_is_the_policy_itself(
    env: PruneEnv, graph: Graph, tmp_path: Path
) -> None:
    before = {name: weight.clone() for name, weight in graph.weights().items()}
    kwargs = graph_policy(graph.network, math.log(STD))
    ppo = PPO(GraphActorCritic, env, n_steps=8, batch_size=4, n_epochs=2, policy_kwargs=kwargs, device="cpu")
    ppo.learn(16)
    changed = {name for name, weight in graph.weights().items() if not torch.equal(weight, before[name])}
    assert changed == set(before)
    graph.save(tmp_path / "learned")
    read = load_policy_folder(tmp_path / "learned")
    observation = env.reset(options={"network": 0, "keep": 0.8})[0]
    action, _ = ppo.predict(observation, deterministic=True)
    env.step(action)
    case = env.cases[0]
    assert read.plan(case.graph, case.stats, replace(env.budget, multiple_of=1)).keep == env.plan().keep
