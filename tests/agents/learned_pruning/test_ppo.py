"""PPO on graph policies: it solves what has a known solution, goes on bit by bit, keeps SB3's promises."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.callbacks import BaseCallback

from prunepolicy.agents.learned_pruning.ppo import Ppo, check_same_units
from prunepolicy.agents.learned_pruning.ppo_config import PPOConfig
from prunepolicy.agents.learned_pruning.prune_agent import AGENT_FILE, STATE_FILE, PruneAgent
from prunepolicy.agents.training.learner import LearnerState
from prunepolicy.agents.training.recipe import Recipe
from prunepolicy.agents.training.train import train
from prunepolicy.envs.prune_case import PruneCase, invented_case
from prunepolicy.envs.prune_env import PruneEnv
from prunepolicy.policy.kinds.graph import Graph, GraphConfig
from prunepolicy.policy.load import load_policy
from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.errors import PrunePolicyError, UsageError
from prunepolicy.pruning.plan import Budget
from prunepolicy.pruning.units import Keep

Make = Callable[..., Checkpoint]
QUICK = {"episodes_per_step": 16, "episodes_per_context": 4, "batch_size": 8, "n_epochs": 2}
KEEP = (0.8, 0.6)


def learner(
    seed: int = 0, cases: tuple[PruneCase, ...] = (), keep: tuple[float, ...] = KEEP, **settings: Any
) -> Ppo:
    torch.manual_seed(seed)
    cases = cases or (invented_case(0), invented_case(1, widths=24, layers=2))
    policy, config = Graph(GraphConfig(hidden=16)), PPOConfig.model_validate({**QUICK, **settings})
    return Ppo.on_cases(policy, config, cases, keep, seed)


def preferring(wanted: Callable[[PruneCase], Keep], seed: int) -> PruneCase:
    """A network whose loss rises by one for every unit that goes although it is `wanted`."""
    case = invented_case(seed)
    names = {name: set(units) for name, units in wanted(case).items()}

    def measure(keep: Keep) -> float:
        return 1.0 + sum(len(units - set(keep[name])) for name, units in names.items())

    return PruneCase(case.name, case.graph, case.stats, measure=measure)


def by_mean_gradient(case: PruneCase) -> Keep:
    """The half of every group with the largest mean gradients, which the heuristic doesn't look at."""
    gradients = case.stats.values["gradients"]
    return {
        group.name: gradients[group.name].mean(0).abs().topk(group.size // 2).indices.tolist()
        for group in case.groups
    }


def the_last_group(case: PruneCase) -> Keep:
    last = case.groups[-1]
    return {last.name: range(last.size)}


@pytest.mark.parametrize(("wanted", "left"), [(by_mean_gradient, 0.65), (the_last_group, 0.25)])
def test_a_network_with_a_known_best_plan_is_solved(wanted: Callable[[PruneCase], Keep], left: float) -> None:
    cases = tuple(preferring(wanted, seed) for seed in range(2))
    settings = {"episodes_per_step": 64, "episodes_per_context": 16, "batch_size": 64, "n_epochs": 4}
    agent = learner(0, cases, (0.5,), learning_rate=0.003, std=0.3, **settings)
    before = [rise(agent, case) for case in cases]
    rewards = [agent.step()["reward"] for _ in range(20)]
    assert np.mean(rewards[-5:]) > np.mean(rewards[:5]) + 0.1
    for case, first in zip(cases, before, strict=True):
        assert rise(agent, case) < left * first


def rise(agent: Ppo, case: PruneCase) -> float:
    """Return the rise of the loss that the policy's own decisions cause."""
    env = PruneEnv([case], step="all")
    observation, _ = env.reset(options={"network": 0, "keep": 0.5})
    env.step(agent.agent.predict(observation)[0])
    assert case.measure is not None
    return case.measure({group.name: env.plan().kept(group) for group in case.groups})


def test_emphases_can_start_with_less_spread_than_ratios() -> None:
    agent = PruneAgent(
        Graph(GraphConfig(hidden=4)), [invented_case()], config=PPOConfig(std=0.2, emphasis_std_scale=0.5)
    )
    ratio, *others = agent.algorithm.policy.log_std.exp().tolist()
    assert ratio == pytest.approx(0.2)
    assert others == pytest.approx([0.1] * len(others))


def test_equal_seeds_learn_the_same_and_others_do_not() -> None:
    first, second, other = learner(3), learner(3), learner(4)
    metrics = [[agent.step() for _ in range(2)] for agent in (first, second, other)]
    assert metrics[0] == metrics[1] != metrics[2]
    assert {"reward", "loss", "approx_kl", "std"} <= metrics[0][0].keys()


def test_a_learner_continues_bit_by_bit_from_its_state() -> None:
    whole, first, second = learner(), learner(), learner(7)
    expected = [whole.step() for _ in range(5)]
    for _ in range(2):
        first.step()
    second.agent.seed = second.agent.env.seed_of_contexts = 0
    torch.rand(7)  # whatever else has used the process's generators must not matter
    np.random.rand(3)
    second.step()
    state = first.state()
    second.restore(LearnerState({name: tensor.clone() for name, tensor in state.tensors.items()}, state.data))
    assert [second.step() for _ in range(3)] == expected[2:]
    for name, tensor in whole.policy.weights().items():
        assert torch.equal(tensor, second.policy.weights()[name])


def test_neighbours_share_networks_and_budgets_and_only_the_others_are_the_baseline() -> None:
    env = learner(episodes_per_step=16, episodes_per_context=4).agent.env
    env.reset()
    contexts = zip(env.get_attr("case"), env.get_attr("budget"), strict=True)
    drawn = [(case.name, budget.keep) for case, budget in contexts]
    assert len(set(drawn)) == 4
    assert all(len(set(drawn[start : start + 4])) == 1 for start in range(0, 16, 4))
    _, left, dones, infos = env.step(np.stack([env.action_space.sample() for _ in range(16)]))
    paid = np.array([info["episode"]["r"] for info in infos])
    others = (paid[:4].sum() - paid[0]) / 3
    assert left[0] == pytest.approx(paid[0] - others, abs=1e-5)
    assert left.sum() == pytest.approx(0, abs=1e-4)
    assert dones.all()


class Watching(BaseCallback):
    """Stops learning after some rollouts, as a user's callback may."""

    def __init__(self, rollouts: int) -> None:
        super().__init__()
        self.left, self.rewards = rollouts, []

    def _on_step(self) -> bool:
        self.left -= 1
        self.rewards += [info["episode"]["r"] for info in self.locals["infos"]]
        return self.left > 0


def test_the_verbs_and_callbacks_of_stable_baselines_work(tmp_path: Path) -> None:
    cases = (invented_case(0), invented_case(1))
    config, watching = PPOConfig.model_validate(QUICK), Watching(3)
    agent = PruneAgent(Graph(GraphConfig(hidden=16)), cases, KEEP, config, seed=2)
    assert agent.learn(160, callback=watching) is agent
    assert agent.algorithm.num_timesteps == len(watching.rewards) == 48
    agent.save(tmp_path / "agent")
    files = {file.name for file in (tmp_path / "agent").iterdir()}
    assert files == {"policy.json", "weights.safetensors", AGENT_FILE, STATE_FILE}
    read = PruneAgent.load(tmp_path / "agent", cases)
    observation = agent.env.reset()
    (decisions, memory), (again, _) = agent.predict(observation), read.predict(observation)
    assert memory is None
    np.testing.assert_array_equal(decisions, again)
    assert agent.env.action_space.contains(decisions[0])
    drawn, _ = agent.predict(observation, deterministic=False)
    assert not np.array_equal(drawn, decisions)


def test_a_saved_agent_learns_on_as_if_it_had_not_been_saved(tmp_path: Path) -> None:
    cases, config = (invented_case(0), invented_case(1)), PPOConfig.model_validate(QUICK)
    torch.manual_seed(0)
    agent = PruneAgent(Graph(GraphConfig(hidden=16)), cases, KEEP, config).learn(32)
    agent.save(tmp_path / "agent")
    agent.env.reset()  # as users do, to have something to predict for
    expected = agent.learn(32, callback=lambda *_: True).metrics()
    assert PruneAgent.load(tmp_path / "agent", cases).learn(32).metrics() == expected
    assert load_policy(tmp_path / "agent").kind == "graph"


def test_the_example_in_the_documentation_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _, example, _ = inspect.cleandoc(PruneAgent.__doc__ or "").split("```")
    found: dict[str, Any] = {}
    exec(example.removeprefix("python"), found)
    assert found["agent"].algorithm.num_timesteps == 512


def test_damaged_agents_are_refused(tmp_path: Path) -> None:
    cases, config = (invented_case(0),), PPOConfig.model_validate(QUICK)
    folder = tmp_path / "agent"
    with pytest.raises(PrunePolicyError, match="Can't read the agent"):
        PruneAgent.load(folder, cases)
    PruneAgent(Graph(GraphConfig(hidden=16)), cases, KEEP, config).save(folder)
    (folder / STATE_FILE).write_bytes(b"x")
    with pytest.raises(PrunePolicyError, match="not what was saved"):
        PruneAgent.load(folder, cases)
    (folder / AGENT_FILE).write_text("{}")
    with pytest.raises(PrunePolicyError, match="is no agent"):
        PruneAgent.load(folder, cases)


def test_settings_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UsageError, match=r"multiple of learner\.episodes_per_context"):
        learner(episodes_per_context=5)
    with pytest.raises(UsageError, match=r"multiple of learner\.batch_size"):
        learner(batch_size=12)


@pytest.fixture
def model(model: Make) -> str:
    return str(model(num_hidden_layers=2))


def recipe(model: str, **changes: Any) -> Recipe:
    return Recipe.model_validate(
        {
            "algorithm": "ppo",
            "policy": {"kind": "graph", "hidden": 8, "samples": 4, "length": 12},
            "learner": {**QUICK, "reward": "measured"},
            "models": [model],
            "budgets": {"of": "ffn", "keep": [0.75, 0.5]},
            "evaluation": {"every": 3, "samples": 4, "length": 12, "baselines": ["random"]},
            "max_steps": 4,
            "checkpoint_every": 2,
            "dtype": "float32",
            **changes,
        }
    )


def test_an_interrupted_run_resumes_to_the_same_bytes(
    model: str, tmp_path: Path, interrupt_at: Callable[..., None]
) -> None:
    train(recipe(model), tmp_path / "whole" / "run")
    interrupt_at(Ppo, "step", 4)
    with pytest.raises(KeyboardInterrupt):
        train(recipe(model), tmp_path / "cut" / "run")
    train(recipe(model), tmp_path / "cut" / "run", resume=True)
    for name in ("best/weights.safetensors", "last/weights.safetensors", "metrics.jsonl", "checkpoint.json"):
        assert (tmp_path / "cut" / "run" / name).read_bytes() == (
            tmp_path / "whole" / "run" / name
        ).read_bytes()


def test_other_kinds_of_policies_are_refused(model: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="of the kind graph"):
        train(recipe(model, policy={"kind": "prunenet"}), tmp_path / "run")


def test_budgets_that_leave_the_units_open_are_refused_where_plans_would_differ() -> None:
    graph = invented_case().graph
    mixing, plain = Graph(GraphConfig(units=("ffn", "layers"))), Graph()
    check_same_units(plain, graph, [Budget(0.8, "params"), Budget(0.8, "ffn", uniform=False)])
    check_same_units(mixing, graph, [Budget(0.8, "params", units=("ffn", "layers"))])
    for policy, budget in ((mixing, Budget(0.8, "params")), (plain, Budget(0.8, "params", uniform=False))):
        with pytest.raises(UsageError, match="leaves open which units"):
            check_same_units(policy, graph, [budget])
