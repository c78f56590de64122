"""Knights and knaves (reasoning-gym), in short words; difficulty is the number of people.

The original words for the roles vary and fill most of the text; here T tells the truth and L lies.
"""

from __future__ import annotations

from itertools import product
from random import Random
from typing import Any

from prunepolicy.agents.thinking.lm.tasks.gym import gym_entry
from prunepolicy.agents.thinking.lm.tasks.registry import Problem, task

NAMES = "ABCDEFG"
JOINED = {"and": all, "or": any}


@task("knights_knaves", range(2, 6), verifier="exact")
def knights_knaves(generator: Random, difficulty: int) -> Problem:
    """Return who says what; the steps try one assignment of roles after the other until one fits."""
    entry = gym_entry(
        "knights_knaves", generator, n_people=difficulty, depth_constraint=2, width_constraint=2
    )
    statements, solution = entry["metadata"]["statements"], tuple(entry["metadata"]["solution"])
    said = "; ".join(f"{name}: {_written(s)}" for name, s in zip(NAMES, statements, strict=False))
    steps = []
    for roles in product((True, False), repeat=difficulty):
        wrong = next((i for i, s in enumerate(statements) if _holds(s, roles) != roles[i]), None)
        steps.append(_letters(roles) + (" fits" if wrong is None else f" no {NAMES[wrong]}"))
        if roles == solution:
            break
    return Problem("knights_knaves", f"{said}.", _letters(solution), difficulty, tuple(steps))


def _letters(roles: tuple[bool, ...]) -> str:
    return "".join("T" if role else "L" for role in roles)


def _written(statement: Any) -> str:
    kind, *parts = statement
    if kind in ("telling-truth", "lying"):
        return f"{NAMES[parts[0]]}={'T' if kind == 'telling-truth' else 'L'}"
    if kind == "not":
        return f"not {_written(parts[0])}"
    return f"({f' {kind} '.join(map(_written, parts))})"


def _holds(statement: Any, roles: tuple[bool, ...]) -> bool:
    kind, *parts = statement
    if kind in ("telling-truth", "lying"):
        return bool(roles[parts[0]] == (kind == "telling-truth"))
    held = [_holds(part, roles) for part in parts]
    if kind == "not":
        return not held[0]
    if kind == "->":
        return not held[0] or held[1]
    if kind == "<=>":
        return held[0] == held[1]
    return JOINED[kind](held)
