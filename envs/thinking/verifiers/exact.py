"""Text, compared as text."""

from __future__ import annotations

from prunepolicy.envs.thinking.verifiers.registry import Question, Verifier, verifiers


@verifiers.register
class Exact(Verifier):
    """Accepts the right answer alone; case and amount of white space don't matter."""

    @classmethod
    def example(cls) -> tuple[Question, str]:
        """Return a question and a right answer to it."""
        return Question("Who lies?", "Zoey is a knight"), "zoey  is a knight"

    def check(self, answer: str, question: Question) -> bool:
        """Return whether both are the same words."""
        return _words(answer) == _words(question.answer)


def _words(text: str) -> list[str]:
    return text.casefold().split()
