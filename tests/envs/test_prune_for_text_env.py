"""PruneForText-v0: what is shown, what pays, and a model that writes its own kinds of text."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

from prunepolicy.agents.runtime.runner import LocalRunner
from prunepolicy.agents.runtime.vec_env import RunnerVecEnv
from prunepolicy.envs.named_model import NamedModel
from prunepolicy.envs.named_texts import NamedTexts
from prunepolicy.envs.prune_for_text_env import PruneForTextEnv
from prunepolicy.envs.text_case import TextCase, invented_text_case
from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.statistics.written_texts import Writing

ID = "prunepolicy/PruneForText-v0"


def paid(env: PruneForTextEnv, action: Any, **options: Any) -> dict[str, Any]:
    """Play one episode; return its info."""
    env.reset(seed=0, options=options)
    *_, done, _, info = env.step(np.asarray(action, np.float32))
    assert done
    return info


def test_the_number_of_shown_tokens_is_seen_and_drawn() -> None:
    env = PruneForTextEnv()
    seen = {round(float(np.exp(env.reset(seed=seed)[0]["context"][0]))) for seed in range(60)}
    assert {32, 4096} <= seen <= {32 * 2**n for n in range(8)}


def test_everything_costs_its_price_and_diverges_by_nothing() -> None:
    env = PruneForTextEnv(price=3.0)
    whole = np.ones_like(env.action_space.sample())
    assert paid(env, whole)["terms"] == pytest.approx({"divergence": 0.0, "cost": -3.0})
    assert not env.plan().keep


def test_less_diverges_more() -> None:
    env = PruneForTextEnv(equal=True)
    lost = [
        paid(env, [share, 0.0], network=0, domain=1)["measured"]["divergence"] for share in (0.6, 0, -0.6)
    ]
    assert lost == sorted(lost)
    assert lost[0] < lost[2]


def test_equal_gives_every_layer_the_same_width() -> None:
    env = PruneForTextEnv(equal=True)
    paid(env, [0.2, 1.0])
    assert len({len(units) for units in env.plan().keep.values()}) == 1


def test_believing_many_tokens_of_the_text_beats_the_generic_statistic() -> None:
    env = PruneForTextEnv([invented_text_case()], equal=True)
    trusted, generic = (
        np.mean([paid(env, [0.0, trust], domain=d, shown=7)["measured"]["divergence"] for d in range(4)])
        for trust in (1.0, -1.0)
    )
    assert trusted < generic


def test_features_mean_the_same_at_any_scale() -> None:
    case = invented_text_case()
    few = case.domains[0].shown[0]
    louder = {name: 100 * values for name, values in case.norms.items()}
    assert torch.allclose(case.features(few), replace(case, norms=louder).features(few), atol=1e-5)


def test_a_case_without_kinds_of_text_is_refused() -> None:
    with pytest.raises(UsageError, match="knows no kinds of text"):
        replace(invented_text_case(), domains=())


@pytest.mark.parametrize("price", [-1.0, float("nan"), float("inf")])
def test_an_impossible_price_is_refused(price: float) -> None:
    with pytest.raises(UsageError, match="price"):
        PruneForTextEnv(price=price)


@pytest.fixture
def written(tiny_checkpoint: Callable[..., Checkpoint]) -> TextCase:
    """What a tiny random model writes, in a few kinds."""
    folder = tiny_checkpoint("llama", num_hidden_layers=2).folder
    return NamedTexts(NamedModel(str(folder)), Writing(texts=12, length=48), domains=3).case()


def test_a_model_is_paid_for_what_its_masked_network_predicts(written: TextCase) -> None:
    env = PruneForTextEnv([written])
    zeros = np.zeros_like(env.action_space.sample())
    dense = paid(env, np.ones_like(zeros), domain=0)["measured"]["divergence"]
    half = paid(env, zeros, domain=0)["measured"]["divergence"]
    assert dense == pytest.approx(0, abs=1e-6)
    assert half > 1e-4


def test_kinds_of_a_model_are_shown_from_32_tokens_on_and_pay_on_others(written: TextCase) -> None:
    assert 1 <= len(written.domains) <= 3
    for domain in written.domains:
        assert [few.tokens for few in domain.shown] == sorted({few.tokens for few in domain.shown})
        assert domain.shown[0].tokens == 32


def test_a_model_travels_by_name_and_pays_the_same(written: TextCase) -> None:
    again: TextCase = pickle.loads(pickle.dumps(written))
    keep = {group.name: tuple(range(group.size // 2)) for group in written.groups}
    assert again.divergence(0, keep) == pytest.approx(written.divergence(0, keep))


def test_a_runners_workers_play_what_one_environment_plays() -> None:
    vector = RunnerVecEnv([lambda: gymnasium.make(ID)] * 2, LocalRunner(), seed=5)
    vector.reset()
    vector.action_space.seed(0)
    actions = np.stack([vector.action_space.sample() for _ in range(2)])
    _, first, dones, _ = vector.step(actions)
    vector.close()
    again = RunnerVecEnv([lambda: gymnasium.make(ID)] * 2, LocalRunner(), seed=5)
    again.reset()
    assert dones.all()
    assert np.array_equal(again.step(actions)[1], first)
    again.close()
