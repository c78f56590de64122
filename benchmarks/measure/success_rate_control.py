"""Success-rate shaping on a control task with a reward that is hardly ever seen: MountainCar, 1 at the top.

Tabular Q-learning with replay; the shaped reward is computed anew whenever a transition is replayed, as
published. Beside it: no shaping, and noise of the same size, which is what shaping is during its burn-in.
Takes about five minutes on one core.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray

from prunepolicy.envs.thinking.success_counts import Kernel, SuccessCounts
from prunepolicy.pruning.io.atomic import write_text
from prunepolicy.pruning.io.machine import device_name, versions

TASK = "MountainCar-v0"
SEEDS = (0, 1, 2, 3, 4)
EPISODES, LONGEST, CELLS, ACTIONS = 400, 200, 30, 3
DISCOUNT, STEP_SIZE, EXPLORATION = 0.99, 0.3, 0.1
MINIBATCHES, MINIBATCH = 20, 256
WEIGHT, EVERY = 0.3, 11
"""Of the shaped reward, and which states of an episode are counted: as published."""
BANDWIDTH, FEATURES, BURN_IN = 0.1, 256, 1000
RESULT = Path(__file__).parents[1] / "results" / "success_rate_control.json"
Array = NDArray[np.float64]


class Replay:
    """All transitions so far: states, actions, what they paid, states reached, and whether they ended it."""

    def __init__(self, most: int) -> None:
        self.count = 0
        self.states, self.following = np.zeros((most, 2)), np.zeros((most, 2))
        self.actions = np.zeros(most, np.int64)
        self.ended = np.zeros(most, bool)

    def add(self, state: Array, action: int, reached: Array, ended: bool) -> None:
        """Remember one transition; it pays 1 where it ended the episode at the top."""
        row, self.count = self.count, self.count + 1
        self.states[row], self.actions[row], self.following[row], self.ended[row] = (
            state,
            action,
            reached,
            ended,
        )


class Shaping:
    """What is added to a reward when it is replayed."""

    def __init__(self, way: str, seed: int) -> None:
        self.way, self.generator = way, np.random.default_rng((seed, 1))
        burn_in = BURN_IN if way == "success rate" else 10**9
        kernel = Kernel(bandwidth=BANDWIDTH, features=FEATURES, burn_in=burn_in, seed=seed)
        self.counts = SuccessCounts(kernel)

    def __call__(self, states: Array) -> Array:
        """Return the shaped part for the states that were reached."""
        if self.way == "none":
            return np.zeros(len(states))
        return WEIGHT * (2 * self.counts.draw(states, self.generator) - 1)

    def observe(self, episode: Array, succeeded: bool) -> None:
        """Count some of the states of an episode."""
        if self.way != "none" and len(episode) > EVERY:
            kept = episode[::EVERY]
            self.counts.add(kept, np.full(len(kept), succeeded))


def scaled(env: gymnasium.Env[Any, Any], observation: Array) -> Array:
    """Return position and speed as shares of their ranges."""
    box: Any = env.observation_space
    return np.asarray((observation - box.low) / (box.high - box.low), np.float64)


def cell(states: Array) -> NDArray[np.int64]:
    """Return the row of the table for every state."""
    places = np.clip((states * CELLS).astype(np.int64), 0, CELLS - 1)
    return np.asarray(places[:, 0] * CELLS + places[:, 1])


class Learner:
    """A table of values, and what it is learned from."""

    def __init__(self, way: str, seed: int) -> None:
        self.env: Any = gymnasium.make(TASK)
        self.generator = np.random.default_rng((seed, 0))
        self.table = np.zeros((CELLS**2, ACTIONS))
        self.shaping, self.replay = Shaping(way, seed), Replay(EPISODES * LONGEST)

    def play(self, seed: int, explore: float) -> bool:
        """Play one episode, remember it when exploring, and return whether the car came to the top."""
        state, first = scaled(self.env, self.env.reset(seed=seed)[0]), self.replay.count
        while True:
            action = self.chosen(state, explore)
            observation, _, ended, cut, _ = self.env.step(action)
            reached = scaled(self.env, observation)
            if explore:
                self.replay.add(state, action, reached, ended)
            state = reached
            if ended or cut:
                break
        if explore:
            self.shaping.observe(self.replay.following[first : self.replay.count], ended)
        return bool(ended)

    def chosen(self, state: Array, explore: float) -> int:
        """Return the best action, ties broken by chance, or any."""
        if explore and self.generator.random() < explore:
            return int(self.generator.integers(ACTIONS))
        worth = self.table[cell(state[None])[0]]
        best = np.flatnonzero(worth == worth.max())
        return int(best[0] if len(best) == 1 else self.generator.choice(best))

    def learn(self) -> None:
        """Improve the table on transitions drawn from all episodes."""
        replay, flat = self.replay, self.table.reshape(-1)
        for _ in range(MINIBATCHES):
            rows = self.generator.integers(replay.count, size=MINIBATCH)
            following, ended = replay.following[rows], replay.ended[rows]
            ahead = self.table[cell(following)].max(1) * ~ended
            aims = ended + self.shaping(following) + DISCOUNT * ahead
            places = cell(replay.states[rows]) * ACTIONS + replay.actions[rows]
            errors = np.bincount(places, aims - flat[places], flat.size)
            flat += STEP_SIZE * errors / np.maximum(np.bincount(places, minlength=flat.size), 1)


def run(way: str, seed: int) -> dict[str, Any]:
    """Return how one learner fares."""
    learner, reached = Learner(way, seed), []
    for number in range(EPISODES):
        reached.append(learner.play(seed * EPISODES + number, EXPLORATION))
        learner.learn()
    tests = [learner.play(10**6 + number, 0.0) for number in range(100)]
    return {
        "way": way,
        "seed": seed,
        "first_success": reached.index(True) + 1 if True in reached else None,
        "training": float(np.mean(reached)),
        "last_quarter": float(np.mean(reached[-EPISODES // 4 :])),
        "greedy": float(np.mean(tests)),
    }


def main() -> None:
    """Learn, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, default=RESULT)
    options = parser.parse_args()
    rows = []
    for way in ("none", "noise", "success rate"):
        for seed in SEEDS:
            rows.append(run(way, seed))
            print(rows[-1], flush=True)
    result = {
        "setting": f"{TASK}, {EPISODES} episodes of at most 200 steps, seeds {SEEDS}",
        "rows": rows,
        "machine": device_name(torch.device("cpu")),
        "versions": versions("prunepolicy", "numpy", "gymnasium"),
    }
    write_text(options.json, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
