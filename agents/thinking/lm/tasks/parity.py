"""Parity of bits; difficulty is their number. No fixed depth answers all of them without a trace."""

from __future__ import annotations

from random import Random

from prunepolicy.agents.thinking.lm.tasks.registry import Problem, task


@task("parity", range(2, 25))
def parity(generator: Random, difficulty: int) -> Problem:
    """Return bits whose sum is odd (1) or even (0), with the running parity as steps."""
    bits = [generator.randrange(2) for _ in range(difficulty)]
    running = [sum(bits[: end + 1]) % 2 for end in range(difficulty)]
    steps = tuple(f"{bit}:{state}" for bit, state in zip(bits, running, strict=True))
    return Problem("parity", f"parity of {''.join(map(str, bits))}?", str(running[-1]), difficulty, steps)
