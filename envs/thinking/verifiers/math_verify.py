"""Mathematics in LaTeX, compared by math-verify in a process with a deadline."""

from __future__ import annotations

import re

from prunepolicy.envs.thinking.isolated import Isolated
from prunepolicy.envs.thinking.verifiers.registry import Question, Verifier, verifiers
from prunepolicy.pruning.errors import MissingExtraError

DEADLINE = 5.0
SYMBOL = re.compile(r"\s*\\?[A-Za-z]\w*\s*")
DELIMITERS = ("$", "\\[", "\\]", "\\(", "\\)", "\\boxed", "\\fbox")


@verifiers.register
class MathVerify(Verifier):
    """Accepts what math-verify holds equal to the right answer, out of one expression.

    math-verify looks for an answer in a text and accepts chains such as `1 = 2 = 3` where one side is
    right, so that more than one expression, and equations other than `symbol = expression`, are refused.

    Args:
        deadline: seconds for one answer.
    """

    def __init__(self, deadline: float = DEADLINE) -> None:
        self._compare = Isolated(f"{__name__}:compare", deadline)

    @classmethod
    def example(cls) -> tuple[Question, str]:
        """Return a question and a right answer to it."""
        return Question("Halve it.", "\\frac{1}{2}"), "0.5"

    def check(self, answer: str, question: Question) -> bool:
        """Return whether both are the same number, set, or expression."""
        answer = answer.replace("\\$", "").removesuffix(".")  # a price, or the end of a sentence
        return _single(answer) and bool(self._compare(question.answer, answer))


def _single(answer: str) -> bool:
    """Return whether the text is one expression, that can't leave the box into which it is put."""
    depth = 0
    for character in answer:
        depth += {"{": 1, "}": -1}.get(character, 0)
        if depth < 0:
            return False
    left, equals, right = answer.partition("=")
    plain = not equals or (bool(SYMBOL.fullmatch(left)) and "=" not in right)
    return depth == 0 and plain and not any(mark in answer for mark in DELIMITERS)


def prepare() -> None:
    """Import the package and use it once, so that no deadline includes that."""
    try:
        import math_verify  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("math-verify needs", "think") from error
    compare("1", "1")


def compare(right: str, answer: str) -> bool:
    """Return what math-verify says; called in a process of its own, so that its alarms aren't needed."""
    from math_verify import LatexExtractionConfig, parse, verify

    boxes = (f"\\boxed{{{text}}}" for text in (right, answer))
    gold, found = (parse(box, [LatexExtractionConfig()], parsing_timeout=None) for box in boxes)
    if not gold:
        raise ValueError(f"the right answer {right!r} can't be read")
    return bool(found) and bool(verify(gold, found, timeout_seconds=None))
