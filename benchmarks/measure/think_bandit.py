"""When to think, learned from outcomes of a simulated model: rewards against each other and against rules.

Every reward is learned by the same policy with the same batches, and judged on prompts it hasn't seen. Also:
what becomes of a policy that can't tell prompts apart, what success-rate shaping adds, and steps a second.
Takes about four minutes on one core.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch

import prunepolicy.envs  # noqa: F401 (registers the environments)
from prunepolicy.agents.thinking.bandit.learner import BanditConfig, ThinkBandit
from prunepolicy.envs.thinking.metrics import (
    Point,
    aes,
    by_difficulty,
    gain_over_random_router,
    spearman,
)
from prunepolicy.envs.thinking.oracle import equilibrium, oracle, value_of, values
from prunepolicy.envs.thinking.routers import always, at_random, never
from prunepolicy.envs.thinking.schedule import Stage
from prunepolicy.envs.thinking.simulated import SimulatedSource
from prunepolicy.envs.thinking.source import ANSWER, THINK, Array, PromptSource
from prunepolicy.envs.thinking.terms import terms
from prunepolicy.pruning.io.atomic import write_text
from prunepolicy.pruning.io.machine import device_name, versions

BOTH = (ANSWER, THINK)
SEEDS = (0, 1, 2, 3, 4)
BLUR = 0.1
STEPS = {"balance": 200, "outcome": 300, "length": 100}
"""Of AutoThink's three stages; all other rewards take as many steps in one stage."""
RATE = 0.05
RESULT = Path(__file__).parents[1] / "results" / "think_bandit.json"
Terms = tuple[dict[str, Any], ...]
NAIVE, BALANCE, LENGTH = {"name": "naive"}, {"name": "balance"}, {"name": "length_aware"}
REWARDS: dict[str, Terms] = {
    "naive": (NAIVE,),
    "naive and balance": (NAIVE, BALANCE),
    "length-aware": ({"name": "correctness"}, LENGTH),
    "naive and brevity": (NAIVE, {"name": "brevity", "weight": 0.5}),
    "AdaptThink": ({"name": "adapt_think"},),
    "Thinkless": ({"name": "thinkless"},),
    "naive and success rate": (NAIVE, {"name": "success_rate"}),
}
SCALES = ("none", "batch", "group")


def stages(reward: Terms) -> tuple[Stage, ...]:
    """Return one stage that never ends."""
    return (Stage(name="only", terms=reward),)


def autothink() -> tuple[Stage, ...]:
    """Return the three published stages: balance, outcome, length."""
    parts = zip(STEPS.items(), ((NAIVE, BALANCE), (NAIVE,), (NAIVE, LENGTH)), strict=True)
    return tuple(Stage(name=name, terms=paid, until={"steps": steps}) for (name, steps), paid in parts)


def learned(paid: tuple[Stage, ...], seed: int, source: PromptSource, **settings: Any) -> ThinkBandit:
    """Return what is learned from the rewards of some stages."""
    bandit = ThinkBandit(BanditConfig(stages=paid, learning_rate=RATE, **settings), source, seed)
    bandit.learn(sum(STEPS.values()))
    return bandit


def judged(name: str, seed: int, think: Array, source: PromptSource) -> dict[str, Any]:
    """Return how well prompts were met that are thought about with the probabilities `think`."""
    worth = {
        rule: value_of(source, BOTH, np.stack([1 - share, share], 1), terms["naive"]())
        for rule, share in (("found", think), ("always", always(source)))
    }
    found, standard = (Point(value.accuracy, value.tokens) for value in worth.values())
    accuracies = [source.expected(choice)[0] for choice in (THINK, ANSWER)]
    return {
        "name": name,
        "seed": seed,
        "accuracy": worth["found"].accuracy,
        "tokens": worth["found"].tokens,
        "think": worth["found"].think,
        "regret": worth["found"].regret,
        "aes": aes(found, standard),
        "gain": gain_over_random_router(think, *accuracies),
        "spearman": spearman(think, source.difficulty),
        "bins": [round(each.mean, 3) for each in by_difficulty(think, source.difficulty)],
    }


def threshold(source: PromptSource, fresh: PromptSource) -> Array:
    """Return decisions on fresh prompts by the blurred difficulty from which on thinking pays in `source`."""
    seen, worth = source.features[:, 0], values(source, BOTH, terms["naive"]())
    order = np.argsort(seen)
    gains = (worth[:, 1] - worth[:, 0])[order]
    first = int(np.append(gains[::-1].cumsum()[::-1], 0.0).argmax())
    level = seen[order][first] if first < len(seen) else np.inf
    return (fresh.features[:, 0] >= level).astype(float)


def contenders(seed: int) -> Iterator[tuple[str, Array, PromptSource]]:
    """Yield names, probabilities of thinking, and prompts that nobody has learned from."""
    source, fresh = (SimulatedSource(blur=BLUR, seed=2 * seed + i) for i in (0, 1))
    best = oracle(fresh, BOTH, terms["naive"]())[:, 1]
    rules: dict[str, Array] = {
        "always think": always(fresh),
        "never think": never(fresh),
        "best threshold on what is seen": threshold(source, fresh),
        "random, at the oracle's rate": at_random(fresh, float(best.mean())),
        "oracle of the naive reward": best,
    }
    for name, think in rules.items():
        yield name, think, fresh
    rewards = {"AutoThink, three stages": autothink()} | {
        name: stages(paid) for name, paid in REWARDS.items()
    }
    for name, paid in rewards.items():
        yield name, learned(paid, seed, source).probabilities(fresh)[:, 1], fresh


def hidden(seed: int) -> Iterator[dict[str, Any]]:
    """Yield where the share of thinking ends when nothing of the difficulty is seen."""
    source = SimulatedSource(hidden=True, seed=seed)
    worth = values(source, BOTH, terms["naive"]()).mean(0)
    settles = equilibrium(float(worth[1] - worth[0]), terms["balance"]())
    for name in ("naive", "naive and balance"):
        for scale in SCALES:
            found = learned(stages(REWARDS[name]), seed, source, advantage=scale)
            share = float(found.probabilities()[:, 1].mean())
            yield {"name": name, "advantage": scale, "seed": seed, "think": share, "equilibrium": settles}


def shaped(seed: int) -> Iterator[dict[str, Any]]:
    """Yield the regret while learning, with and without success-rate shaping, from an unlucky start."""
    source = SimulatedSource(blur=BLUR, seed=seed)
    worth = values(source, BOTH, terms["naive"]())
    for name in ("naive", "naive and success rate"):
        for start in (0.02, 0.5, 0.98):
            config = BanditConfig(stages=stages(REWARDS[name]), initial_probability=start, learning_rate=RATE)
            bandit, regrets = ThinkBandit(config, source, seed), []
            for _ in range(300):
                bandit.step()
                regrets.append(float((worth.max(1) - (bandit.probabilities() * worth).sum(1)).mean()))
            first, last = float(np.mean(regrets[:100])), float(np.mean(regrets[-20:]))
            yield {"name": name, "start": start, "seed": seed, "first": first, "last": last}


def rate(step: Callable[[], int], seconds: float) -> float:
    """Return steps per second."""
    done, start = step() * 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        done += step()
    return done / (time.perf_counter() - start)


def speeds(seconds: float) -> Iterator[dict[str, Any]]:
    """Yield steps a second, with all of AutoThink's terms paid."""
    paid = stages((NAIVE, LENGTH, BALANCE))
    single = gymnasium.make("prunepolicy/Think-v0", stages=paid)
    single.reset(seed=0)

    def one() -> int:
        single.step(1)
        single.reset()
        return 1

    yield {"way": "one environment", "per_second": round(rate(one, seconds))}
    for count in (1024, 16_384):
        many = gymnasium.make_vec("prunepolicy/Think-v0", count, stages=paid, rollouts_per_prompt=8)
        many.reset(seed=0)
        actions = np.arange(count) % 2

        def batch(many: Any = many, actions: Any = actions) -> int:
            many.step(actions)
            return len(actions)

        yield {"way": f"{count:,} in a batch", "per_second": round(rate(batch, seconds))}


def main() -> None:
    """Learn, evaluate, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="for every speed")
    parser.add_argument("--json", type=Path, default=RESULT)
    options = parser.parse_args()
    rows = []
    for seed in SEEDS:
        for name, think, source in contenders(seed):
            rows.append(judged(name, seed, think, source))
            print(rows[-1], flush=True)
    result = {
        "setting": f"{sum(STEPS.values())} batches of 64 prompts x 8 rollouts, seeds {SEEDS}",
        "rows": rows,
        "hidden": [row for seed in SEEDS for row in hidden(seed)],
        "shaped": [row for seed in SEEDS for row in shaped(seed)],
        "speeds": list(speeds(options.seconds)),
        "machine": device_name(torch.device("cpu")),
        "versions": versions("prunepolicy", "numpy", "gymnasium"),
    }
    text = json.dumps(result, indent=1) + "\n"
    print(text)
    write_text(options.json, text)


if __name__ == "__main__":
    main()
