"""The registry of verifiers: whether an answer is right, without a way to be paid for less."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from prunepolicy.envs.thinking.responses import Response
from prunepolicy.pruning.errors import PrunePolicyError
from prunepolicy.pruning.registry import Registry

LONGEST = 1000
"""Characters of an answer beyond which it is wrong unread; answers are short, so that no list passes."""


@dataclass(frozen=True)
class Question:
    """What was asked.

    Attributes:
        prompt: the text.
        answer: the right answer.
        task: where it comes from, such as the name of a reasoning-gym task.
        metadata: whatever else the verifier needs; JSON.
    """

    prompt: str
    answer: str
    task: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """What a verifier says.

    Attributes:
        correct: whether the answer is right.
        error: why no verdict could be reached; such an answer counts as wrong, and the error is counted.
    """

    correct: bool
    error: str = ""


class Verifier(ABC):
    """Checks answers.

    Attributes:
        errors: answers on which the checking itself failed, so far; to be logged beside the rewards.
    """

    errors: int = 0

    @classmethod
    @abstractmethod
    def example(cls) -> tuple[Question, str]:
        """Return a question and a right answer to it: what the contract suite tries to cheat with."""

    @abstractmethod
    def check(self, answer: str, question: Question) -> bool:
        """Return whether a non-empty answer of bounded length is right; whatever this raises is counted."""

    def verify(self, responses: Sequence[Response], questions: Sequence[Question]) -> list[Verdict]:
        """Return a verdict for every response; one without a readable answer is wrong.

        Raises:
            PrunePolicyError: when nothing can be checked: a package or a fitting verifier is missing.
        """
        pairs = zip(responses, questions, strict=True)
        return [self._verdict(response, question) for response, question in pairs]

    def _verdict(self, response: Response, question: Question) -> Verdict:
        answer = response.answer
        if answer is None or not answer.strip() or len(answer) > LONGEST:
            return Verdict(False)
        try:
            return Verdict(bool(self.check(answer.strip(), question)))
        except PrunePolicyError:  # nothing can be checked at all
            raise
        except Exception as error:
            self.errors += 1
            return Verdict(False, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")


verifiers: Registry[type[Verifier]] = Registry("verifier", "prunepolicy.envs.thinking.verifiers")
