"""Arithmetic puzzles: an expression of the given numbers that has the wanted value."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from fractions import Fraction

from prunepolicy.envs.thinking.verifiers.registry import Question, Verifier, verifiers

OPERATORS: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
ALLOWED = set("0123456789+-*/() ")
DEEPEST = 50
"""Nested parentheses; deeper ones are no answer but an attack on the parser."""


@verifiers.register
class Expression(Verifier):
    """Accepts an expression of `+ - * /` that uses exactly the numbers of `metadata["numbers"]`, each once.

    Its value must be `metadata["target"]`, or 24 where there is none (reasoning-gym's puzzle24, whose own
    scorer doesn't look at which numbers were used). Values are exact fractions; nothing is evaluated as
    code.
    """

    @classmethod
    def example(cls) -> tuple[Question, str]:
        """Return a question and a right answer to it."""
        return Question("Make 24.", "8*3", metadata={"numbers": [8, 3], "target": 24}), "3 * 8"

    def check(self, answer: str, question: Question) -> bool:
        """Return whether the expression is one, uses the numbers, and has the value."""
        numbers = sorted(map(int, question.metadata["numbers"]))
        target = Fraction(question.metadata.get("target", 24))
        if set(answer) - ALLOWED or _depth(answer) > DEEPEST:
            return False
        try:
            used, value = _evaluated(ast.parse(answer, mode="eval").body)
        except (SyntaxError, ValueError, ZeroDivisionError):
            return False
        return sorted(used) == numbers and value == target


def _depth(text: str) -> int:
    depth = deepest = 0
    for character in text:
        depth += {"(": 1, ")": -1}.get(character, 0)
        deepest = max(deepest, depth)
    return deepest


def _evaluated(node: ast.expr) -> tuple[list[int], Fraction]:
    """Return the numbers that an expression uses, and its value."""
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return [node.value], Fraction(node.value)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        used, value = _evaluated(node.operand)
        return used, -value
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        (left, first), (right, second) = _evaluated(node.left), _evaluated(node.right)
        return left + right, OPERATORS[type(node.op)](first, second)
    raise ValueError(f"{type(node).__name__} is not among + - * /")
