"""The text that a choice is to follow: the user's file, or examples that the model writes of a task."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path

import torch

from prunepolicy.pruning.checkpoint.context import context_of
from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.io.atomic import write_text
from prunepolicy.pruning.io.cache import cache_folder, made_once
from prunepolicy.pruning.io.text_file import read_text
from prunepolicy.pruning.session.model_session import ModelSession
from prunepolicy.pruning.statistics.probe import start_token
from prunepolicy.pruning.statistics.writing import continued
from prunepolicy.pruning.statistics.written_texts import asked

FEWEST_WORDS = 3
"""That describe a task; fewer are rather a mistyped name."""
MOST_WORDS = 2000
REQUESTS = (
    "{task}",
    "Give an example of this task and do it: {task}",
    "Give another, longer example of this task, with its answer: {task}",
    "Write a text that somebody who does this would read or write: {task}",
)
EXAMPLES, LENGTH, TEMPERATURE = 8, 128, 0.9
FILE = "examples.txt"


def examples_file(wanted: str) -> Path | None:
    """Return the file that the user means; None where the words are a task.

    Raises:
        UsageError: when they are neither: a file that isn't there or isn't text, a folder, too few words.
    """
    file = Path(wanted)
    try:
        if file.exists():
            if "\0" in read_text(file, "text of --for"):
                raise UsageError(f"Can't read the text of --for {file}: it is binary.")
            return file
    except OSError:  # No file can have so long a name.
        pass
    words = wanted.split()
    if len(words) < FEWEST_WORDS or _is_path(wanted):
        raise UsageError(
            f"There is no file {wanted!r:.120}, and it reads like no task; --for takes a file, or a task "
            'in words, such as "Answer support tickets about invoices".'
        )
    if len(words) > MOST_WORDS:
        raise UsageError(f"A task has at most {MOST_WORDS:,} words; put a longer text into a file.")
    return None


def _is_path(wanted: str) -> bool:
    """Return whether words with spaces look like the path of a file."""
    return wanted.startswith(("/", "./", "../", "~")) or re.search(r"/\S*\.\w{1,5}$", wanted) is not None


def written_examples(session: ModelSession, task: str, seed: int) -> Path:
    """Return a file with examples that the model has written of a task; once written, it is cached."""
    model, tokenizer = session.model, session.tokenizer
    start = start_token(model, tokenizer)
    requests = [request.format(task=task) for request in REQUESTS]
    beginnings = [asked(model, tokenizer, request, start) for request in requests]

    def write(folder: Path) -> None:
        generator = torch.Generator().manual_seed(seed)
        longest = max(map(len, beginnings))
        length = min(longest + LENGTH, context_of(model))
        rows = [beginnings[place % len(beginnings)][: length - 1] for place in range(EXAMPLES)]
        with session.progress.step("examples of the task", EXAMPLES * (length - 1)) as tick:
            tokens = continued(model, rows, length, generator, TEMPERATURE, tick)
        texts = [
            tokenizer.decode(text[len(row) :], skip_special_tokens=True)
            for text, row in zip(tokens, rows, strict=True)
        ]
        write_text(folder / FILE, "\n\n".join([task, *texts]) + "\n")

    name = _name_of([session.checkpoint.fingerprint, str(session.dtype), requests, seed])
    return made_once(name, write, cache_folder() / "examples") / FILE


def _name_of(key: Sequence[object]) -> str:
    return hashlib.sha256(json.dumps(key).encode()).hexdigest()[:32]
