"""A graph policy that learns by Stable-Baselines3's PPO, with that library's verbs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback, CallbackList, ConvertCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.type_aliases import MaybeCallback
from stable_baselines3.common.vec_env import VecEnvWrapper, VecMonitor
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from prunepolicy.agents.learned_pruning.ppo_config import PPOConfig
from prunepolicy.agents.runtime import LocalRunner, Runner
from prunepolicy.agents.runtime.vec_env import RunnerVecEnv
from prunepolicy.agents.training.learner import LearnerState
from prunepolicy.agents.training.optimiser_state import packed, unpack
from prunepolicy.agents.training.run_folder import seed_generators
from prunepolicy.envs.prune_case import PruneCase
from prunepolicy.envs.prune_env import PruneEnv
from prunepolicy.metanet.group_network.graph import DECISIONS
from prunepolicy.policy.base import sentence_of
from prunepolicy.policy.kinds.graph import Graph
from prunepolicy.policy.load import load_policy_folder
from prunepolicy.policy.sb3 import GraphActorCritic, graph_policy
from prunepolicy.policy.weights import read_tensors, write_tensors
from prunepolicy.pruning.errors import PrunePolicyError
from prunepolicy.pruning.io import bounded
from prunepolicy.pruning.io.atomic import write_text

AGENT_FILE, STATE_FILE = "agent.json", "agent.safetensors"


class AgentFile(BaseModel):
    """The content of `agent.json`: what the policy's own files don't say."""

    model_config = ConfigDict(extra="forbid")
    schema_version: Literal[1] = 1
    config: PPOConfig
    keep: tuple[float, ...]
    seed: int
    timesteps: int
    sha256: str


class PruneAgent:
    """Learns to decide for networks prepared as cases, under budgets of the sizes `keep`.

    Episodes are played by `runner`, in this process where there is none; the result is the same.

    ```python
    from prunepolicy.agents.learned_pruning.prune_agent import PruneAgent
    from prunepolicy.envs.prune_case import invented_case
    from prunepolicy.policy.kinds.graph import Graph

    cases = [invented_case(seed) for seed in range(3)]
    agent = PruneAgent(Graph(), cases, keep=(0.8, 0.6))
    agent.learn(256)
    observation = agent.env.reset()
    decisions, _ = agent.predict(observation)
    agent.save("agent")  # JSON and safetensors; `prunepolicy prune --policy agent` reads it, too
    agent = PruneAgent.load("agent", cases).learn(256)  # continues as if it had never stopped
    ```

    Attributes:
        policy: what is learned; it can plan and be saved at any moment.
        algorithm: Stable-Baselines3's PPO, for its callbacks and loggers.
        env: as many environments as a rollout has episodes.
    """

    def __init__(
        self,
        policy: Graph,
        cases: Sequence[PruneCase],
        keep: Sequence[float] = (0.9, 0.8, 0.7),
        config: PPOConfig | None = None,
        seed: int = 0,
        runner: Runner | None = None,
    ) -> None:
        self.policy, self.config, self.keep, self.seed = policy, config or PPOConfig(), tuple(keep), seed
        self.env = RepeatedContexts(cases, self.keep, self.config, seed, runner or LocalRunner())
        self.algorithm = PPO(
            GraphActorCritic,
            self.env,
            learning_rate=self.config.learning_rate,
            n_steps=1,  # an episode is one step; a rollout has as many environments as episodes
            batch_size=self.config.batch_size,
            n_epochs=self.config.n_epochs,
            gamma=1.0,
            clip_range=self.config.clip_range,
            ent_coef=self.config.ent_coef,
            target_kl=self.config.target_kl,
            stats_window_size=self.config.episodes_per_step,
            policy_kwargs=graph_policy(policy.network, float(np.log(self.config.std))),
            device="cpu",
        )
        with torch.no_grad():
            self.algorithm.policy.log_std[DECISIONS.index("ratio") + 1 :] += float(
                np.log(self.config.emphasis_std_scale)
            )
        self.algorithm.set_logger(Logger(None, output_formats=[]))

    def learn(self, total_timesteps: int, callback: MaybeCallback = None) -> Self:
        """Play at least `total_timesteps` more episodes, updating after every `config.episodes_per_step`.

        What a rollout does depends on nothing but weights, optimiser and the number of episodes so far:
        environments start afresh, and the process's generators are seeded before every rollout.

        Args:
            callback: of Stable-Baselines3, or a function; a list of callbacks; None.
        """
        every: list[Any] = [SeededRollouts(self.seed)]
        if callback is not None:
            every += callback if isinstance(callback, list) else [callback]
        self.env.rollout = self.algorithm.num_timesteps // self.config.episodes_per_step
        self.algorithm.set_env(self.env)  # forgets the last observation
        self.algorithm.learn(total_timesteps, _together(every), reset_num_timesteps=False, log_interval=1)
        return self

    def predict(
        self, observation: Mapping[str, NDArray[Any]], deterministic: bool = True
    ) -> tuple[NDArray[Any], None]:
        """Return the decisions for one observation or a batch of them, and no recurrent state."""
        decisions, _ = self.algorithm.predict(dict(observation), deterministic=deterministic)
        return decisions, None

    def metrics(self) -> dict[str, float]:
        """Return metrics of the last rollout and of the update after it."""
        logged = self.algorithm.logger.name_to_value
        episodes = self.algorithm.ep_info_buffer or ()
        reward = float(np.mean([episode["r"] for episode in episodes]))
        names = ("loss", "value_loss", "approx_kl", "clip_fraction", "explained_variance", "std")
        return {"reward": reward, **{name: float(logged[f"train/{name}"]) for name in names}}

    def state(self) -> LearnerState:
        """Return everything that decides what further learning does."""
        weights = {f"network/{name}": tensor for name, tensor in self.policy.weights().items()}
        learned = self.algorithm.policy
        tensors = {**weights, "log_std": learned.log_std.detach(), **packed(learned.optimizer)}
        return LearnerState(tensors, {"timesteps": self.algorithm.num_timesteps})

    def restore(self, state: LearnerState) -> None:
        """Continue from what `state` returned, bit by bit the same on a CPU."""
        learned = self.algorithm.policy
        names = self.policy.weights()
        self.policy.network.load_state_dict({name: state.tensors[f"network/{name}"] for name in names})
        with torch.no_grad():
            learned.log_std.copy_(state.tensors["log_std"])
        unpack(learned.optimizer, state.tensors)
        self.algorithm.num_timesteps = int(state.data["timesteps"])

    def save(self, folder: str | Path) -> None:
        """Write the policy as others read it, and beside it what learning needs to go on."""
        folder, state = Path(folder), self.state()
        self.policy.save(folder)
        sha256 = write_tensors(folder / STATE_FILE, state.tensors)
        timesteps = self.algorithm.num_timesteps
        about = AgentFile(
            config=self.config, keep=self.keep, seed=self.seed, timesteps=timesteps, sha256=sha256
        )
        write_text(folder / AGENT_FILE, json.dumps(about.model_dump(mode="json"), indent=2) + "\n")

    @classmethod
    def load(cls, folder: str | Path, cases: Sequence[PruneCase], runner: Runner | None = None) -> Self:
        """Read what `save` wrote.

        Raises:
            PrunePolicyError: when a file is missing, damaged, or not of a graph policy.
        """
        folder = Path(folder)
        try:
            about = AgentFile.model_validate(bounded.read_json(folder / AGENT_FILE))
        except ValidationError as error:
            sentence = sentence_of(error, AgentFile)
            raise PrunePolicyError(f"{folder / AGENT_FILE} is no agent: {sentence}.") from error
        except (OSError, ValueError) as error:
            raise PrunePolicyError(
                f"Can't read the agent {folder / AGENT_FILE}: {bounded.why(error)}."
            ) from error
        policy = load_policy_folder(folder)
        if not isinstance(policy, Graph):
            raise PrunePolicyError(f"{folder} holds a policy of the kind {policy.kind}, not graph.")
        agent = cls(policy, cases, about.keep, about.config, about.seed, runner)
        tensors = read_tensors(folder / STATE_FILE, about.sha256)
        agent.restore(LearnerState(tensors, {"timesteps": about.timesteps}))
        return agent


class SeededRollouts(BaseCallback):
    """Seeds every generator of the process before a rollout, from the agent's seed and its progress."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed

    def _on_rollout_start(self) -> None:
        seed_generators(_mixed(self.seed, self.num_timesteps))

    def _on_step(self) -> bool:
        return True


class RepeatedContexts(VecEnvWrapper):
    """Environments of which neighbours have the same network and budget, for one rollout.

    Their mean reward is a baseline for the context: rewards become leave-one-out advantages, unbiased since
    the others' mean doesn't depend on an episode's own action, and the value head learns only what is left.
    Raw rewards are in the `episode` of the infos.

    Attributes:
        rollout: how many rollouts have begun; with the seed, it decides what is drawn.
    """

    rollout: int

    def __init__(
        self,
        cases: Sequence[PruneCase],
        keep: Sequence[float],
        config: PPOConfig,
        seed: int,
        runner: Runner,
    ) -> None:
        ends = (min(keep), max(keep))
        make = partial(PruneEnv, tuple(cases), keep=ends, shaping=config.shaping, step="all")
        super().__init__(VecMonitor(RunnerVecEnv([make] * config.episodes_per_step, runner, seed)))
        self.contexts = [{"network": number, "keep": size} for number in range(len(cases)) for size in keep]
        self.episodes_per_context, self.seed_of_contexts, self.rollout = config.episodes_per_context, seed, 0

    def reset(self) -> VecEnvObs:
        """Draw networks and budgets: each comes again only after all others have come."""
        generator = np.random.default_rng([self.seed_of_contexts, self.rollout])
        self.rollout += 1
        count, known = self.num_envs // self.episodes_per_context, len(self.contexts)
        rounds = [generator.permutation(known) for _ in range(-(-count // known))]
        drawn = np.concatenate(rounds)[:count].repeat(self.episodes_per_context)
        self.venv.set_options([self.contexts[number] for number in drawn])
        return self.venv.reset()

    def step_wait(self) -> VecEnvStepReturn:
        """Return leave-one-out advantages as rewards, and begin the next episodes."""
        _, rewards, dones, infos = self.venv.step_wait()
        return self.reset(), self._leave_one_out(rewards), dones, infos

    def _leave_one_out(self, rewards: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
        if self.episodes_per_context == 1:
            return rewards
        table = rewards.reshape(-1, self.episodes_per_context)
        others = (table.sum(1, keepdims=True) - table) / (self.episodes_per_context - 1)
        above: NDArray[np.floating[Any]] = (table - others).reshape(-1)
        return above


def _together(callbacks: Sequence[Any]) -> CallbackList:
    return CallbackList([one if isinstance(one, BaseCallback) else ConvertCallback(one) for one in callbacks])


def _mixed(seed: int, number: int) -> int:
    """Return a seed of its own for every number."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
