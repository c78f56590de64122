"""What was found out about a configuration, kept between runs: the trial takes seconds."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from prunepolicy.pruning.adapters.base import Config
from prunepolicy.pruning.adapters.derived.adapter import DerivedAdapter
from prunepolicy.pruning.adapters.derived.derive import NoTrialError, derive
from prunepolicy.pruning.adapters.derived.offer import Findings
from prunepolicy.pruning.errors import UnsupportedModelError
from prunepolicy.pruning.io import bounded
from prunepolicy.pruning.io.cache import cache_folder, recalled, remember, trim
from prunepolicy.pruning.io.machine import versions
from prunepolicy.pruning.units import KIND_NAMES

__all__ = ["NoTrialError", "derived_adapter", "findings_of"]

MOST_BYTES = 1 << 20
MOST_KEPT = 16 << 20
"""Bytes of all entries together."""
SCHEMA = 4
"""Raised when what is derived changes, so that earlier entries count no more."""


def derived_adapter(config: Config) -> DerivedAdapter:
    """Return an adapter that offers what a network of this configuration was seen to do without.

    Raises:
        UnsupportedModelError: when that is nothing; the sentence says why.
    """
    found = findings_of(config)
    if not found.offers:
        raise UnsupportedModelError(
            f"No adapter knows model type {config.get('model_type')!r}, and its configuration shows "
            f"nothing that can go. {reasons(found)}"
        )
    adapter = DerivedAdapter(config, found)
    adapter.notice = (
        f"No adapter knows model type {config.get('model_type')!r}; what can go was derived from its "
        f"configuration and tried on a small random copy. {reasons(found)}"
    ).rstrip()
    return adapter


def reasons(found: Findings) -> str:
    """Return a sentence for every kind of unit that isn't offered."""
    return " ".join(f"{KIND_NAMES[kind]} stay: {why}." for kind, why in found.refusals.items())


def findings_of(config: Config) -> Findings:
    """Return what a network can lose, from the cache where an earlier run has found it out.

    Raises:
        UnsupportedModelError: when transformers can't build it, or no small copy of it runs.
    """
    file = _file(config)
    found = recalled(file, _read)
    if found is None:
        found = derive(config)
        remember(file, found.model_dump_json(indent=1).encode())
        trim(file.parent, MOST_KEPT)
    return found


def _read(file: Path) -> Findings:
    return Findings.model_validate(bounded.read_json(file, MOST_BYTES))


def _file(config: Config) -> Path:
    """Return the file of a configuration under the versions that are installed."""
    known = [SCHEMA, versions("transformers", "torch"), config]
    digest = hashlib.sha256(json.dumps(known, sort_keys=True, default=str).encode()).hexdigest()
    model_type = "".join(
        letter for letter in str(config.get("model_type")) if letter.isalnum() or letter in "-_"
    )
    return cache_folder() / "derived" / f"{model_type[:60]}-{digest[:32]}.json"
