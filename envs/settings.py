"""Settings from outside: checked at once, with one sentence that names what is wrong and what is known."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from prunepolicy.pruning.errors import UsageError, did_you_mean

Checked = TypeVar("Checked", bound=BaseModel)


class EnvSettings(BaseModel):
    """Settings of an environment beside its task; unknown ones are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def checked(kind: type[Checked], settings: Mapping[str, Any], what: str) -> Checked:
    """Return `settings` as `kind` says they should be.

    Args:
        what: whose settings they are, for the sentence.

    Raises:
        UsageError: for an unknown setting, with the nearest one, or a value that it can't have.
    """
    try:
        return kind(**settings)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the whole"
        if first["type"] == "extra_forbidden":
            hint = did_you_mean(place, kind.model_fields)
            raise UsageError(f"{what}: unknown setting {place!r}.{hint}") from error
        if first["type"] == "literal_error":
            hint = did_you_mean(str(first["input"]), re.findall(r"'(.*?)'", first["ctx"]["expected"]))
            raise UsageError(f"{what}: {place} can't be {first['input']!r:.80}.{hint}") from error
        raise UsageError(f"{what}: {place}: {first['msg']}; got {first['input']!r:.80}.") from error


def as_range(keep: Any) -> tuple[float, float]:
    """Return a range of fractions; one fraction is a range without width."""
    try:
        low, high = (keep, keep) if isinstance(keep, int | float) else keep
        if 0 < low <= high <= 1:
            return float(low), float(high)
    except (TypeError, ValueError):
        pass
    raise UsageError(
        f"keep is a fraction above 0 and at most 1, or a range of such fractions; got {keep!r:.80}."
    )


KeepRange = Annotated[tuple[float, float], BeforeValidator(as_range)]
"""From which keep ratios are drawn."""
