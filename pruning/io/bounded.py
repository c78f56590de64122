"""Read what others wrote: regular files only, and no more bytes, levels and parts than honest ones have.

Whatever is wrong comes out as `OSError` or `ValueError`; `why` says it in a few words.
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
from collections.abc import Callable, Iterable
from io import BufferedReader
from itertools import chain
from pathlib import Path
from typing import Any

import yaml

MOST_BYTES = 64 << 20
"""Of JSON; the index of a model with 200,000 tensors has 30 MB."""
MOST_TEXT = 1 << 30
MOST_YAML = 256 << 10
"""YAML is read slowly: this much takes a second or two."""
MOST_PARTS = 2_000_000
"""Values in a JSON file, which take a hundred bytes of memory each."""
MOST_NODES = 100_000
"""Values in a YAML file, with what its aliases repeat."""
MOST_LEVELS = 64
HALF_LETTERS = re.compile("[\ud800-\udfff]")
Pairs = Callable[[list[tuple[str, Any]]], Any]


def open_regular(file: Path, follow: bool = True) -> BufferedReader:
    """Open a file to read its bytes; pipes, devices and folders are refused without waiting for them.

    Args:
        follow: take the file that a link leads to; otherwise links are refused.

    Raises:
        OSError: when there is none, or it can't be read.
        ValueError: when no file can have that name.
    """
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW))
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return open(descriptor, "rb")
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(file))
    raise OSError(errno.EINVAL, "it is no regular file", str(file))


def read_bytes(file: Path, most: int = MOST_BYTES, follow: bool = True) -> bytes:
    """Return the content of a regular file of at most `most` bytes.

    Raises:
        OSError: when there is none, it can't be read, or is larger.
        ValueError: when no file can have that name.
    """
    with open_regular(file, follow) as stream:
        data = stream.read(most + 1)
    if len(data) > most:
        raise OSError(errno.EFBIG, f"it has more than {most:,} bytes", str(file))
    return data


def read_text(file: Path, most: int = MOST_BYTES) -> str:
    """Return what a regular UTF-8 file of at most `most` bytes says.

    Raises:
        OSError: when there is none, it can't be read, or is larger.
        ValueError: when it isn't UTF-8.
    """
    return _newlines(read_bytes(file, most).decode("utf-8"))


def read_json(file: Path, most: int = MOST_BYTES) -> Any:
    """Return the value in a JSON file.

    Raises:
        OSError: when there is none, it can't be read, or is larger than `most` bytes.
        ValueError: when it isn't JSON, or what no honest file holds.
    """
    return parsed_json(read_bytes(file, most))


def parsed_json(text: str | bytes, pairs: Pairs | None = None) -> Any:
    """Return the value that JSON text stands for.

    Args:
        pairs: makes an object of its names and values.

    Raises:
        ValueError: when it isn't JSON, nested too deeply, of too many parts, or holds halves of letters.
    """
    text = text.decode("utf-8") if isinstance(text, bytes) else text
    if sum(map(text.count, ",[{")) > MOST_PARTS:
        raise ValueError(f"it has more than {MOST_PARTS:,} parts")
    try:
        return _shallow(json.loads(text, object_pairs_hook=pairs))
    except RecursionError as error:
        raise ValueError(_too_deep()) from error


def read_yaml(file: Path) -> Any:
    """Return the value in a YAML file.

    Raises:
        OSError: when there is none, it can't be read, or is too large.
        ValueError: when it isn't YAML, or what no honest file holds.
    """
    return parsed_yaml(read_text(file, MOST_YAML))


def parsed_yaml(text: str) -> Any:
    """Return the value that YAML text stands for.

    Raises:
        ValueError: when it isn't YAML, nested too deeply, or too large with all that aliases repeat.
    """
    if len(text) > MOST_YAML:
        raise ValueError(f"it has more than {MOST_YAML:,} letters")
    try:
        return _shallow(yaml.load(text, _CountingLoader))
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(_one_line(error)) from error
    # A tag promises a form, and what has another one breaks its constructor in any way.
    except (ArithmeticError, AttributeError, LookupError, TypeError) as error:
        raise ValueError("a tag doesn't fit what it stands before") from error


def why(error: Exception) -> str:
    """Return in one line what was wrong with a file."""
    if isinstance(error, UnicodeDecodeError):
        return f"it isn't UTF-8, byte {error.start}"
    return (isinstance(error, OSError) and error.strerror) or _one_line(error)


class _CountingLoader(yaml.SafeLoader):
    """Counts what it reads, an alias as often as it is repeated."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.levels = self.nodes = 0
        self.sizes: dict[int, int] = {}

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Read one node and all inside."""
        before, repeated = self.nodes, self.check_event(yaml.AliasEvent)
        self.nodes += 1
        self.levels += 1
        if self.levels > MOST_LEVELS:
            raise ValueError(_too_deep())
        node = super().compose_node(parent, index)
        self.levels -= 1
        if repeated:  # One that is repeated inside itself has no size yet, and would have no end.
            self.nodes += self.sizes.get(id(node), MOST_NODES)
        if self.nodes > MOST_NODES:
            raise ValueError(f"it has more than {MOST_NODES:,} parts")
        self.sizes.setdefault(id(node), self.nodes - before)
        return node


def _shallow(data: Any) -> Any:
    """Return a value that is neither nested too deeply nor holds text that no file can hold."""
    level = [data]
    for _ in range(MOST_LEVELS):
        if any(HALF_LETTERS.search(item) for item in level if isinstance(item, str)):
            raise ValueError("it holds halves of letters (lone surrogates)")
        level = [inner for item in level for inner in _inside(item)]
        if not level:
            return data
    raise ValueError(_too_deep())


def _inside(item: Any) -> Iterable[Any]:
    if isinstance(item, dict):
        return chain(item.keys(), item.values())
    return item if isinstance(item, list | tuple | set) else ()


def _newlines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300].rstrip(". ") or type(error).__name__


def _too_deep() -> str:
    return f"it is nested more than {MOST_LEVELS} levels deep"
