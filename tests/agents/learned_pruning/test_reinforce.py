from __future__ import annotations

import torch

from prunepolicy.agents.learned_pruning.reinforce import Reinforce, ReinforceConfig
from prunepolicy.envs.row_layer import RowLayer
from prunepolicy.policy.kinds.prunenet import PruneNet, PruneNetConfig, context_of
from prunepolicy.pruning.statistics.row_features import standardised, weight_columns

PUBLISHED = ReinforceConfig(
    shaping="ks_inverse",
    choices_per_layer=1,
    learning_rate=1e-3,
    log_prob="published",
    baseline="none",
    fresh_noise=True,
    step_per_layer=True,
    standardise=False,
    discount=0.99,
    keep=(0.5, 0.5),
    max_grad_norm=0,
)


def toy_layers(rows: int = 16) -> list[RowLayer]:
    """Blocks in which half of the rows carry all of the output, and only the third feature tells which."""
    layers = []
    for index in range(2):
        good = torch.randperm(rows) < rows // 2
        features = torch.randn(rows, 4)
        features[:, 2] = torch.where(good, 1.0, -1.0) + 0.1 * torch.randn(rows)
        layers.append(RowLayer(str(index), features, None, torch.diag(good.float() + 0.01) / (rows / 2)))
    return layers


def learner(seed: int = 0, **settings: object) -> Reinforce:
    torch.manual_seed(seed)
    layers = toy_layers()
    policy = PruneNet(PruneNetConfig(features=("weights",), hidden=16))
    config = ReinforceConfig.model_validate({"learning_rate": 0.01, "keep": (0.5, 0.5), **settings})
    return Reinforce.on_networks(policy, config, [layers], seed)


def test_a_network_with_known_best_rows_is_solved() -> None:
    agent = learner()
    first = agent.step()["reward"]
    for _ in range(60):
        last = agent.step()["reward"]
    assert last > first
    for index, layer in enumerate(agent.networks[0]):
        with torch.no_grad():
            scores = agent.policy.scorer(layer.features, context_of(0.5, index, 2))
        assert layer.interactions is not None
        best = set(layer.interactions.diagonal().topk(8).indices.tolist())
        assert set(scores.topk(8).indices.tolist()) == best


def test_a_learner_continues_bit_by_bit_from_its_state() -> None:
    whole, first, second = learner(keep=(0.3, 0.9)), learner(keep=(0.3, 0.9)), learner(7, keep=(0.3, 0.9))
    expected = [whole.step() for _ in range(6)]
    for _ in range(3):
        first.step()
    second.restore(first.state())
    second.networks = first.networks
    assert [second.step() for _ in range(3)] == expected[3:]
    for name, tensor in whole.policy.weights().items():
        assert torch.equal(tensor, second.policy.weights()[name])


def test_the_published_update_drives_all_keep_probabilities_to_one() -> None:
    torch.manual_seed(0)
    matrices = [torch.randn(64, 16) * (0.3 * torch.randn(64, 1)).exp() for _ in range(3)]
    layers = [RowLayer(str(i), matrix, matrix) for i, matrix in enumerate(matrices)]
    policy = PruneNet(PruneNetConfig(scorer="affine", shape=(64, 16)))
    agent = Reinforce.on_networks(policy, PUBLISHED, [layers], 0)

    def probabilities() -> torch.Tensor:
        with torch.no_grad():
            return torch.cat([policy.scorer(m, torch.zeros(2)).sigmoid() for m in matrices])

    before = probabilities()
    for _ in range(40):
        agent.step()
    after = probabilities()
    assert before.mean() < 0.7
    assert after.mean() > 0.95
    assert after.std() < before.std() / 4


def test_the_mended_learner_finds_what_the_published_one_can_not() -> None:
    torch.manual_seed(0)
    matrices = [torch.randn(64, 16) * (0.5 * torch.randn(64, 1)).exp() for _ in range(3)]
    layers = [RowLayer(str(i), standardised(weight_columns(m, m, m)), m) for i, m in enumerate(matrices)]
    policy = PruneNet(PruneNetConfig(features=("weights",), hidden=16))
    config = ReinforceConfig(shaping="ks", keep=(0.7, 0.7), learning_rate=0.01)
    agent = Reinforce.on_networks(policy, config, [layers], 0)
    rewards = [agent.step()["reward"] for _ in range(60)]
    assert sum(rewards[-10:]) > sum(rewards[:10]) + 0.2
