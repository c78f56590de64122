"""English prose out of the docstrings of installed packages, and its tokens: text without a download."""

from __future__ import annotations

import ast
import importlib.util
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

PACKAGES = ("torch", "transformers", "numpy", "scipy", "matplotlib", "huggingface_hub", "pydantic", "rich")
NEVER = {"argparse.py"}
"""Files whose text pruned models are evaluated on elsewhere in the project."""

HELD_OUT_EVERY = 20
VOCABULARY = 512
"""Small, so that models of a million parameters learn in minutes more than which words are frequent."""
PAD, START, END = "<pad>", "<s>", "</s>"
Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef

EXAMPLE = re.compile(r"^[ \t]*>>>.*(\n[ \t]*\S.*)*", re.MULTILINE)
"""An interactive session: from its first prompt to the next empty line, what it printed included."""

HEADING = re.compile(r"^.*\n[ \t]*([-=~*^])\1{2,}[ \t]*$", re.MULTILINE)
DIRECTIVE = re.compile(r"^[ \t]*(\.\. |:\w+[^:\n]*:[^`]).*$", re.MULTILINE)
ROLE = re.compile(r"(?::[\w:]+:)?`+~?([^`<]+?)(?: *<[^>`]*>)?`+_*")
SECTIONS = ("Args:", "Arguments:", "Parameters:", "Returns:", "Return:", "Raises:", "Example:", "Note:")


def documents(packages: Sequence[str] = PACKAGES) -> Iterator[str]:
    """Yield the prose of every module that has some; a paragraph appears once in all of it."""
    seen: set[str] = set()
    for package in packages:
        spec = importlib.util.find_spec(package)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            for file in sorted(Path(folder).rglob("*.py"), key=Path.as_posix):
                fresh = [] if file.name in NEVER else unseen(paragraphs(docstrings(file)), seen)
                if fresh:
                    yield "\n\n".join(fresh)


def docstrings(file: Path) -> str:
    """Return the docstrings of a module, which is read and never run."""
    with warnings.catch_warnings(action="ignore"):
        try:
            tree = ast.parse(file.read_bytes())
        except (SyntaxError, ValueError):  # Some packages ship templates that aren't Python yet.
            return ""
    return "\n\n".join(filter(None, map(ast.get_docstring, documented(tree))))


def documented(node: Documented) -> Iterator[Documented]:
    """Yield a module, class or function and those directly in it, in the order of the file."""
    yield node
    for child in node.body:
        if isinstance(child, Documented):
            yield from documented(child)


def paragraphs(text: str) -> Iterator[str]:
    """Yield what reads as English sentences, one line each, without examples, headings and markup."""
    for pattern in (EXAMPLE, HEADING, DIRECTIVE):
        text = pattern.sub("", text)
    for block in re.split(r"\n\s*\n", text):
        paragraph = " ".join(ROLE.sub(r"\1", block).replace("*", "").split())
        if is_prose(paragraph):
            yield paragraph


def is_prose(paragraph: str) -> bool:
    """Return whether most of it is words, and it ends as sentences do."""
    words = paragraph.split()
    plain = sum(word.strip(".,;:!?()'\"").isalpha() for word in words)
    return len(words) >= 8 and plain >= 0.8 * len(words) and paragraph.isascii() and paragraph[-1] in ".:!?"


def unseen(found: Iterator[str], seen: set[str]) -> list[str]:
    """Return the paragraphs that are new, and remember them.

    Those that differ in names and numbers only count as one: model classes are documented by template.
    """
    fresh = {re.sub(r"\S*[A-Z0-9_]\S*", "", paragraph): paragraph for paragraph in found}
    new = [paragraph for key, paragraph in fresh.items() if key not in seen]
    seen.update(fresh)
    return new


def split(texts: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the documents to learn from, and every 20th, to measure with."""
    held_out = texts[HELD_OUT_EVERY - 1 :: HELD_OUT_EVERY]
    return [text for n, text in enumerate(texts, 1) if n % HELD_OUT_EVERY], list(held_out)


def trained_tokenizer(texts: Sequence[str], vocabulary: int = VOCABULARY) -> Any:
    """Return a byte-level tokenizer (byte-pair encoding) with tokens for padding, start and end."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[PAD, START, END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    names = {"pad_token": PAD, "bos_token": START, "eos_token": END}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def token_stream(tokenizer: Any, texts: Sequence[str]) -> Tensor:
    """Return all documents in one row of tokens, each between a start and an end."""
    rows = tokenizer([START + text + END for text in texts], add_special_tokens=False, verbose=False)
    return torch.tensor([token for row in rows["input_ids"] for token in row])
