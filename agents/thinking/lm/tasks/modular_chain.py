"""Named digits summed modulo 5; difficulty is the number of sums.

A short answer needs all sums at once, a trace one at a time, and names say what comes next. Each chain can
be put in several ways, so that the few easiest sums can be held out as texts and still be known.
"""

from __future__ import annotations

from random import Random
from string import ascii_lowercase

from prunepolicy.agents.thinking.lm.tasks.registry import Problem, task

MODULUS = 5
WORDINGS = (
    "{} mod 5?",
    "{} mod 5 =",
    "mod 5: {}",
    "mod 5 of {}",
    "sum {} mod 5",
    "add {} mod 5",
    "{} in mod 5",
    "{} by mod 5",
)


@task("modular_chain", range(1, 16))
def modular_chain(generator: Random, difficulty: int) -> Problem:
    """Return a chain such as `a2b4c1 mod 5?` with the steps `2b4=1` and `1c1=2`."""
    digits = [generator.randrange(MODULUS) for _ in range(difficulty + 1)]
    terms = [f"{name}{digit}" for name, digit in zip(ascii_lowercase, digits, strict=False)]
    totals = [sum(digits[: end + 1]) % MODULUS for end in range(len(digits))]
    steps = tuple(
        f"{before}{term}={after}" for before, term, after in zip(totals, terms[1:], totals[1:], strict=False)
    )
    question = generator.choice(WORDINGS).format("".join(terms))
    return Problem("modular_chain", question, str(totals[-1]), difficulty, steps)
