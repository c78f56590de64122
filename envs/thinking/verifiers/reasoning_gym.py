"""reasoning-gym's own scorers, without partial credit, in a process with a deadline."""

from __future__ import annotations

from typing import Any

from prunepolicy.envs.thinking.isolated import Isolated
from prunepolicy.envs.thinking.verifiers.registry import Question, Verifier, verifiers
from prunepolicy.pruning.errors import MissingExtraError, UsageError

DEADLINE = 5.0
RUNS_ANSWERS = {
    "binary_matrix",
    "countdown",
    "intermediate_integration",
    "n_queens",
    "polynomial_multiplication",
    "puzzle24",
    "simple_integration",
    "spiral_matrix",
    "string_insertion",
}
"""Tasks whose scorers evaluate an answer as Python; a model's text is never run."""
EXPRESSIONS = {"countdown", "puzzle24"}


@verifiers.register
class ReasoningGym(Verifier):
    """Accepts what the scorer of the question's `task` gives full marks.

    Scorers pay parts: for text that contains the right answer, for some of the assignments, or for any
    answer at all; here all but 1 is wrong.

    Args:
        deadline: seconds for one answer.
    """

    def __init__(self, deadline: float = DEADLINE) -> None:
        self._score = Isolated(f"{__name__}:score", deadline)

    @classmethod
    def example(cls) -> tuple[Question, str]:
        """Return a question and a right answer to it."""
        return Question("4 + 3", "7", "chain_sum"), "7"

    def check(self, answer: str, question: Question) -> bool:
        """Return whether the scorer gives 1.

        Raises:
            UsageError: for a task whose scorer would run the answer as code.
        """
        if question.task in RUNS_ANSWERS:
            instead = "; use the verifier expression" if question.task in EXPRESSIONS else ""
            raise UsageError(f"reasoning-gym's scorer of {question.task} runs answers as code{instead}.")
        entry = {"question": question.prompt, "answer": question.answer, "metadata": dict(question.metadata)}
        return bool(self._score(question.task, answer, entry) == 1.0)


def prepare() -> None:
    """Import the package, so that no deadline includes that."""
    try:
        import reasoning_gym  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("reasoning-gym needs", "think") from error


def score(task: str, answer: str, entry: dict[str, Any]) -> float:
    """Return the score of the task's own scorer, from 0 to 1."""
    from reasoning_gym import get_score_answer_fn

    return float(get_score_answer_fn(task)(answer, entry))
