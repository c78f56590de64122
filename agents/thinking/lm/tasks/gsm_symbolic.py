"""Word problems in the manner of GSM8K (reasoning-gym); difficulty is the number of worked steps."""

from __future__ import annotations

from random import Random

from prunepolicy.agents.thinking.lm.tasks.gym import gym_entry
from prunepolicy.agents.thinking.lm.tasks.registry import Problem, task

TRIES = 200
TAIL = " Give the result as your final answer. Do not include units."


@task("gsm_symbolic", range(2, 7))
def gsm_symbolic(generator: Random, difficulty: int) -> Problem:
    """Return a word problem whose published solution has `difficulty` steps, the longest ones together."""
    for _ in range(TRIES):
        entry = gym_entry("gsm_symbolic", generator)
        worked = entry["metadata"]["answer_cot"].split("####")[0].strip()
        steps = tuple(line for line in worked.splitlines() if line)
        if min(max(len(steps), 2), 6) == difficulty:
            break
    question = entry["question"].removesuffix(TAIL)
    level = min(max(len(steps), 2), 6)
    return Problem("gsm_symbolic", question, entry["answer"], level, steps, entry["metadata"])
