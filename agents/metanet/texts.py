"""Small language models: text as a task, and models that fit it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from prunepolicy.agents.recovery.task import Batch, LearningTask, Part, logits_of
from prunepolicy.agents.training.recipe import RecipePart
from prunepolicy.pruning.adapters import adapter_for
from prunepolicy.pruning.errors import UsageError

BYTES = 256
JUDGED = 64
"""Windows per batch where nothing is learned."""


class TextRecipe(RecipePart):
    """Which text, read as bytes.

    Attributes:
        text: a file; its last tenth judges, the tenth before it chooses.
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
            data = self.text.read_bytes()
        except OSError as error:
            raise UsageError(f"Can't read the text {self.text}: {error.strerror or error}.") from error
        if len(data) < 20 * self.length:
            raise UsageError(f"The text {self.text} has {len(data)} bytes; 20 windows are needed at least.")
        tokens = torch.tensor(list(data))
        tenth = len(tokens) // 10
        parts = {"validation": tokens[-2 * tenth : -tenth], "test": tokens[-tenth:]}
        return TextTask(tokens[: -2 * tenth], parts, self.length, self.windows, device)


@dataclass(frozen=True)
class TextTask(LearningTask):
    """Predicts the next byte."""

    train: Tensor
    judged: dict[str, Tensor]
    length: int
    windows: int
    device: torch.device

    def steps(self, size: int) -> int:
        """Return the number of full batches."""
        return max(1, self.windows // size)

    def batches(self, size: int, seed: int, epoch: int) -> Iterator[Batch]:
        """Yield windows from random places."""
        generator = torch.Generator().manual_seed((seed << 20) + epoch)
        for _ in range(self.steps(size)):
            starts = torch.randint(len(self.train) - self.length, (size, 1), generator=generator)
            yield self._placed(self.train[starts + torch.arange(self.length)])

    def logits(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return shape (batch, length, vocabulary)."""
        return logits_of(model(input_ids=batch["input_ids"], use_cache=False)).float()

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Return the mean log-perplexity per byte."""
        return functional.cross_entropy(logits[:, :-1].flatten(0, 1), batch["input_ids"][:, 1:].flatten())

    def score(self, model: nn.Module, part: Part) -> float:
        """Return the negative log-perplexity per byte."""
        tokens, losses = self.judged[part], []
        windows = tokens[: len(tokens) // self.length * self.length].view(-1, self.length)
        model.eval()
        with torch.no_grad():
            for some in windows.split(JUDGED):
                batch = self._placed(some)
                losses.append(self.loss(self.logits(model, batch), batch) * len(some))
        return -float(torch.stack(losses).sum() / len(windows))

    def inputs(self, size: int) -> Iterator[dict[str, Tensor]]:
        """Yield token ids of evenly spaced windows."""
        starts = torch.arange(0, len(self.train) - self.length, self.length)
        for some in starts.split(size):
            yield dict(self._placed(self.train[some[:, None] + torch.arange(self.length)]))

    def _placed(self, tokens: Tensor) -> Batch:
        return {"input_ids": tokens.to(self.device)}


class LanguageNetworkRecipe(RecipePart):
    """A LLaMA-type model over bytes."""

    hidden: int = Field(default=32, ge=4)
    layers: int = Field(default=2, ge=1)
    heads: int = Field(default=4, ge=1)
    kv_heads: int = Field(default=2, ge=1)
    ffn: int = Field(default=96, ge=4)

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
