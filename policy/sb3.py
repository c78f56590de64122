"""The graph policy as Stable-Baselines3 sees it: a features extractor and an actor-critic policy."""

from __future__ import annotations

from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import DiagGaussianDistribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from torch import Tensor, nn

from prunepolicy.metanet.group_network.graph import DECISIONS, GroupGraph
from prunepolicy.metanet.group_network.network import GraphNetwork


class GraphReader(BaseFeaturesExtractor):
    """Reads padded observations as one flat graph; its features are the decisions and the value.

    Args:
        observation_space: of the pruning environment.
        network: the network to learn, shared with the policy that plans.
    """

    def __init__(self, observation_space: spaces.Dict, network: GraphNetwork) -> None:
        groups = (observation_space["groups"].shape or (0,))[0]
        super().__init__(observation_space, groups * len(DECISIONS) + 1)
        self.network = network

    def forward(self, observations: dict[str, Tensor]) -> Tensor:
        """Return decisions, zero for padding, and the value, shape (networks, features)."""
        real = observations["group_mask"].bool()
        output = self.network(group_graph(observations))
        decisions = output.decisions.new_zeros(*real.shape, len(DECISIONS))
        padded = decisions.masked_scatter(real[:, :, None], output.decisions)
        return torch.cat([padded.flatten(1), output.value[:, None]], dim=1)


def group_graph(observations: dict[str, Tensor]) -> GroupGraph:
    """Return the networks of a batch of observations as one graph, without padding."""
    real, there = observations["group_mask"].bool(), observations["edge_mask"].bool()
    networks, groups = real.shape
    # Where every group lies once padding is gone; entries of padding are never looked up.
    places = real.flatten().cumsum(0) - 1
    starts = groups * torch.arange(networks, device=real.device)
    edges = (observations["edges"].long() + starts[:, None, None]).transpose(0, 1)
    return GroupGraph(
        observations["groups"][real],
        places[edges[:, there]],
        observations["edge_features"][there],
        observations["globals"],
        torch.arange(networks, device=real.device)[:, None].expand_as(real)[real],
    )


class MaskedGaussian(DiagGaussianDistribution):
    """Independent Gaussians for all decisions, of which those on padding don't exist.

    Args:
        mean: shape (networks, groups * decisions).
        log_std: shape (groups * decisions,).
        mask: 1 for what exists, shape of `mean`.
    """

    def __init__(self, mean: Tensor, log_std: Tensor, mask: Tensor) -> None:
        super().__init__(mean.shape[1])
        self.mask = mask
        self.proba_distribution(mean, log_std)

    def log_prob(self, actions: Tensor) -> Tensor:
        """Return the logarithm of the density of all decisions together, shape (networks,)."""
        # A joint density is a sum of logarithms; a term of padding would shift PPO's ratio with the batch's
        # size.
        together: Tensor = (self.distribution.log_prob(actions) * self.mask).sum(1)
        return together

    def entropy(self) -> Tensor:
        """Return the entropy of all decisions together, shape (networks,)."""
        together: Tensor = (self.distribution.entropy() * self.mask).sum(1)
        return together

    def sample(self) -> Tensor:
        """Draw decisions, zero on padding."""
        drawn: Tensor = self.distribution.sample() * self.mask
        return drawn

    def mode(self) -> Tensor:
        """Return the most probable decisions, zero on padding."""
        return torch.as_tensor(self.distribution.mean) * self.mask


class GraphActorCritic(ActorCriticPolicy):
    """Decisions around those of a `GraphNetwork`, which gives the value, too.

    Give it to an algorithm of Stable-Baselines3 with `policy_kwargs` of `graph_policy`. All there is to
    learn beside the network is one spread per decision, the same for all groups.
    """

    log_std: nn.Parameter

    def _build(self, lr_schedule: Schedule) -> None:
        """Add the spreads and the optimiser; the features are what the heads would make of them."""
        self.log_std = nn.Parameter(torch.full((len(DECISIONS),), float(self.log_std_init)))
        make: Any = self.optimizer_class
        self.optimizer = make(self.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)

    def forward(self, obs: PyTorchObs, deterministic: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Return decisions, the value, shape (networks, 1), and the decisions' log-probability."""
        distribution, values = self._evaluated(obs)
        actions = distribution.get_actions(deterministic)
        return actions, values, distribution.log_prob(actions)

    def evaluate_actions(self, obs: PyTorchObs, actions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the value, the log-probability of `actions`, and the entropy."""
        distribution, values = self._evaluated(obs)
        return values, distribution.log_prob(actions), distribution.entropy()

    def get_distribution(self, obs: PyTorchObs) -> MaskedGaussian:
        """Return the distribution of the decisions."""
        return self._evaluated(obs)[0]

    def predict_values(self, obs: PyTorchObs) -> Tensor:
        """Return what the outcome is expected to be worth, shape (networks, 1)."""
        return self._evaluated(obs)[1]

    def _evaluated(self, obs: PyTorchObs) -> tuple[MaskedGaussian, Tensor]:
        if not isinstance(obs, dict):
            raise TypeError("Observations of networks are dictionaries of tensors.")
        features = self.extract_features(obs)
        assert isinstance(features, Tensor)
        mean, values = features[:, :-1], features[:, -1:]
        mask = obs["group_mask"].float().repeat_interleave(len(DECISIONS), dim=1)
        # The same spreads for all groups: what is learned on a small network explores as much in a large one.
        return MaskedGaussian(mean, self.log_std.repeat(mask.shape[1] // len(DECISIONS)), mask), values


def graph_policy(network: GraphNetwork, log_std: float) -> dict[str, Any]:
    """Return the `policy_kwargs` that let `GraphActorCritic` learn `network` in place.

    Args:
        log_std: logarithm of the spread of decisions at the start.
    """
    return {
        "features_extractor_class": GraphReader,
        "features_extractor_kwargs": {"network": network},
        "log_std_init": log_std,
    }
