"""`prunepolicy think collect`: every problem answered by a served model with every budget, several times."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prunepolicy.agents.thinking.router.asked import AskedProblem, read_problems, read_reply
from prunepolicy.agents.thinking.router.rollout_file import Key, Rollout, RolloutHead, RolloutWriter, writing
from prunepolicy.commands.think.chat_client import ChatClient, chat_client, checked_endpoint
from prunepolicy.envs.thinking.verifiers import verifiers
from prunepolicy.policy.routing.controls.registry import ThinkBudget, checked_budgets, controls
from prunepolicy.pruning.errors import PrunePolicyError, UsageError
from prunepolicy.pruning.io.progress import ProgressReporter


@dataclass(frozen=True)
class Collection:
    """What is asked, and how.

    Attributes:
        endpoint: address of the server, up to `/v1`.
        samples: answers to every problem with every budget.
        control: how requests carry budgets.
        sampling: further fields of every request, such as `temperature`.
        concurrency: requests at a time.
        timeout: seconds for one answer.
        key_variable: environment variable with the server's key, which is optional.
    """

    endpoint: str
    model: str
    problems: Path
    budgets: tuple[ThinkBudget, ...]
    samples: int = 8
    control: str = "thinking_token_budget"
    verifier: str = "math_verify"
    sampling: dict[str, int | float] = field(default_factory=dict)
    seed: int = 0
    concurrency: int = 16
    timeout: float = 600.0
    key_variable: str = "OPENAI_API_KEY"

    def head(self, problems: tuple[AskedProblem, ...]) -> RolloutHead:
        """Return the first line of the file.

        Raises:
            UsageError: when a setting can't be.
        """
        return RolloutHead(
            model=self.model,
            control=self.control,
            budgets=checked_budgets(self.control, self.budgets),
            samples=self.samples,
            seed=self.seed,
            verifier=self.verifier,
            sampling=self.sampling,
            prompts=tuple(tuple(map(dict, problem.conversation)) for problem in problems),
            answers=tuple(problem.answer for problem in problems),
        )


def collect(asked: Collection, out: Path, progress: ProgressReporter | None = None) -> int:
    """Ask what `out` doesn't hold yet, one line for every answer, and return how many it holds in the end.

    Raises:
        UsageError: when a setting can't be, or `out` was collected with others.
        PrunePolicyError: when the server doesn't answer; what was answered is kept.
    """
    endpoint = checked_endpoint(asked.endpoint, "--endpoint")
    problems = read_problems(asked.problems)
    head = asked.head(problems)
    verifiers[asked.verifier]
    steps = progress or ProgressReporter()
    with writing(out, head) as writer:
        missing = [key for key in head.keys if key not in writer.done]
        steps.note(f"{len(writer.done):,} of {len(head.keys):,} answers are there.")
        with steps.step("collect", len(missing)) as step:
            gathering = _Gathering(asked, problems, writer, iter(missing), step)
            try:
                asyncio.run(gathering.run(endpoint))
            except* PrunePolicyError as several:
                raise _first(several) from several
        if failed := gathering.verifier.errors:
            steps.note(f"{failed:,} answers couldn't be checked by {asked.verifier} and count as wrong.")
    return len(writer.done)


class _Gathering:
    """Asks what is missing, as many questions at a time as were allowed."""

    def __init__(
        self,
        asked: Collection,
        problems: tuple[AskedProblem, ...],
        writer: RolloutWriter,
        missing: Iterator[Key],
        step: Any,
    ) -> None:
        self.asked, self.problems, self.writer, self.missing, self.step = (
            asked,
            problems,
            writer,
            missing,
            step,
        )
        self.control, self.verifier = controls[asked.control](), verifiers[asked.verifier]()
        self.checking = ThreadPoolExecutor(1)  # Verifiers talk to one process, and may take their time.

    async def run(self, endpoint: str) -> None:
        """Ask until nothing is missing."""
        asked = self.asked
        key = os.environ.get(asked.key_variable)
        with self.checking:
            async with (
                chat_client(endpoint, asked.timeout, asked.concurrency, key) as client,
                asyncio.TaskGroup() as group,
            ):
                for _ in range(asked.concurrency):
                    group.create_task(self._ask_on(client))

    async def _ask_on(self, client: ChatClient) -> None:
        for key in self.missing:
            self.writer.add(await self._asked(client, key))
            self.step(1)

    async def _asked(self, client: ChatClient, key: Key) -> Rollout:
        number, budget, sample = key
        problem, asked = self.problems[number], self.asked
        request = {
            "model": asked.model,
            "messages": list(problem.conversation),
            "seed": _seed(asked.seed, key),
            **asked.sampling,
        }
        answer, seconds = await client.ask(self.control.put(request, budget))
        loop = asyncio.get_running_loop()
        correct = await loop.run_in_executor(self.checking, self._is_right, answer.text, problem)
        tokens = answer.usage.completion_tokens
        return Rollout(
            prompt=number,
            budget=budget,
            sample=sample,
            correct=correct,
            tokens=tokens,
            seconds=round(seconds, 4),
            finish=answer.finish,
        )

    def _is_right(self, text: str, problem: AskedProblem) -> bool:
        return self.verifier.verify([read_reply(text)], [problem.for_verifier])[0].correct


def _seed(seed: int, key: Key) -> int:
    """Return a request's own seed, 31 bits."""
    return int.from_bytes(hashlib.sha256(repr((seed, *key)).encode()).digest()[:4]) >> 1


def _first(several: BaseExceptionGroup[PrunePolicyError]) -> PrunePolicyError:
    """Return one failure: those of requests at the same time say the same."""
    error: BaseException = several
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, PrunePolicyError)
    return error


def budgets_named(text: str) -> tuple[ThinkBudget, ...]:
    """Return the budgets of a list with commas: numbers of tokens, and words.

    Raises:
        UsageError: when it is empty.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words:
        raise UsageError(f"--budgets takes a list such as 0,512,2048 or low,high; got {text!r:.80}.")
    return tuple(int(word) if word.isdecimal() and len(word) < 10 else word for word in words)
