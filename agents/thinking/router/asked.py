"""Problems from a file: what a served model is asked, and the answers that are right."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from prunepolicy.envs.thinking.responses import CLOSING, OPENING, Response, read_response
from prunepolicy.envs.thinking.verifiers.registry import Question
from prunepolicy.policy.base import sentence_of
from prunepolicy.policy.routing.prompt_features import Messages, text_of
from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.io import bounded

MOST_PROBLEMS = 1_000_000
Message = dict[str, Any]


class AskedProblem(BaseModel):
    """A line of the file. Data sets have further columns, which are ignored.

    Attributes:
        question: text of a single message; or
        messages: a whole conversation, the last message asking.
        answer: the right answer.
        task, metadata: whatever else the verifier needs.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, coerce_numbers_to_str=True)
    question: str = ""
    messages: Annotated[tuple[Message, ...], Field(max_length=1000)] = ()
    answer: str
    task: str = ""
    metadata: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _asks(self) -> Self:
        """Refuse a line without a question."""
        if not text_of(self.conversation[-1]).strip():
            raise ValueError("it needs a question, or messages whose last one holds text")
        return self

    @property
    def conversation(self) -> Messages:
        """The messages to send."""
        return self.messages or ({"role": "user", "content": self.question},)

    @property
    def for_verifier(self) -> Question:
        """What verifiers compare with."""
        return Question(text_of(self.conversation[-1]), self.answer, self.task, self.metadata)


def read_problems(file: Path) -> tuple[AskedProblem, ...]:
    """Return the problems of a file of JSON lines.

    Raises:
        UsageError: when there is no such file, or a line is no problem.
    """
    try:
        text = bounded.read_text(file, bounded.MOST_TEXT)
    except (OSError, ValueError) as error:
        raise UsageError(f"Can't read the problems {file}: {bounded.why(error)}.") from error
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not 0 < len(lines) <= MOST_PROBLEMS:
        raise UsageError(f"{file} holds {len(lines):,} problems; there must be 1 to {MOST_PROBLEMS:,}.")
    return tuple(_problem(line, f"{file}, line {number}") for number, line in lines)


def _problem(line: str, where: str) -> AskedProblem:
    try:
        return AskedProblem.model_validate(bounded.parsed_json(line))
    except ValidationError as error:
        raise UsageError(f"{where} is no problem: {sentence_of(error, AskedProblem)}.") from error
    except ValueError as error:
        raise UsageError(f"{where} is no problem: {bounded.why(error)}.") from error


def read_reply(text: str) -> Response:
    """Return the answer in what a server replied, whether or not it took the thought out.

    It is the last `<answer>`, or else the last box; where there is neither, everything that was said after
    the thought. A thought without an end holds no answer.
    """
    whole = text if CLOSING in text or OPENING in text else f"{CLOSING}{text}"
    for found in (read_response(whole, "answer"), read_response(whole, "boxed")):
        if found.answer is not None:
            return found
    said = found.said
    return Response(found.thought, said, said or None, 0)
