"""Sums of two numbers with a carry trace; difficulty is the number of digits."""

from __future__ import annotations

from random import Random

from prunepolicy.agents.thinking.lm.tasks.registry import Problem, task


@task("addition", range(1, 13))
def addition(generator: Random, difficulty: int) -> Problem:
    """Return a sum with one step per digit, the last digit first: digits, carry in, digit and carry out."""
    low = 10 ** (difficulty - 1) if difficulty > 1 else 0
    first, second = (generator.randrange(low, 10**difficulty) for _ in range(2))
    steps, carry = [], 0
    for place in range(difficulty):
        a, b = first // 10**place % 10, second // 10**place % 10
        total = a + b + carry
        steps.append(f"{a}+{b}+{carry}={total % 10} carry {total // 10}")
        carry = total // 10
    return Problem("addition", f"{first}+{second}=?", str(first + second), difficulty, tuple(steps))
