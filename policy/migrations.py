"""How a `policy.json` of an earlier schema becomes one of today's, and which version reads a later one."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from prunepolicy.pruning.errors import PrunePolicyError

POLICY_SCHEMA = 2
RELEASE = re.compile(r"[0-9]{1,4}(\.[0-9]{1,4}){0,3}[a-z0-9.+]{0,40}", re.ASCII)
Data = dict[str, Any]


def _name_versions(data: Data) -> Data:
    """1 to 2: say in which versions the policy observes networks and acts; until then there was one."""
    return {**data, "observation_version": 1, "action_version": 1, "written_by": "0.1.0"}


MIGRATIONS: dict[int, Callable[[Data], Data]] = {1: _name_versions}
"""By schema: the step to the next one. Steps are never changed, and every schema that was ever released
keeps its frozen policies in `tests/fixtures/`."""


def migrate(data: Data, where: str) -> Data:
    """Return the content of a `policy.json` in today's schema.

    Raises:
        PrunePolicyError: when its schema is a later one; the sentence says which version reads it.
    """
    version = data.get("schema_version")
    if type(version) is int and version > POLICY_SCHEMA:
        raise PrunePolicyError(
            f"{where} has the policy schema {version}, this version reads up to {POLICY_SCHEMA}: "
            f"install {reader_of(data.get('written_by'))}."
        )
    while type(version) is int and version in MIGRATIONS:
        data = {**MIGRATIONS[version](data), "schema_version": version + 1}
        version += 1
    return data


def reader_of(written_by: Any) -> str:
    """Return the version of this package that reads what `written_by` wrote, as words."""
    if isinstance(written_by, str) and RELEASE.fullmatch(written_by):
        return f"prunepolicy {written_by} or newer"
    return "a newer prunepolicy"
