"""What a choice that follows a text stands on, in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

RUINED = 0.5
"""Nats per token by which a choice for one kind of text may fall behind one for all kinds on other texts."""


@dataclass(frozen=True)
class TextReading:
    """What a choice that follows a text stands on, and what it is worth before any repair.

    Attributes:
        tokens: of the text that were read.
        policy: name of what decided.
        held_back: tokens at its end that `on_text` was measured on, by choices that didn't see them; 0 where
            the text is too short for that.
        on_text: excess log-perplexity over the dense model, nats per token: of the choice (`text`), of the
            plain statistic of the same tokens (`plain`), of a choice for text of all kinds (`generic`).
        on_others: the same on text of all kinds, of the choice and of the generic one.
    """

    tokens: int
    policy: str
    held_back: int
    on_text: Mapping[str, float]
    on_others: Mapping[str, float]

    @property
    def sentence(self) -> str:
        """All of it in words."""
        others = self.on_others
        parts = [f"The choice follows {self.tokens:,} tokens of the text (by {self.policy})."]
        if self.on_text:
            ways = self.on_text
            parts.append(
                f"Chosen without its last {self.held_back} tokens and before any repair, it loses "
                f"{ways['text']:.3f} nats per token on them; the plain statistic of the same tokens loses "
                f"{ways['plain']:.3f}, a choice for text of all kinds {ways['generic']:.3f}."
            )
        else:
            parts.append("The text is too short to hold a part back that would say what reading it is worth.")
        parts.append(
            f"On other kinds of text it loses {others['text']:.3f}, where the choice for all kinds loses "
            f"{others['generic']:.3f}."
        )
        return " ".join(parts)

    @property
    def warning(self) -> str | None:
        """A warning where the choice ruins other kinds of text."""
        behind = self.on_others["text"] - self.on_others["generic"]
        if behind <= RUINED:
            return None
        return (
            f"On other kinds of text than yours, the choice is {behind:.1f} nats per token worse than one "
            "for all kinds: use the result for this kind of text alone, or leave --for out."
        )
