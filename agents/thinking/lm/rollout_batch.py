"""From prompts to verified completions: generation in chunks, verification, rollouts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from prunepolicy.agents.runtime import LocalRunner, Runner
from prunepolicy.agents.thinking.lm.engines import Chunk, Completions, Engine, Request, Sampling
from prunepolicy.agents.thinking.lm.engines.registry import Force
from prunepolicy.agents.thinking.lm.prompting import Prompting
from prunepolicy.agents.thinking.lm.tasks import Problem, tasks
from prunepolicy.envs.thinking.responses import Mark, Response, degenerate, read_response
from prunepolicy.envs.thinking.rollouts import Mode, Rollouts
from prunepolicy.envs.thinking.verifiers import Question, Verdict, Verifier, verifiers

ORDINARY_TOKENS = 1 << 16
"""Tokens asked of a worker at once for which a cluster's deadline is meant; more of them have more time."""


@dataclass(frozen=True)
class RolloutBatch:
    """Verified completions of some problems; rows of one problem follow each other.

    Attributes:
        prompts: token ids, one row per completion.
        written: the completions.
        table: their outcomes, in the same rows.
        errors: rows that couldn't be verified.
        leaked: words beside the answer, per row: reasoning in the wrong place.
    """

    prompts: tuple[tuple[int, ...], ...]
    written: Completions
    table: Rollouts
    errors: int = 0
    leaked: float = 0.0

    @property
    def tokens(self) -> list[list[int]]:
        """The completions' token ids, without padding."""
        lengths = self.written.lengths.tolist()
        return [row[:n] for row, n in zip(self.written.tokens.tolist(), lengths, strict=True)]

    def part(self, count: int) -> RolloutBatch:
        """Return `count` rows at most, evenly over the batch."""
        rows = list(range(0, len(self.written), max(1, len(self.written) // count)))
        return RolloutBatch(
            tuple(self.prompts[row] for row in rows), self.written.where(rows), self.table.where(rows)
        )


@dataclass(frozen=True)
class Group:
    """One problem whose completions are compared.

    Attributes:
        number: of the group.
        count: completions.
        reference: accuracy on it of the reference model made to think, where a reward reads that.
        prompt: index of the problem among those trained on.
    """

    problem: Problem
    number: int
    count: int = 1
    seed: int = 0
    force: Force = "free"
    reference: float = 0.0
    prompt: int = 0


class VerifiedBatch(NamedTuple):
    """Outcomes of completions: see `RolloutBatch`."""

    table: Rollouts
    errors: int
    leaked: float


@dataclass
class AnswerVerifier:
    """Reads and verifies answers."""

    prompting: Prompting
    checks: dict[str, Verifier] = field(default_factory=dict)

    def verified(self, owners: Sequence[Group], rows: Sequence[list[int]]) -> VerifiedBatch:
        """Return outcomes of given completions, with verifier errors and leaked words.

        Args:
            owners: the group of each completion.
            rows: token ids. Modes are read from them, since decoding may drop tags.
        """
        closing, end = self.prompting.closing, self.prompting.tokenizer.eos_token_id
        cut_off = [not row or row[-1] != end for row in rows]
        mark: Mark = "boxed" if self.prompting.how.answer == "boxed" else "answer"
        texts = [self.prompting.tokenizer.decode([t for t in row if t != end]) for row in rows]
        responses = [read_response(text, mark) for text in texts]
        verdicts = [self._verdict(*pair) for pair in zip(owners, responses, strict=True)]
        table = Rollouts.of(
            group=[owner.number for owner in owners],
            mode=[Mode.ANSWER if row[: len(closing)] == closing else Mode.THINK for row in rows],
            correct=[verdict.correct for verdict in verdicts],
            length=[float(len(row)) for row in rows],
            well_formed=[response.well_formed for response in responses],
            degenerate=[degenerate(text) for text in texts],
            cut_off=cut_off,
            reference=[owner.reference for owner in owners],
            features=[[float(owner.problem.difficulty)] for owner in owners],
        )
        errors = sum(bool(verdict.error) for verdict in verdicts)
        return VerifiedBatch(table, errors, float(np.mean([response.rest for response in responses])))

    def _verdict(self, owner: Group, response: Response) -> Verdict:
        problem = owner.problem
        question = Question(problem.question, problem.answer, problem.task, problem.entry)
        return self._verifier(problem).verify([response], [question])[0]

    def _verifier(self, problem: Problem) -> Verifier:
        name = problem.verifier or tasks[problem.task].verifier
        if name not in self.checks:
            self.checks[name] = verifiers[name]()
        return self.checks[name]


@dataclass
class RolloutWorker:
    """Samples completions of problems, and verifies them.

    Attributes:
        chunk: problems that are sampled together: a job for a worker of `runner`.
    """

    engine: Engine
    prompting: Prompting
    chunk: int = 64
    runner: Runner = field(default_factory=LocalRunner)

    @cached_property
    def verifier(self) -> AnswerVerifier:
        """Of the answers."""
        return AnswerVerifier(self.prompting)

    def roll(self, groups: Sequence[Group], sampling: Sampling) -> RolloutBatch:
        """Sample completions of every problem; the chunks alone decide what is batched together."""
        requests = [
            Request(tuple(self.prompting.ids(one.problem.question)), one.count, one.seed, one.force)
            for one in groups
        ]
        starts = range(0, len(requests), self.chunk)
        chunks = [Chunk(tuple(requests[start : start + self.chunk]), sampling) for start in starts]
        size = max(1.0, max(chunk.tokens for chunk in chunks) / ORDINARY_TOKENS)
        answered = self.runner.map(self.runner.share(self.engine), chunks, size)
        written = Completions.joined(list(answered), sampling.pad)
        prompts = tuple(request.prompt for request in requests for _ in range(request.count))
        owners = [one for one in groups for _ in range(one.count)]
        rows = [row[:n] for row, n in zip(written.tokens.tolist(), written.lengths.tolist(), strict=True)]
        return RolloutBatch(prompts, written, *self.verifier.verified(owners, rows))


def seed_of(*numbers: int) -> int:
    """Return one seed for a run's seed, a step and a prompt, whoever writes its completions."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


def shuffle_outcomes_within_mode(table: Rollouts, seed: int) -> Rollouts:
    """Return the table with outcomes shuffled among the completions of each mode.

    A control that keeps mode averages: what a mode gains on single prompts is lost.
    """
    generator, source = np.random.default_rng(seed), np.arange(len(table))
    for mode in np.unique(table.mode):
        rows = np.flatnonzero(table.mode == mode)
        source[rows] = generator.permutation(rows)
    outcomes = {
        name: getattr(table, name)[source] for name in ("correct", "well_formed", "degenerate", "cut_off")
    }
    return replace(table, **outcomes)
