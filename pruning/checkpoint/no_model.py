"""Names at which no model lies here: whether the hub is worth asking, and what else may have been meant."""

from __future__ import annotations

import difflib
import os
import re
from itertools import islice
from pathlib import Path, PurePosixPath

HUB_ID = re.compile(r"\w[\w.-]*(/[\w.-]*\w)?", re.ASCII)
HUB_PAGE = re.compile(r"https?://(?:huggingface\.co|hf\.co)/(\w[\w.-]*/[\w.-]*\w)(?:/.*)?", re.ASCII)
FILES = (".gguf", ".safetensors")
"""Endings of files that a model can be given as."""
SMOLLM2 = "smollm2-135m"
"""The name of the model that comes with a package."""
SMALL_MODELS = (
    "llama-1m",
    "gpt2-1m",
    "gpt_neox-1m",
    "gemma3-2m",
    "phi3-2m",
    "llama-5m",
    "opt-1m",
    "llama-2m",
)
"""What `make models` trains, into models/."""
MOST_NAMES = 1000
MOST_LETTERS = 200
"""Of a name; the hub allows fewer."""


def is_local(model: str) -> bool:
    """Return whether a name at which nothing lies can only mean a path here, never a model on the hub."""
    if (
        len(model) > MOST_LETTERS
        or not HUB_ID.fullmatch(model)
        or model.lower().endswith(FILES)
        or _is_small_model(model)
    ):
        return True
    organisation, slash, _ = model.partition("/")
    return bool(slash) and os.path.isdir(organisation)


def nothing_there(model: str) -> str:
    """Return the sentence about a path at which there is no model."""
    page = HUB_PAGE.fullmatch(model)
    if page:
        return f"{model} is a page; give the hub's name of the model, {page[1]!r}."
    if _is_small_model(model):
        return f"There is no model at {model!r}; `make models` trains the small models into models/."
    return f"There is no model at {model[:MOST_LETTERS]!r}; check the path.{near(model)}"


def near(model: str) -> str:
    """Return a hint at what lies here under a name like `model`, or is an alias like it; empty without."""
    spelt = model.replace("\\", "/").rstrip("/")
    place = Path(os.path.expanduser(spelt))
    try:
        if spelt != model and place.exists():
            return f" Did you mean {spelt!r}?"
        entries = [entry.name for entry in islice(place.parent.iterdir(), MOST_NAMES) if _may_be_model(entry)]
    except (OSError, ValueError, RuntimeError):
        entries = []
    beside = {str(PurePosixPath(spelt).parent / name): name for name in entries}
    known = beside | ({} if "/" in spelt else {SMOLLM2: SMOLLM2})
    close = difflib.get_close_matches(place.name, known.values(), n=3)
    named = sorted(full for full, name in known.items() if name in close)
    return f" Did you mean {' or '.join(map(repr, named))}?" if named else ""


def _may_be_model(entry: Path) -> bool:
    return entry.is_dir() or entry.name.lower().endswith(FILES)


def _is_small_model(model: str) -> bool:
    parts = PurePosixPath(model.replace("\\", "/")).parts[-2:]
    return parts[:1] == ("models",) and parts[-1] in SMALL_MODELS
