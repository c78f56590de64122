"""How much may stay (Budget) and what stays (Plan); both are plain data."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from html import escape
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from prunepolicy.pruning.errors import PrunePolicyError, UsageError, did_you_mean
from prunepolicy.pruning.io import bounded
from prunepolicy.pruning.io.atomic import write_text
from prunepolicy.pruning.units import VOCABULARY, UnitGraph, UnitGroup

Of = Literal[
    "params", "flops", "memory", "latency", "ffn", "heads", "layers", "experts", "channels", "vocabulary"
]
KIND_OF = {
    "ffn": ("ffn",),
    "heads": ("kv_head", "query_head"),
    "layers": ("layer",),
    "experts": ("expert",),
    "channels": ("channel",),
    "vocabulary": (VOCABULARY,),
}
PLAN_SCHEMA = 1
MOST_UNITS = 1_000_000
"""No layer is wider; a plan file that says so would only fill the memory."""
MOST_IN_ALL = 1 << 25
MOST_SAMPLES = 1_000_000


@dataclass(frozen=True)
class Budget:
    """The share of something named that may stay.

    Attributes:
        keep: fraction in (0, 1].
        of: `params`, `flops`, `memory`, `latency`, or a unit kind.
        context: tokens in the KV-cache, for `of="memory"`.
        uniform: keep equal widths in all layers, so that plain runtimes load the result.
        units: kinds of unit that may go (`ffn`, `heads`, ...); empty leaves it to the policy.
        multiple_of: widths (and tokens) are multiples of this; None picks the largest power of two up to 128
            that still meets the budget within 1 %.

    Raises:
        UsageError: for a keep outside (0, 1] or an unknown `of`.
    """

    keep: float
    of: Of = "params"
    context: int = 4096
    uniform: bool = True
    units: tuple[str, ...] = ()
    multiple_of: int | None = None

    def __post_init__(self) -> None:
        if self.of not in get_args(Of):
            raise UsageError(f"Can't keep a share of {self.of!r}.{did_you_mean(self.of, get_args(Of))}")
        if not 0 < self.keep <= 1:
            percent = f" {self.keep:g} % is {self.keep / 100:g}." if 2 <= self.keep < 100 else ""
            raise UsageError(
                f"keep is the fraction that stays, above 0 and at most 1; got {self.keep:g}.{percent}"
            )
        if self.context < 0:
            raise UsageError(f"context is a number of tokens, 0 or more; got {self.context}.")
        for unit in self.units:
            if unit not in KIND_OF:
                raise UsageError(f"Unknown unit kind {unit!r}.{did_you_mean(unit, KIND_OF)}")
        if self.multiple_of is not None and self.multiple_of < 1:
            raise UsageError(f"multiple-of must be at least 1; got {self.multiple_of}.")

    def __str__(self) -> str:
        return f"keep {self.keep:g} of {self.of}"

    @property
    def kinds(self) -> tuple[str, ...]:
        """Unit kinds (of `UnitGroup.kind`) that this budget names; empty when it names none."""
        named = (self.of,) if self.of in KIND_OF else self.units
        return tuple(kind for unit in named for kind in KIND_OF[unit])


@dataclass(frozen=True)
class Plan:
    """Which units stay, per group; groups that are not named stay whole.

    Attributes:
        keep: group name to the sorted ids of the units that stay.
        made_by: the policy that decided.
        fingerprint: of the checkpoint it was made for.
        repair: name of the repair that follows the cut, if any.
        settings: what the repair and the policy need to run again (probe, seed), and where that came from.
    """

    keep: Mapping[str, tuple[int, ...]]
    budget: Budget
    made_by: str
    fingerprint: str = ""
    repair: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def decided_by(self) -> str:
        """The policy that decided, where it came from, and the start of its hash."""
        found = self.settings.get("policy")
        if not isinstance(found, Mapping):
            return self.made_by
        said = f"{self.made_by} ({found.get('place')}, SHA-256 {str(found.get('sha256'))[:16]})"
        return "".join(letter for letter in said if letter.isprintable())

    def counts(self, graph: UnitGraph) -> dict[str, int]:
        """Return how many units of every group stay."""
        return {group.name: len(self.kept(group)) for group in graph.groups}

    def kept(self, group: UnitGroup) -> tuple[int, ...]:
        """Return the ids of the units of `group` that stay."""
        return self.keep.get(group.name, tuple(range(group.size)))

    def is_uniform(self, graph: UnitGraph) -> bool:
        """Return whether every tie keeps equal numbers, so that a stock configuration can say it."""
        return all(
            len({len(self.kept(group)) for group in self.staying(graph, groups)}) <= 1
            for groups in graph.ties.values()
        )

    def staying(self, graph: UnitGraph, groups: Iterable[UnitGroup]) -> list[UnitGroup]:
        """Return those of `groups` that no layer or expert takes along when it goes."""
        gone = self.dropped_layers(graph)
        return [
            group
            for group in groups
            if group.layer not in gone
            and (group.within is None or group.within[1] in self.kept(graph[group.within[0]]))
        ]

    def _repr_html_(self) -> str:
        """Return what notebooks show: how many units of every group stay."""
        rows = "".join(
            f"<tr><td>{escape(name)}</td><td>{len(kept):,}</td></tr>" for name, kept in self.keep.items()
        )
        title = escape(f"{self.budget}, decided by {self.decided_by}")
        return f"<b>{title}</b><table><tr><th>group</th><th>units that stay</th></tr>{rows}</table>"

    def dropped_layers(self, graph: UnitGraph) -> set[int]:
        """Return the indices of layers that go as a whole."""
        if "layers" not in graph:
            return set()
        return set(range(graph["layers"].size)) - set(self.kept(graph["layers"]))

    def with_fingerprint(self, fingerprint: str) -> Plan:
        """Return this plan, bound to a checkpoint."""
        return replace(self, fingerprint=fingerprint)

    def with_all_tokens(self) -> Plan:
        """Return this plan without what it does to the vocabulary."""
        return replace(self, keep={name: kept for name, kept in self.keep.items() if name != VOCABULARY})

    def check(self, graph: UnitGraph) -> None:
        """Raise `PrunePolicyError` unless this plan fits `graph` (names, ids, floors)."""
        for name, units in self.keep.items():
            if name not in graph:
                raise PrunePolicyError(f"The plan names {name!r}, which this model doesn't have.")
            group = graph[name]
            if list(units) != sorted(set(units)) or not units or not 0 <= units[0] <= units[-1] < group.size:
                raise PrunePolicyError(
                    f"The plan's units for {name!r} must be sorted, distinct and below {group.size}."
                )
            if len(units) < group.floor:
                raise PrunePolicyError(
                    f"The plan keeps {len(units)} of {name!r}; at least {group.floor} must stay."
                )
        # Where layers differ, the configuration states the largest count.
        largest = {tie: max(len(self.kept(g)) for g in groups) for tie, groups in graph.ties.items()}
        if not graph.allows(largest):
            raise PrunePolicyError(
                f"The plan keeps a number of query heads that doesn't divide {graph.heads_divide}, the "
                f"hidden size; configurations of the {graph.family} family don't load then."
            )

    def to_json(self) -> str:
        """Return the plan as JSON text, the same text for the same plan."""
        data = {
            "schema_version": PLAN_SCHEMA,
            "made_by": self.made_by,
            "fingerprint": self.fingerprint,
            "budget": vars(self.budget),
            "repair": self.repair,
            "settings": dict(self.settings),
            "keep": {name: to_ranges(units) for name, units in sorted(self.keep.items())},
        }
        return json.dumps(data, indent=1, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """Read a plan; unknown keys and malformed values raise `PrunePolicyError`."""
        try:
            file = _PlanFile.model_validate(bounded.parsed_json(text))
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "the file"
            if first["type"] == "extra_forbidden":
                file_types: dict[str, type[BaseModel]] = {"budget": _BudgetFile, "settings": _ProbeFile}
                file_type = file_types.get(str(first["loc"][0]), _PlanFile)
                hint = did_you_mean(str(first["loc"][-1]), file_type.model_fields)
                raise PrunePolicyError(f"Not a plan: unknown key {place!r}.{hint}") from error
            raise PrunePolicyError(f"Not a plan: {place}: {first['msg']}.") from error
        except ValueError as error:
            raise PrunePolicyError(f"Not a plan: {bounded.why(error)}.") from error
        return cls(
            _expanded(file.keep),
            Budget(**file.budget.model_dump()),
            file.made_by,
            file.fingerprint,
            file.repair,
            file.settings.model_dump(exclude_unset=True),
        )

    def save(self, path: str | Path) -> None:
        """Write the plan to `path`, whole or not at all."""
        write_text(Path(path), self.to_json())

    @classmethod
    def load(cls, path: str | Path) -> Plan:
        """Read the plan at `path`."""
        try:
            return cls.from_json(bounded.read_text(Path(path)))
        except (OSError, ValueError) as error:
            raise PrunePolicyError(f"Can't read the plan {path}: {bounded.why(error)}.") from error


def to_ranges(units: Iterable[int]) -> str:
    """Write sorted ids as ranges: (0, 1, 2, 5) becomes `0-2,5`."""
    runs: list[list[int]] = []
    for unit in units:
        if runs and unit == runs[-1][1] + 1:
            runs[-1][1] = unit
        else:
            runs.append([unit, unit])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def from_ranges(text: str) -> tuple[int, ...]:
    """Read what `to_ranges` wrote; a malformed or absurdly long list raises `PrunePolicyError`."""
    units: list[int] = []
    try:
        for run in text.split(",") if text else ():
            first, dash, last = run.partition("-")
            start, stop = int(first), int(last if dash else first)
            if stop < start or len(units) + stop - start >= MOST_UNITS:
                raise ValueError(run)
            units.extend(range(start, stop + 1))
    except ValueError as error:
        raise PrunePolicyError(f"Not a list of units: {text[:40]!r}.") from error
    return tuple(units)


def _expanded(written: Mapping[str, str]) -> dict[str, tuple[int, ...]]:
    keep: dict[str, tuple[int, ...]] = {}
    left = MOST_IN_ALL
    for name, ranges in written.items():
        keep[name] = from_ranges(ranges)
        left -= len(keep[name])
        if left < 0:
            raise PrunePolicyError(f"Not a plan: it keeps more than {MOST_IN_ALL:,} units.")
    return keep


class _BudgetFile(BaseModel):
    model_config = ConfigDict(extra="forbid")
    keep: float
    of: Of
    context: int
    uniform: bool
    units: tuple[str, ...]
    multiple_of: int | None


class _ProbeFile(BaseModel):
    model_config = ConfigDict(extra="forbid")
    source: str = "self"
    samples: int = Field(default=1, ge=1, le=MOST_SAMPLES)
    length: int = Field(default=2, ge=2, le=MOST_SAMPLES)
    seed: int = Field(default=0, ge=-(1 << 63), lt=1 << 63)
    languages: str = Field(default="", max_length=1000)


class _SettingsFile(BaseModel):
    model_config = ConfigDict(extra="allow")
    probe: _ProbeFile = _ProbeFile()
    recover: (
        Annotated[int, Field(ge=0, le=MOST_SAMPLES)] | Annotated[str, Field(pattern=r"^[\w. ]{1,40}$")]
    ) = 0
    recover_with: Literal["weights", "lora"] = "weights"
    on: str | None = None


class _PlanFile(BaseModel):
    model_config = ConfigDict(extra="forbid")
    schema_version: Literal[1]
    made_by: str
    fingerprint: str
    budget: _BudgetFile
    repair: str | None
    settings: _SettingsFile
    keep: dict[str, str]
