"""Reach a number from others (reasoning-gym); difficulty is how many there are to use."""

from __future__ import annotations

import ast
from fractions import Fraction
from random import Random

from prunepolicy.agents.thinking.lm.tasks.gym import gym_entry
from prunepolicy.agents.thinking.lm.tasks.registry import Problem, task

SIGNS: dict[type[ast.operator], str] = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}
SIZES = {"max_value": 20, "min_target": 2, "max_target": 99}


@task("countdown", range(2, 7), verifier="expression")
def countdown(generator: Random, difficulty: int) -> Problem:
    """Return a problem whose steps work out one solution, operation by operation."""
    entry = gym_entry("countdown", generator, min_numbers=difficulty, max_numbers=difficulty, **SIZES)
    numbers, target = entry["metadata"]["numbers"], entry["metadata"]["target"]
    question = f"make {target} from {' '.join(map(str, numbers))}"
    steps: list[str] = []
    _work_out(ast.parse(entry["answer"], mode="eval").body, steps)
    return Problem("countdown", question, entry["answer"], difficulty, tuple(steps), entry["metadata"])


def _work_out(node: ast.expr, steps: list[str]) -> Fraction:
    """Return the value of an expression, and append what was computed on the way."""
    if isinstance(node, ast.Constant):
        return Fraction(int(str(node.value)))
    if isinstance(node, ast.UnaryOp):
        return -_work_out(node.operand, steps)
    if not isinstance(node, ast.BinOp):
        raise ValueError(f"no arithmetic: {ast.dump(node)}")
    left, right = _work_out(node.left, steps), _work_out(node.right, steps)
    sign = SIGNS[type(node.op)]
    value = {"+": left + right, "-": left - right, "*": left * right}.get(sign)
    value = left / right if value is None else value
    steps.append(f"{left}{sign}{right}={value}")
    return value
