"""Whole numbers, compared as numbers."""

from __future__ import annotations

import re

from prunepolicy.envs.thinking.verifiers.registry import Question, Verifier, verifiers

INTEGER = re.compile(r"[+-]?\d{1,100}", re.ASCII)


@verifiers.register
class Integer(Verifier):
    """Accepts one integer in digits, equal to the right one; nothing may stand beside it."""

    @classmethod
    def example(cls) -> tuple[Question, str]:
        """Return a question and a right answer to it."""
        return Question("17 + 25", "42"), "42"

    def check(self, answer: str, question: Question) -> bool:
        """Return whether both are integers, and equal."""
        if not INTEGER.fullmatch(question.answer.strip()):
            raise ValueError(f"the right answer {question.answer!r} is no integer")
        return bool(INTEGER.fullmatch(answer)) and int(answer) == int(question.answer)
