"""The user's texts to learn from: a text file, or JSON lines with conversations or texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.io import bounded
from prunepolicy.pruning.io.text_file import read_text

JSON_LINES = (".jsonl", ".ndjson")
MOST_LETTERS = 16
"""Per token that is looked for, more than any language needs."""
MESSAGES, TEXT = "messages", "text"
"""Columns of JSON lines: a conversation, a text."""


def documents(file: Path, tokenizer: Any) -> list[str]:
    """Return the documents in a file: all of a text file, every line of JSON lines.

    Conversations are worded by the tokenizer's chat template.

    Raises:
        UsageError: when there is no such file, it has no text, or a line has neither column.
    """
    text = read_text(file, "text to learn from")
    if file.suffix.lower() not in JSON_LINES:
        found = [text] if text.strip() else []
    else:
        found = [document for document in _of_lines(file, text, tokenizer) if document.strip()]
    if not found:
        raise UsageError(f"{file} is empty: there is nothing to learn from in it.")
    return found


def check_length(texts: Sequence[str], file: Path, tokenizer: Any, length: int) -> None:
    """Raise `UsageError` when documents have fewer tokens than two windows; no more are read than that takes.

    Args:
        length: tokens of a window.
    """
    left = 2 * length
    for text in texts:
        ids = tokenizer(text[: MOST_LETTERS * left], add_special_tokens=False, verbose=False)["input_ids"]
        left -= 1 + len(ids)
        if left <= 0:
            return
    raise UsageError(
        f"{file} is too short to learn from: at least two windows of {length} tokens are needed."
    )


def _of_lines(file: Path, text: str, tokenizer: Any) -> Iterator[str]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            where = f"{file}, line {number}"
            yield _document(_object(line, where), where, tokenizer)


def _object(line: str, where: str) -> dict[str, Any]:
    try:
        row = bounded.parsed_json(line)
    except ValueError as error:
        raise UsageError(f"{where} is no JSON: {bounded.why(error)}.") from error
    if not isinstance(row, dict):
        raise UsageError(f"{where} is no JSON object with {MESSAGES!r} or {TEXT!r}.")
    return row


def _document(row: dict[str, Any], where: str, tokenizer: Any) -> str:
    if isinstance(row.get(TEXT), str):
        return str(row[TEXT])
    if MESSAGES not in row:
        names = ", ".join(map(repr, list(row)[:8])) or "none"
        raise UsageError(f"{where} has neither {MESSAGES!r} nor {TEXT!r}; its columns: {names:.200}.")
    messages = row[MESSAGES]
    if not isinstance(messages, list) or not messages or not all(map(_is_message, messages)):
        raise UsageError(f"{where}: {MESSAGES!r} is a list of objects with 'role' and 'content', both texts.")
    return _worded(messages, where, tokenizer)


def _is_message(message: Any) -> bool:
    return isinstance(message, dict) and all(isinstance(message.get(key), str) for key in ("role", "content"))


def _worded(messages: list[dict[str, str]], where: str, tokenizer: Any) -> str:
    """Return a conversation as the model reads it; one turn per line where there is no chat template."""
    if not getattr(tokenizer, "chat_template", None):
        return "\n".join(f"{message['role']}: {message['content']}" for message in messages)
    try:
        return str(tokenizer.apply_chat_template(messages, tokenize=False))
    except Exception as error:  # Templates are programs that raise whatever they like.
        raise UsageError(f"{where}: the model's chat template refuses it: {bounded.why(error)}.") from error
