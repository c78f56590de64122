"""Models by their names on the hub: fetched into its cache, with a sentence for whatever is in the way."""

from __future__ import annotations

import logging
from pathlib import Path

from prunepolicy.pruning.checkpoint.checkpoint import CONFIG, INDEX, WEIGHTS, has_weights, read_json
from prunepolicy.pruning.checkpoint.model_files import BEHIND, CACHE, NOT_FETCHED, module_folders
from prunepolicy.pruning.checkpoint.no_model import near
from prunepolicy.pruning.checkpoint.no_weights import instead_of_weights
from prunepolicy.pruning.errors import BadCheckpointError, NoWeightsError, PrunePolicyError

logger = logging.getLogger(__name__)

TIMEOUT = 10.0
"""Seconds for a question whose answer only makes a sentence better."""


def fetch_from_hub(model: str, revision: str | None) -> Path:
    """Return the folder of the hub's cache that holds `model`, after fetching what belongs to it.

    Raises:
        NoWeightsError: when the repository holds no weights in safetensors.
        PrunePolicyError: when there is no such model, or it can't be had.
    """
    try:
        return _checked(model, revision, _snapshot(model, revision))
    except PrunePolicyError:
        raise
    # The HTTP client's own errors pass through the hub's client and share no base with the hub's.
    except Exception as error:
        if not hasattr(error, "snapshot_path"):
            raise PrunePolicyError(sentence_about(model, revision, error)) from error
        folder = _checked(model, revision, Path(error.snapshot_path))
        logger.warning("The hub's cache holds %s only in part, and the hub can't be reached.", model)
        return folder


def _snapshot(model: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download

    folder = Path(snapshot_download(model, revision=revision, ignore_patterns=list(NOT_FETCHED)))
    modules = [f"{name}/*" for name in module_folders(folder)]
    if modules:  # All their weights belong to the model, whatever the format.
        hidden = list(BEHIND[CACHE])
        snapshot_download(model, revision=revision, allow_patterns=modules, ignore_patterns=hidden)
    return folder


def _checked(model: str, revision: str | None, folder: Path) -> Path:
    """Return `folder`, or say what keeps it from being a model."""
    missing = _missing(folder)
    if not missing:
        return folder
    names = _names(model, revision)
    if names is None:
        raise BadCheckpointError(
            f"The hub's cache holds only a part of {model!r}, without {missing[0]}, and the hub can't be "
            f"reached; fetch the rest where it can, with `hf download {model}`."
        )
    if has_weights(folder):
        return folder  # The repository itself is damaged; opening the folder says how.
    raise NoWeightsError(instead_of_weights(f"The hub's {model!r}", names, folder), folder)


def _missing(folder: Path) -> list[str]:
    """Return what every model folder has, and this one lacks."""
    if not has_weights(folder):
        return ["weights in safetensors"]
    names = [CONFIG]
    if not (folder / WEIGHTS).is_file():
        shards = read_json(folder / INDEX).get("weight_map")
        names += sorted({str(shard) for shard in shards.values()}) if isinstance(shards, dict) else []
    return [name for name in names if not (folder / name).is_file()]


def _names(model: str, revision: str | None) -> list[str] | None:
    """Return the paths of all files of a repository; None where the hub can't be asked."""
    from huggingface_hub import HfApi

    try:
        return list(HfApi().list_repo_files(model, revision=revision))
    except Exception:
        return None


def _is_something_else(model: str) -> str | None:
    """Return what else the hub has by that name: a data set or a space."""
    from huggingface_hub import HfApi

    for kind in ("dataset", "space"):
        try:
            HfApi().repo_info(model, repo_type=kind, timeout=TIMEOUT)
        except Exception:
            continue
        return kind
    return None


def sentence_about(model: str, revision: str | None, error: Exception) -> str:
    """Say what went wrong between us and the hub, and what to do about it."""
    from huggingface_hub import constants, errors

    if isinstance(error, errors.GatedRepoError):
        return f"{model!r} is gated: accept its terms on its hub page, then log in with `hf auth login`."
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{model!r} has no revision {revision!r} on the hub; check the branch, tag or commit."
    status, local = _status(error), isinstance(error, errors.LocalEntryNotFoundError)
    if isinstance(error, errors.RepositoryNotFoundError) or (local and status == 404):
        return _no_such(model)
    if status in (401, 403):
        return f"The hub refuses {model!r} to the login stored here; log in again with `hf auth login`."
    if constants.is_offline_mode():
        return (
            f"There is no folder {model!r} here, the hub's cache lacks it, and HF_HUB_OFFLINE forbids a "
            "download; give a local folder or unset HF_HUB_OFFLINE."
        )
    if local:
        state = f"answers with error {status}" if status else "can't be reached"
        return f"The hub {state} and its cache lacks {model!r}; try again online or give a folder."
    reason = next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")
    return f"Can't get {model!r} from the hub: {reason}."


def _status(error: Exception) -> int | None:
    """Return the HTTP status behind an error of the hub's client."""
    answers = (getattr(known, "response", None) for known in (error, error.__cause__))
    return next((answer.status_code for answer in answers if answer is not None), None)


def _no_such(model: str) -> str:
    kind = _is_something_else(model)
    if kind is not None:
        return f"{model!r} is a {kind} on the hub and no model; check the name."
    return (
        f"There is no folder {model!r} here and no such model on the hub; check the name, "
        f"or log in with `hf auth login` if it is private.{near(model)}"
    )
