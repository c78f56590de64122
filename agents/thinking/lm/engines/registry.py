"""The registry of engines: what continues prompts, whatever runs the model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import torch
from torch import Tensor
from torch.nn import functional

from prunepolicy.pruning.errors import PrunePolicyError
from prunepolicy.pruning.registry import Registry

Force = Literal["free", "answer", "think", "half"]
"""Who decides whether to think: the model, or the request; `half` makes the first half of the completions
answer at once and the others think."""


@dataclass(frozen=True)
class Request:
    """Completions wanted of one prompt.

    Attributes:
        seed: of everything random in them, so that they are the same wherever they are written.
    """

    prompt: tuple[int, ...]
    count: int = 1
    seed: int = 0
    force: Force = "free"

    @property
    def answers(self) -> int:
        """How many completions, the first ones, are made to answer at once."""
        return {"answer": self.count, "half": self.count // 2}.get(self.force, 0)

    @property
    def thinks(self) -> int:
        """How many completions, the last ones, are kept from answering at once."""
        return {"think": self.count, "half": self.count - self.count // 2}.get(self.force, 0)


@dataclass(frozen=True)
class Sampling:
    """How completions are written.

    Attributes:
        max_tokens: after which a completion is cut off.
        temperature: 0 is greedy decoding.
        closing: token ids that close a thought.
        end: token ids that end a completion.
        pad: token id that fills up rows.
    """

    max_tokens: int
    closing: tuple[int, ...]
    end: tuple[int, ...]
    pad: int
    temperature: float = 1.0


@dataclass(frozen=True)
class Chunk:
    """Requests that are carried out together, wherever that happens: a job for a worker."""

    requests: tuple[Request, ...]
    sampling: Sampling

    @property
    def tokens(self) -> int:
        """How many are asked for at most."""
        return self.sampling.max_tokens * sum(request.count for request in self.requests)

    @property
    def halves(self) -> tuple[Chunk, Chunk]:
        """Its requests in two parts."""
        middle = len(self.requests) // 2
        return (
            Chunk(self.requests[:middle], self.sampling),
            Chunk(self.requests[middle:], self.sampling),
        )


@dataclass(frozen=True)
class Completions:
    """What was written, one row per completion, in the order of the requests.

    Attributes:
        tokens: ids, (rows, longest), padded on the right.
        lengths: tokens of each row, the end token included, (rows,).
        log_probs: of every token under what it was drawn from, (rows, longest), 0 in padding.
        ended: whether the row ended by itself, (rows,).
    """

    tokens: Tensor
    lengths: Tensor
    log_probs: Tensor
    ended: Tensor

    def __len__(self) -> int:
        return len(self.lengths)

    def where(self, rows: Sequence[int]) -> Completions:
        """Return the rows of these indices."""
        chosen = list(rows)
        return Completions(
            self.tokens[chosen], self.lengths[chosen], self.log_probs[chosen], self.ended[chosen]
        )

    @classmethod
    def joined(cls, parts: Sequence[Self], pad: int) -> Self:
        """Return the rows of all parts, padded to the longest."""
        longest = max(part.tokens.shape[1] for part in parts)

        def widened(rows: Tensor, value: float) -> Tensor:
            return functional.pad(rows, (0, longest - rows.shape[1]), value=value)

        return cls(
            torch.cat([widened(part.tokens, pad) for part in parts]),
            torch.cat([part.lengths for part in parts]),
            torch.cat([widened(part.log_probs, 0.0) for part in parts]),
            torch.cat([part.ended for part in parts]),
        )


class Engine(ABC):
    """Writes completions with one model, whose weights may change between calls.

    An engine called with a chunk does that job, so that it can be the work of whatever maps jobs to workers.
    """

    def __call__(self, chunk: Chunk) -> Completions:
        """Write all completions of a chunk; where memory doesn't suffice, one half after the other.

        Raises:
            PrunePolicyError: when the completions of one prompt alone don't fit.
        """
        try:
            return self.generate(chunk.requests, chunk.sampling)
        except torch.OutOfMemoryError as error:
            if len(chunk.requests) == 1:
                count = chunk.requests[0].count
                raise PrunePolicyError(
                    f"The device's memory is too small for {count} completions of "
                    f"{chunk.sampling.max_tokens:,} tokens: lower reinforcement.num_generations, "
                    "or max_tokens."
                ) from error
        # Out of the handler, whose traceback keeps what was allocated alive.
        return Completions.joined([self(half) for half in chunk.halves], chunk.sampling.pad)

    @classmethod
    @abstractmethod
    def open(cls, model: Any, device: str = "auto") -> Self:
        """Return an engine that runs a transformers model.

        Args:
            device: `auto` or a name that torch knows, for the workers that the engine travels to.
        """

    @abstractmethod
    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Completions:
        """Write all completions of all requests with the model's present weights."""


engines: Registry[type[Engine]] = Registry("engine", "prunepolicy.agents.thinking.lm.engines")
