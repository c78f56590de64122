"""Reading a response: what was thought, what was answered, and whether the text is broken."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

CLOSING = "</think>"
OPENING = "<think>"
Mark = Literal["answer", "boxed"]
"""How an answer is marked: `<answer>42</answer>`, or LaTeX's `\\boxed{42}`."""
LONGEST_PATTERN, MOST_REPEATS, LONGEST_WORD = 30, 10, 120


@dataclass(frozen=True)
class Response:
    """A response in parts.

    Attributes:
        thought: text before the closing tag, without the opening one.
        said: text after the first closing tag and before the next, if any.
        answer: the last marked answer in what was said; None when there is none.
        rest: words that were said beside the marked answers: reasoning that leaks out of its place.
    """

    thought: str
    said: str
    answer: str | None
    rest: int

    @property
    def well_formed(self) -> bool:
        """Whether there is an answer to check."""
        return self.answer is not None


def read_response(text: str, mark: Mark = "answer") -> Response:
    """Split `text`, which starts with or within the thinking part, at its closing tag.

    An answer counts only where it was said: nothing that was marked while thinking is read, and
    nothing without a closing tag. Source: AutoThink's extraction (arXiv 2505.10832).
    """
    thought, closed, after = text.partition(CLOSING)
    thought = thought.removeprefix(OPENING).strip()
    said = after.partition(CLOSING)[0].strip() if closed else ""
    found = _tagged(said) if mark == "answer" else _boxed(said)
    rest = said
    for whole, _ in found:
        rest = rest.replace(whole, " ")
    return Response(thought, said, found[-1][1].strip() if found else None, len(rest.split()))


def _tagged(text: str) -> list[tuple[str, str]]:
    """Return marked answers, as they stand and their content; an unclosed or nested mark is none."""
    pattern = re.compile(r"<answer>((?:(?!</?answer>).)*)</answer>", re.DOTALL)
    return [(match[0], match[1]) for match in pattern.finditer(text)]


def _boxed(text: str) -> list[tuple[str, str]]:
    """Return boxes, as they stand and their content; braces inside may nest."""
    found, start = [], 0
    opening = "\\boxed{"
    while (start := text.find(opening, start)) >= 0:
        depth, place = 1, start + len(opening)
        while place < len(text) and depth:
            depth += {"{": 1, "}": -1}.get(text[place], 0)
            place += 1
        if not depth:
            found.append((text[start:place], text[start + len(opening) : place - 1]))
        start += len(opening)
    return found


def degenerate(text: str) -> bool:
    """Return whether up to 30 words repeat 10 times back to back, or a word has 120 characters or more.

    Source: the guard in AutoThink's code.
    """
    words = text.split()
    if any(len(word) >= LONGEST_WORD for word in words):
        return True
    for length in range(1, min(LONGEST_PATTERN, len(words) // MOST_REPEATS) + 1):
        same = 0
        for word, before in zip(words[length:], words, strict=False):
            same = same + 1 if word == before else 0
            if same >= length * (MOST_REPEATS - 1):
                return True
    return False
