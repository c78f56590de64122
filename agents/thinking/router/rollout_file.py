"""The file of a served model's rollouts: a head that says what was asked, and a line for every answer."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Annotated, Any, Literal, TypeAlias

from pydantic import Field, ValidationError

from prunepolicy.policy.base import sentence_of
from prunepolicy.pruning.errors import PrunePolicyError, UsageError
from prunepolicy.pruning.io import bounded
from prunepolicy.pruning.io.atomic import as_sentence, write_text
from prunepolicy.pruning.io.claim import claimed
from prunepolicy.pruning.io.config import StrictConfig

Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Key: TypeAlias = tuple[int, int | str, int]
"""Prompt, budget and sample of a rollout."""


class RolloutHead(StrictConfig):
    """The first line: everything that decides what is asked.

    Attributes:
        prompts: conversations, in the order of the problems' file.
        answers: the right answers.
        control: how requests carry budgets.
        sampling: further fields of every request, such as `temperature`.
    """

    schema_version: Literal[1] = 1
    model: str
    control: str
    budgets: tuple[int | str, ...]
    samples: Annotated[int, Field(ge=1)]
    seed: int
    verifier: str
    sampling: dict[str, int | float]
    prompts: tuple[tuple[dict[str, Any], ...], ...]
    answers: tuple[str, ...]

    @property
    def keys(self) -> list[Key]:
        """All rollouts that are asked for, in turn: every prompt has nearly as many when it ends early."""
        prompts = range(len(self.prompts))
        return [(p, b, s) for s in range(self.samples) for p in prompts for b in self.budgets]


class Rollout(StrictConfig):
    """One answer.

    Attributes:
        prompt: its number; sample: which of several answers with this budget.
        tokens: of the whole completion, thought included, as the server counts them.
        seconds: until the answer was there.
        finish: the server's reason to end, such as `length`.
    """

    prompt: Annotated[int, Field(ge=0)]
    budget: int | str
    sample: Annotated[int, Field(ge=0)]
    correct: bool
    tokens: Amount
    seconds: Amount
    finish: Annotated[str, Field(max_length=64)] = ""

    @property
    def key(self) -> Key:
        """Which one it is."""
        return self.prompt, self.budget, self.sample


@dataclass
class RolloutWriter:
    """An open file, and the rollouts that it already holds."""

    stream: IO[bytes]
    done: set[Key]

    def add(self, rollout: Rollout) -> None:
        """Append a line; it is there even if this process is killed next."""
        line = rollout.model_dump_json().encode() + b"\n"
        try:
            self.stream.write(line)
            self.stream.flush()
        except OSError as error:
            raise as_sentence(error, Path(self.stream.name), len(line)) from error
        self.done.add(rollout.key)


@contextmanager
def writing(file: Path, head: RolloutHead) -> Iterator[RolloutWriter]:
    """Begin a file, or go on with one that an interrupted run of the same request left.

    Raises:
        UsageError: when the file holds something else, or another process is writing it.
    """
    with claimed(file):
        if not file.exists():
            write_text(file, head.model_dump_json() + "\n")
        found, rollouts, size = _read(file)
        if found != head:
            changed = [
                name for name in type(head).model_fields if getattr(head, name) != getattr(found, name)
            ]
            raise UsageError(
                f"{file} was collected with other {', '.join(changed)}; choose another file for --out."
            )
        with file.open("r+b") as stream:
            stream.truncate(size)  # A line that a killed process left half written.
            stream.seek(0, os.SEEK_END)
            yield RolloutWriter(stream, {rollout.key for rollout in rollouts})


def read_rollouts(file: Path) -> tuple[RolloutHead, list[Rollout]]:
    """Return what was asked and what was answered, in the order of the head's keys.

    Raises:
        UsageError: when there is no such file.
        PrunePolicyError: when it is damaged, or an answer stands there twice.
    """
    head, rollouts, _ = _read(file)
    return head, rollouts


def _read(file: Path) -> tuple[RolloutHead, list[Rollout], int]:
    """Return head and rollouts, and the bytes of the whole lines."""
    try:
        data = bounded.read_bytes(file, bounded.MOST_TEXT)
    except (OSError, ValueError) as error:
        raise UsageError(f"Can't read the rollouts {file}: {bounded.why(error)}.") from error
    whole, _, _ = data.rpartition(b"\n")
    first, *lines = whole.split(b"\n")
    head = _line(RolloutHead, first, f"{file}, line 1")
    rollouts = [_line(Rollout, line, f"{file}, line {number}") for number, line in enumerate(lines, 2)]
    by_key = {rollout.key: rollout for rollout in rollouts}
    order = head.keys
    if len(by_key) < len(rollouts) or set(by_key) - set(order) or len(head.answers) != len(head.prompts):
        raise PrunePolicyError(f"{file} is damaged: it holds answers that nobody asked for, or one twice.")
    return head, [by_key[key] for key in order if key in by_key], len(whole) + 1


def _line(model: type[Any], line: bytes, where: str) -> Any:
    try:
        return model.model_validate(bounded.parsed_json(line))
    except ValidationError as error:
        raise PrunePolicyError(f"{where} is damaged: {sentence_of(error, model)}.") from error
    except ValueError as error:
        raise PrunePolicyError(f"{where} is damaged: {bounded.why(error)}.") from error
