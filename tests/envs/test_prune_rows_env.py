from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

from prunepolicy.envs.check import check_env
from prunepolicy.envs.prune_rows_env import PruneRowsEnv
from prunepolicy.envs.row_layer import RowLayer, invented_layers, predicted_rise
from prunepolicy.envs.shaping import shapings
from prunepolicy.pruning.errors import PrunePolicyError, UsageError
from prunepolicy.pruning.statistics.moments import output_interactions

ID = "prunepolicy/PruneRows-v0"


def test_networks_of_different_sizes_share_one_space() -> None:
    networks = [invented_layers(2, 16, 4), invented_layers(4, 24, 8, seed=1)]
    check_env(lambda: PruneRowsEnv(networks))
    env = PruneRowsEnv(networks)
    observation, _ = env.reset(seed=0, options={"network": 0, "keep": 0.5})
    assert observation["mask"].sum() == 16
    assert observation["rows"].shape == (24, 5)
    _, _, _, _, info = env.step(np.linspace(-1, 1, 24, dtype=np.float32))
    assert np.flatnonzero(info["kept"]).tolist() == list(range(8, 16))


def test_vectorised_environments_play_the_same_episodes() -> None:
    vector, single = gymnasium.make_vec(ID, num_envs=2), gymnasium.make(ID)
    vector.reset(seed=[3, 4])
    single.reset(seed=4)
    action = np.linspace(-1, 1, 24, dtype=np.float32)
    assert vector.step(np.stack([-action, action]))[1][1] == pytest.approx(single.step(action)[1])


@pytest.mark.parametrize("name", sorted(shapings))
def test_every_shaping_that_reads_rows_can_be_chosen(name: str) -> None:
    if not set(shapings[name].reads) <= {"dense_spectrum", "kept_spectrum", "output_error", "loss_rise"}:
        pytest.skip("reads what other environments measure")
    check_env(lambda: gymnasium.make(ID, shaping=name))


def test_the_error_of_a_choice_is_that_of_the_blocks_output() -> None:
    torch.manual_seed(0)
    read, seen = torch.randn(5, 12), torch.randn(200, 12)
    layer = RowLayer("x", torch.zeros(12, 1), None, output_interactions(read, seen.T @ seen / 200))
    kept = torch.rand(4, 12) > 0.3
    found = layer.outcomes(kept, ["output_error"])["output_error"]
    dense = seen @ read.T
    for choice, error in zip(kept, found, strict=True):
        lost = dense - (seen * choice) @ read.T
        assert error == pytest.approx(float(lost.square().sum() / dense.square().sum()), rel=1e-4)


def test_what_was_not_prepared_is_said() -> None:
    env = PruneRowsEnv([[RowLayer(layer.name, layer.features) for layer in invented_layers()]], shaping="ks")
    env.reset(seed=0)
    with pytest.raises(PrunePolicyError, match=r"scored matrix.*not prepared"):
        env.step(env.action_space.sample())
    with pytest.raises(UsageError, match="fractions"):
        PruneRowsEnv(keep=(0.5, 1.5))


class Forgetful(PruneRowsEnv):
    """Breaks one promise after the other."""

    promise = ""

    def reset(self, **options: Any) -> Any:
        observation, info = super().reset(**options)
        if self.promise == "seed":
            observation["context"][1] = np.random.default_rng().random()
        if self.promise == "mask":
            observation["mask"][-1] = 0
        if self.promise == "space":
            observation["rows"] = observation["rows"].astype(np.float64)
        return observation, info

    def step(self, action: Any) -> Any:
        observation, reward, *rest = super().step(action)
        return observation, np.nan if self.promise == "reward" else reward, *rest


@pytest.mark.parametrize(
    ("promise", "sentence"),
    [("seed", "same seed"), ("mask", "mask"), ("space", "space"), ("reward", "finite")],
)
def test_our_checker_names_what_is_broken(promise: str, sentence: str) -> None:
    def make() -> Forgetful:
        env = Forgetful()
        env.promise = promise
        return env

    with pytest.raises(PrunePolicyError, match=sentence):
        check_env(make)


def test_our_checker_refuses_an_environment_that_ignores_its_seed() -> None:
    with pytest.raises(PrunePolicyError, match="Two seeds"):
        check_env(OneEpisode)


class OneEpisode(PruneRowsEnv):
    def reset(self, **options: Any) -> Any:
        self.action_space.seed(0)
        return super().reset(seed=0)


def test_predicted_rises_of_layers_add_up() -> None:
    layers = invented_layers()
    keep = {layer.name: tuple(range(5, layer.size)) for layer in layers}
    single = [predicted_rise(layers, {name: units}) for name, units in keep.items()]
    assert predicted_rise(layers, keep) == pytest.approx(sum(single))
    assert predicted_rise(layers, {}) == 0
    first = layers[0]
    assert first.gradients is not None
    assert single[0] == pytest.approx(float(first.gradients[:, :5].sum(1).square().mean() / 2), rel=1e-5)
