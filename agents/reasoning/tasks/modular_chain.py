"""Named digits summed modulo 5; difficulty is the number of sums.

A short answer needs all sums at once, a trace one at a time, and names say what comes next. Names start at
one of three letters, so that the few easiest sums can be held out as texts and still be known.
"""

from __future__ import annotations

from random import Random
from string import ascii_lowercase

from prunepolicy.agents.reasoning.tasks.registry import Problem, task

MODULUS, STARTS = 5, (0, 6, 12)


@task("modular_chain", range(1, 12))
def modular_chain(generator: Random, difficulty: int) -> Problem:
    """Return a chain such as `g2h4i1 mod 5?` with the steps `2h4=1` and `1i1=2`."""
    start = generator.choice(STARTS)
    digits = [generator.randrange(MODULUS) for _ in range(difficulty + 1)]
    terms = [f"{name}{digit}" for name, digit in zip(ascii_lowercase[start:], digits, strict=False)]
    totals = [sum(digits[: end + 1]) % MODULUS for end in range(len(digits))]
    steps = tuple(
        f"{before}{term}={after}" for before, term, after in zip(totals, terms[1:], totals[1:], strict=False)
    )
    return Problem("modular_chain", f"{''.join(terms)} mod {MODULUS}?", str(totals[-1]), difficulty, steps)
