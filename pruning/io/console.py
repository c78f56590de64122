"""The console that everything is shown on: values appear as they are, whatever they are called."""

from __future__ import annotations

from typing import Any

import rich.console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text


class Console(rich.console.Console):
    """A console on which no value is taken for markup, an emoji's name or a command to the terminal.

    Paths, names and texts come from anywhere. What shall be coloured is a `styled` text.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def print(self, *objects: Any, **options: Any) -> None:
        """Print as rich does, but break no word of a table: names and paths are there to be copied."""
        for found in objects:
            if isinstance(found, Table):
                self._keep_words(found)
                options["crop"] = False
        super().print(*objects, **options)

    def _keep_words(self, table: Table) -> None:
        """Let columns of several words make room for those of single ones; if in vain, be wide."""
        unlimited = self.options.update(max_width=1 << 16)
        for column in table.columns:
            header = Measurement.get(self, unlimited, column.header).maximum
            cells = [Measurement.get(self, unlimited, cell) for cell in column.cells]
            column.min_width = max(header, *(cell.minimum for cell in cells), 0)
            column.no_wrap = column.min_width >= max((cell.maximum for cell in cells), default=0)
        least = Measurement.get(self, unlimited, table).minimum
        table.width = least if least > self.width else None

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
