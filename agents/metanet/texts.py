"""Small language models: text as a task, and models that fit it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from prunepolicy.agents.recovery.next_token import NextToken
from prunepolicy.agents.recovery.task import Batch, LearningTask, Part
from prunepolicy.agents.training.recipe import check_heads
from prunepolicy.pruning.adapters import adapter_for
from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.io import bounded
from prunepolicy.pruning.io.config import StrictConfig

BYTES = 256


class TextRecipe(StrictConfig):
    """Which text, read as bytes.

    Attributes:
        text: a file; its last tenth is the test part, the tenth before it the validation part.
        length: bytes of a window.
        windows: per epoch.
    """

    text: Path
    length: int = Field(default=64, ge=2)
    windows: int = Field(default=1024, ge=1)

    def open(self, device: torch.device) -> TextTask:
        """Read the file.

        Raises:
            UsageError: when it can't be read, or is too short.
        """
        try:
            data = bounded.read_bytes(self.text, bounded.MOST_TEXT)
        except (OSError, ValueError) as error:
            raise UsageError(f"Can't read the text {self.text}: {bounded.why(error)}.") from error
        if len(data) < 20 * self.length:
            raise UsageError(f"The text {self.text} has {len(data)} bytes; 20 windows are needed at least.")
        tokens = torch.tensor(list(data))
        tenth = len(tokens) // 10
        parts: dict[Part, Tensor] = {
            "validation": windows_of(tokens[-2 * tenth : -tenth], self.length),
            "test": windows_of(tokens[-tenth:], self.length),
        }
        return TextTask(parts, device, tokens[: -2 * tenth], self.length, self.windows)


@dataclass(frozen=True)
class TextTask(NextToken):
    """Predicts the next byte in windows from anywhere in a text.

    Attributes:
        train: the text.
        length: bytes of a window.
        windows: per epoch.
    """

    train: Tensor
    length: int
    windows: int

    def steps(self, size: int) -> int:
        """Return the number of full batches."""
        return max(1, self.windows // size)

    def batches(self, size: int, seed: int, epoch: int) -> Iterator[Batch]:
        """Yield windows from random places."""
        generator = torch.Generator().manual_seed((seed << 20) + epoch)
        for _ in range(self.steps(size)):
            starts = torch.randint(len(self.train) - self.length, (size, 1), generator=generator)
            yield self.placed(self.train[starts + torch.arange(self.length)])

    def inputs(self, size: int) -> Iterator[dict[str, Tensor]]:
        """Yield token ids of evenly spaced windows."""
        starts = torch.arange(0, len(self.train) - self.length, self.length)
        for some in starts.split(size):
            yield dict(self.placed(self.train[some[:, None] + torch.arange(self.length)]))


def windows_of(tokens: Tensor, length: int) -> Tensor:
    """Return a text in windows that don't overlap, shape (windows, length); what is left over goes."""
    return tokens[: len(tokens) // length * length].view(-1, length)


class LanguageNetworkRecipe(StrictConfig):
    """A LLaMA-type model over bytes."""

    hidden: int = Field(default=32, ge=4)
    layers: int = Field(default=2, ge=1)
    heads: int = Field(default=4, ge=1)
    kv_heads: int = Field(default=2, ge=1)
    ffn: int = Field(default=96, ge=4)

    @model_validator(mode="after")
    def _heads(self) -> Self:
        check_heads(self.hidden, self.heads, self.kv_heads)
        return self

    def build(self, task: LearningTask, seed: int) -> nn.Module:
        """Return the model with random weights."""
        config = self.config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return adapter_for(config).build(config)

    @property
    def config(self) -> dict[str, Any]:
        """The configuration, as `config.json` has it."""
        return {
            "model_type": "llama",
            "architectures": ["LlamaForCausalLM"],
            "hidden_size": self.hidden,
            "intermediate_size": self.ffn,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "vocab_size": BYTES,
            "bos_token_id": 0,
            "eos_token_id": 0,
            "tie_word_embeddings": True,
        }
