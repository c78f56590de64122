"""How a question is put, and how a model shows that it skips thinking.

The ellipsis prefix opens a thought and leaves it to the model whether to close it at once (AutoThink,
arXiv 2505.10832, section 3). Everything here works on token ids: decoding may drop tags.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from pydantic import Field

from prunepolicy.agents.thinking.lm.tokens import CLOSE
from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.io.config import StrictConfig

ELLIPSIS = "<think>\n...\n"


class PromptRecipe(StrictConfig):
    r"""The words around a question.

    Attributes:
        instruction: added to every question, such as one to answer within `\boxed{}`.
        prefix: what the model's turn starts with.
        answer: whether answers stand in `<answer>` tags or in `\boxed{}`.
    """

    instruction: str = ""
    prefix: str = ELLIPSIS
    answer: str = Field(default="tags", pattern="^(tags|boxed)$")


@dataclass(frozen=True)
class Prompting:
    """Renders prompts for one tokenizer."""

    tokenizer: Any
    how: PromptRecipe = field(default_factory=PromptRecipe)

    def render(self, question: str) -> str:
        """Return the text that the model continues; it ends with the prefix.

        A template that opens the thought by itself would open it twice, so that is taken back first.
        """
        words = f"{question} {self.how.instruction}".strip()
        if not self.tokenizer.chat_template:
            return f"{words}\n{self.how.prefix}"
        turns = [{"role": "user", "content": words}]
        text = str(self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))
        return text.removesuffix("<think>\n").removesuffix("<think>") + self.how.prefix

    def ids(self, question: str) -> list[int]:
        """Return the rendered prompt's token ids.

        Raises:
            UsageError: when they don't end with those of the prefix: modes couldn't be told apart.
        """
        ids = self._encoded(self.render(question))
        if ids[-len(self.prefix) :] != self.prefix:
            raise UsageError(
                f"The tokenizer merges the prompt's prefix {self.how.prefix!r} with what is around it."
            )
        return ids

    @cached_property
    def prefix(self) -> list[int]:
        """Token ids of the prefix."""
        return self._encoded(self.how.prefix)

    @cached_property
    def closing(self) -> list[int]:
        """Token ids that close a thought; a completion that starts with them skipped it."""
        return self._encoded(CLOSE)

    def _encoded(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])
