"""What a router sees of a request: counts from its text, cheap enough to be taken before every answer."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_READ = 8192
"""Characters of a text that are looked into: its beginning and its end, in equal parts."""
Messages = Sequence[Mapping[str, Any]]
Pattern = re.Pattern[str]


def _words(pattern: str) -> Pattern:
    return re.compile(rf"\b(?:{pattern})\b", re.IGNORECASE)


COUNTED: dict[str, Pattern] = {
    "words": re.compile(r"\S+"),
    "lines": re.compile(r"\n"),
    "sentences": re.compile(r"[.!?](?=\s|$)"),
    "numbers": re.compile(r"\d+(?:[.,]\d+)*"),
    "digits": re.compile(r"\d"),
    "operators": re.compile(r"[+*/^=<>\u00d7\u00f7\u2264\u2265]|(?<=\d) ?- ?(?=\d)"),
    "brackets": re.compile(r"[()\[\]{}]"),
    "LaTeX": re.compile(r"\\[A-Za-z]+|\$"),
    "code fences": re.compile(r"```"),
    "code words": re.compile(r"\b(?:def|class|return|import|function|const|SELECT)\b|[;{}]$", re.MULTILINE),
    "choices": re.compile(r"^ ?\(?[A-Ha-h][).:] ", re.MULTILINE),
    "quantity words": _words("how many|how much|each|every|total|twice|half|times|percent|per|remaining"),
    "reasoning words": _words(
        "prove|show that|derive|why|explain|step by step|find all|determine|minimi[sz]e"
    ),
    "lookup words": _words("who|when|where|what is|which|define|name|list|translate|capital"),
    "conditions": _words("if|then|unless|except|only|not|at least|at most|exactly|either|neither"),
}
"""How often each of these occurs; logarithms of the counts plus one are observed. None of the patterns takes
longer than its text is long: texts come from anywhere."""
OTHERS: dict[str, Callable[[str, Messages], float]] = {
    "characters": lambda text, messages: math.log1p(len(text)),
    "largest number": lambda text, messages: _largest(_seen(text)),
    "messages": lambda text, messages: math.log1p(len(messages)),
    "earlier characters": lambda text, messages: math.log1p(sum(map(len, map(text_of, messages[:-1])))),
}
FEATURES = (*COUNTED, *OTHERS)
"""Names of what is observed, in order; part of `Router.observation_version`."""


def prompt_features(messages: Messages) -> NDArray[np.float64]:
    """Return what is observed of a conversation, (features,): its last message, and how long others are.

    Raises:
        ValueError: when the last message holds no text.
    """
    text = text_of(messages[-1]) if messages else ""
    if not text.strip():
        raise ValueError("the last message holds no text")
    seen = _seen(text)
    counts = [math.log1p(sum(1 for _ in pattern.finditer(seen))) for pattern in COUNTED.values()]
    return np.array([*counts, *(read(text, messages) for read in OTHERS.values())])


def text_of(message: Mapping[str, Any]) -> str:
    """Return the text of a message: its content, or the text parts of that.

    Raises:
        ValueError: when the message has another form than the API's.
    """
    content = message.get("content") if isinstance(message, Mapping) else message
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list) or not all(isinstance(part, Mapping) for part in content):
        raise ValueError("a message's content is neither text nor a list of parts")
    return "\n".join(part["text"] for part in content if isinstance(part.get("text"), str))


def _seen(text: str) -> str:
    half = MOST_READ // 2
    return text if len(text) <= MOST_READ else f"{text[:half]}\n{text[-half:]}"


def _largest(text: str) -> float:
    """Return the digits of the longest number, which are nearly its logarithm."""
    return float(max((len(found[0]) for found in re.finditer(r"\d+", text)), default=0))
