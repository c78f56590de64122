"""The console that everything is shown on: values appear as they are, whatever they are called."""

from __future__ import annotations

from typing import Any

import rich.console
from rich.text import Text


class Console(rich.console.Console):
    """A console on which no value is taken for markup, an emoji's name or a command to the terminal.

    Paths, names and texts come from anywhere. What shall be coloured is a `styled` text.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Return what a string looks like: itself, without what could move the cursor."""
        return super().render_str(harmless(text), **options)


def styled(*parts: str | tuple[str, str]) -> Text:
    """Return a text of strings, and of strings each with its style."""
    shown = [
        (harmless(part), "") if isinstance(part, str) else (harmless(part[0]), part[1]) for part in parts
    ]
    return Text.assemble(*shown)


def harmless(text: str) -> str:
    """Remove what could move the cursor: text may come from anywhere."""
    return "".join(letter for letter in text if letter.isprintable() or letter == "\n")
