"""Sums and differences of digits modulo 10, from left to right; difficulty is the number of operations.

A short answer needs all operations at once, a trace one at a time.
"""

from __future__ import annotations

from random import Random

from prunepolicy.agents.reasoning.tasks.registry import Problem, task

MODULUS = 10


@task("modular_chain", range(1, 11))
def modular_chain(generator: Random, difficulty: int) -> Problem:
    """Return a chain such as `7+5-4 mod 10?` with the steps `7+5=2` and `2-4=8`."""
    total = generator.randrange(MODULUS)
    question, steps = str(total), []
    for _ in range(difficulty):
        digit, sign = generator.randrange(MODULUS), generator.choice("+-")
        after = (total + digit if sign == "+" else total - digit) % MODULUS
        question += f"{sign}{digit}"
        steps.append(f"{total}{sign}{digit}={after}")
        total = after
    return Problem("modular_chain", f"{question} mod 10?", str(total), difficulty, tuple(steps))
