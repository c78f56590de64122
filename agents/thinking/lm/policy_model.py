"""The model that learns, with its tokenizer and the way it is asked."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import torch
from transformers.utils.logging import disable_progress_bar

from prunepolicy.agents.thinking.lm.engines import Sampling
from prunepolicy.agents.thinking.lm.problem_set import ProblemSet
from prunepolicy.agents.thinking.lm.prompting import Prompting, PromptRecipe
from prunepolicy.agents.thinking.lm.recipe import ThinkRecipe
from prunepolicy.agents.thinking.lm.scoring import Scorer
from prunepolicy.agents.thinking.lm.tiny_model import new_model
from prunepolicy.agents.thinking.lm.tokens import r1_layout, reasoning_tokenizer
from prunepolicy.pruning.checkpoint.older_keys import add_older_keys
from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.session.opened_model import Hardware, OpenedModel


@dataclass(frozen=True)
class PolicyModel:
    """A transformers model in float32, or in its own type where that is asked for."""

    model: Any
    prompting: Prompting

    @classmethod
    def named(cls, name: str, how: PromptRecipe, hardware: Hardware) -> Self:
        """Open a model folder or hub id, in full precision: small steps vanish in half of it."""
        opened = OpenedModel.named(name, Hardware(hardware.device, "float32"))
        model: Any = opened.model
        model.requires_grad_(True)
        return cls(model, Prompting(opened.tokenizer, how))

    @classmethod
    def new(cls, recipe: ThinkRecipe, problems: ProblemSet, device: torch.device) -> Self:
        """Make tokenizer and model from nothing.

        Raises:
            UsageError: when the recipe has neither a model nor the sizes of a new one.
        """
        if "new" not in recipe.model_fields_set:
            raise UsageError(
                "The recipe has no model to start from: --set model=PATH_OR_HUB_ID, or give the sizes of one "
                "that starts from random weights under 'new'."
            )
        texts = [f"{recipe.prompt.prefix} wait, mod"] + [
            text for problem in problems.train for text in (problem.question, *problem.steps)
        ]
        tokenizer = reasoning_tokenizer(texts, recipe.new.merges)
        if recipe.new.layout == "r1":
            tokenizer = r1_layout(tokenizer)
        model = new_model(recipe.new, tokenizer, recipe.seed).to(device)
        # The fastest backward pass of short rows on a CPU.
        model.set_attn_implementation("eager" if device.type == "cpu" else "sdpa")
        return cls(model, Prompting(tokenizer, recipe.prompt))

    def sampling(self, max_tokens: int, temperature: float = 1.0) -> Sampling:
        """Return how this model's completions are written."""
        return Sampling(max_tokens, tuple(self.prompting.closing), (self.end,), self.pad, temperature)

    def scorer(self, dtype: torch.dtype, temperature: float = 1.0) -> Scorer:
        """Return what gives log-probabilities."""
        return Scorer(self.model, self.prompting.closing[0], self.pad, temperature, dtype)

    @property
    def tokenizer(self) -> Any:
        """Of the model."""
        return self.prompting.tokenizer

    @cached_property
    def end(self) -> int:
        """Token id that ends a completion."""
        return int(self.tokenizer.eos_token_id)

    @cached_property
    def pad(self) -> int:
        """Token id that fills up rows."""
        padding = self.tokenizer.pad_token_id
        return self.end if padding is None else int(padding)

    def save(self, folder: Path) -> None:
        """Write an ordinary Hugging Face folder."""
        disable_progress_bar()
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        add_older_keys(folder)
