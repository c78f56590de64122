"""Chains of sums and differences from reasoning-gym; difficulty is the number of terms."""

from __future__ import annotations

from random import Random

from prunepolicy.agents.thinking.lm.tasks.gym import gym_entry
from prunepolicy.agents.thinking.lm.tasks.registry import Problem, task

DIGITS = 2


@task("chain_sum", range(2, 9))
def chain_sum(generator: Random, difficulty: int) -> Problem:
    """Return a chain with its running sums as steps."""
    sizes = {"min_terms": difficulty, "max_terms": difficulty, "min_digits": 1, "max_digits": DIGITS}
    entry = gym_entry("chain_sum", generator, **sizes)
    expression = entry["metadata"]["expression"]
    first, *rest = expression.split()
    total, steps = int(first), []
    for sign, term in zip(rest[::2], rest[1::2], strict=True):
        after = total + int(term) if sign == "+" else total - int(term)
        steps.append(f"{total}{sign}{term}={after}")
        total = after
    question = f"{expression} ="
    return Problem("chain_sum", question, entry["answer"], difficulty, tuple(steps), entry["metadata"])
