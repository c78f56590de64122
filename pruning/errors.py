"""What goes wrong, in sentences a user can act on."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from pathlib import Path

PASSWORDS = (
    (re.compile(r"(?<!hf)(://)(?:[^\s/'\"]*|[^\s/:'\"@]+:(?!\d+/)[^\s'\"]*)@"), r"\1…@"),
    (re.compile(r"(?<![\w/])[^\s/:'\"@(]+:[^\s/'\"@]+@(?=[\w\[])"), "…@"),
    (re.compile(r"(https?://[^\s'\"?]*)\?[^\s'\"]+"), r"\1?…"),
)
"""Where addresses carry secrets: before the host, with or without a scheme, and in a query."""

LONGEST = 1800
"""Characters of a sentence; the longest of this package's own is half as long."""


class PrunePolicyError(Exception):
    """A failure with one clear sentence; commands print it and exit with `exit_code`."""

    exit_code = 1

    def __init__(self, sentence: str = "") -> None:
        super().__init__(shortened(redacted(sentence)))


class UsageError(PrunePolicyError):
    """The request itself is wrong (an impossible keep ratio, an unknown name)."""

    exit_code = 2


class BadCheckpointError(PrunePolicyError):
    """A model folder is missing something, damaged, or tries to leave its folder."""


class NoWeightsError(BadCheckpointError):
    """A folder or a hub repository holds no model in safetensors.

    Args:
        sentence: what it holds instead.
        folder: where its other files lie.
    """

    def __init__(self, sentence: str, folder: Path) -> None:
        super().__init__(sentence)
        self.folder = folder


class UnsupportedModelError(PrunePolicyError):
    """No adapter knows this architecture."""


class BudgetError(UsageError):
    """No reachable network meets the budget; the sentence names the nearest one."""


class MissingExtraError(PrunePolicyError):
    """Something needs packages that an extra of this one installs.

    Args:
        needs: what does, with its verb: "Graph policies need".
        extra: its name.
    """

    def __init__(self, needs: str, extra: str) -> None:
        super().__init__(f"{needs} an extra: pip install 'prunepolicy[{extra}]'.")


class NotEnoughSpaceError(PrunePolicyError):
    """Disk or memory would not suffice; nothing was written."""


def redacted(text: str) -> str:
    """Return text whose addresses carry no user names, passwords and queries: fit to be shown and stored."""
    for secret, instead in PASSWORDS:
        text = secret.sub(instead, text)
    return text


def shortened(text: str) -> str:
    """Return text without the middle of what would fill a screen, as names from damaged files may."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} … {text[-LONGEST // 2 :]}"


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """Return a hint that names the closest of `choices`, and all of them when there are few."""
    known = sorted(choices)
    close = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    listing = f" Known: {', '.join(known)}." if len(known) <= 20 else ""
    return hint + listing
