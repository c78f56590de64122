"""What every policy is: from a unit graph, statistics and a budget to a plan; saved as data."""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from torch import Tensor

from prunepolicy.policy.hub_methods import HubMethods
from prunepolicy.policy.migrations import POLICY_SCHEMA, RELEASE, migrate
from prunepolicy.policy.weights import WEIGHTS_FILE, checked_weights, read_regular, write_tensors
from prunepolicy.pruning.budget_meter import Meter
from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.criteria import Need
from prunepolicy.pruning.errors import PrunePolicyError, UsageError, did_you_mean
from prunepolicy.pruning.io import bounded
from prunepolicy.pruning.io.atomic import write_text
from prunepolicy.pruning.io.machine import own_version
from prunepolicy.pruning.plan import Budget, Plan
from prunepolicy.pruning.registry import Registry
from prunepolicy.pruning.statistics.probe import Probe
from prunepolicy.pruning.statistics.stats import Stats
from prunepolicy.pruning.units import UnitGraph, UnitGroup

POLICY_FILE: Final = "policy.json"
MOST_BYTES = 1 << 20
"""Of `policy.json`."""
LONGEST_NAME = 255


class PolicyConfig(BaseModel):
    """Settings that all kinds of policy have; every kind adds its own. Unknown keys are refused.

    Attributes:
        repair: name of the repair after the cut, None for none.
        samples: calibration texts (or images).
        length: tokens of each.
        probe: what they are; a policy may come from anywhere, so it names no file.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    repair: str | None = None
    samples: int = Field(default=64, ge=1)
    length: int = Field(default=128, ge=2)
    probe: Literal["self", "varied", "start"] = "self"


@dataclass(frozen=True)
class Provenance:
    """Where a policy came from, for plans and reports.

    Attributes:
        place: `built-in`, `shipped`, `zoo SOURCE` or `folder PLACE`.
        sha256: of its `policy.json`, which names the hash of its weights.
    """

    place: str
    sha256: str

    def __str__(self) -> str:
        return f"{self.place}, SHA-256 {self.sha256[:16]}"


@dataclass(frozen=True)
class Instruments:
    """What a policy may ask for while it plans; it never sees the model itself.

    Attributes:
        refresh: statistics of the network as a plan would leave it, for removal in rounds.
        seconds: measured latency of a keep choice, for latency budgets.
        within: a plan whose kept units are all that may stay, for nested plans.
    """

    refresh: Callable[[Plan], Stats] | None = None
    seconds: Meter | None = None
    within: Plan | None = None


class Policy(HubMethods):
    """Decides what stays.

    Attributes:
        config_type: settings of the kind.
        observation_version: of what the kind reads of a network; counts up when the same weights would
            see something else.
        action_version: of what its answers mean; counts up when the same answers would do something else.
        config: everything needed to build it again, but what it has learned.
        name: what plans and reports call it.
        provenance: where it was found under that name; None for one that was made here.
    """

    provenance: Provenance | None = None
    config_type: ClassVar[type[PolicyConfig]]
    observation_version: ClassVar[int] = 1
    action_version: ClassVar[int] = 1
    config: PolicyConfig
    name: str

    def __init__(self, config: PolicyConfig | None = None, name: str = "") -> None:
        self.config = config or self.config_type()
        self.name = name or self.kind

    @classmethod
    def restore(cls, stored: StoredPolicy, config: Any, name: str) -> Self:
        """Build the policy from its checked configuration; one with `weights` takes them from `stored`."""
        return cls(config, name)

    @property
    def probe(self) -> Probe:
        """The calibration data of the policy."""
        return Probe(self.config.probe, self.config.samples, self.config.length)

    @property
    def repair(self) -> str | None:
        """Name of the repair that follows the cut."""
        return self.config.repair

    def in_rounds(self, rounds: int) -> Self:
        """Return this policy, deciding in `rounds` steps with statistics recomputed after each.

        Raises:
            UsageError: for a senseless number, and where the policy plans in one shot.
        """
        raise UsageError(f"The policy {self.name!r} plans in one shot; leave out --rounds.")

    @property
    def rewrites(self) -> bool:
        """Whether the network is to be changed by `rewritten` before it is measured and planned for."""
        return False

    def rewritten(self, checkpoint: Checkpoint, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return a network's tensors as they are to be when the policy plans; most policies change none.

        Args:
            checkpoint: describes the network.
            weights: all its tensors, by the running model's names.
        """
        return weights

    def read(self, checkpoint: Checkpoint) -> Stats:
        """Return what the policy itself sees in a network's weights; most look at other statistics only."""
        return Stats()

    def groups(self, graph: UnitGraph, budget: Budget) -> tuple[UnitGroup, ...]:
        """Return the groups that may lose units under `budget`: those it names, or all."""
        return graph.of_kind(*budget.kinds) if budget.kinds else graph.groups

    def check(self, graph: UnitGraph, budget: Budget, instruments: Instruments | None = None) -> None:
        """Raise what `plan` would raise whatever the statistics say; nothing has to be collected for it.

        Raises:
            UsageError: when the network has no unit that may go, or the policy can't plan for such a budget.
            BudgetError: when the budget can't be met.
        """
        self.groups(graph, budget)

    @abstractmethod
    def needs(self, graph: UnitGraph, budget: Budget) -> set[Need]:
        """Return the statistics that have to be collected before `plan`."""

    @abstractmethod
    def plan(
        self, graph: UnitGraph, stats: Stats, budget: Budget, instruments: Instruments | None = None
    ) -> Plan:
        """Decide which units stay; the budget is met from below."""

    @property
    def kind(self) -> str:
        """Registered name of the policy's kind: that of its file."""
        return type(self).__module__.rsplit(".", 1)[-1]

    def weights(self) -> Mapping[str, Tensor]:
        """Return what the policy has learned, for `save`; nothing for one that doesn't learn."""
        return {}

    def with_settings(self, **changes: Any) -> Self:
        """Return this policy with some settings changed; it shares what it has learned."""
        changed = copy(self)
        changed.config = self.config.model_copy(update=changes)
        return changed

    def save(self, folder: Path) -> None:
        """Write the policy to `folder` as data that can't run code: JSON, and safetensors beside it."""
        tensors = self.weights()
        sha256 = write_tensors(folder / WEIGHTS_FILE, tensors) if tensors else None
        write_text(folder / POLICY_FILE, self.described(sha256))

    def described(self, weights_sha256: str | None = None) -> str:
        """Return the text of `policy.json`."""
        data = {
            "schema_version": POLICY_SCHEMA,
            "observation_version": self.observation_version,
            "action_version": self.action_version,
            "written_by": own_version(),
            "kind": self.kind,
            "name": self.name,
            "config": self.config.model_dump(mode="json"),
            "weights_sha256": weights_sha256,
        }
        return json.dumps(data, indent=2, sort_keys=True) + "\n"


def _fit_to_print(name: str) -> str:
    if not name.isprintable() or len(name) > LONGEST_NAME:
        raise ValueError(f"a name has at most {LONGEST_NAME} characters, all of them printable")
    return name


class PolicyFile(BaseModel):
    """The content of `policy.json`; earlier schemas are migrated to this one."""

    model_config = ConfigDict(extra="forbid")
    schema_version: Literal[2]
    observation_version: Annotated[int, Field(ge=1)]
    action_version: Annotated[int, Field(ge=1)]
    written_by: Annotated[str, StringConstraints(pattern=f"^{RELEASE.pattern}$")]
    kind: str
    name: Annotated[str, AfterValidator(_fit_to_print)]
    config: dict[str, Any]
    weights_sha256: str | None = None


policies: Registry[type[Policy]] = Registry("policy kind", "prunepolicy.policy.kinds")


def read_policy_file(folder: Path) -> PolicyFile:
    """Read and check the `policy.json` of a folder.

    Raises:
        PrunePolicyError: when it is missing, damaged, or of another schema.
    """
    return StoredPolicy.read(folder).file


def parsed_policy(text: bytes, where: str) -> PolicyFile:
    """Check the content of a `policy.json`, which `where` is called.

    Raises:
        PrunePolicyError: when it is damaged or of a later schema.
    """
    try:
        data = bounded.parsed_json(text)
    except ValueError as error:
        raise PrunePolicyError(f"{where} is not a policy: {bounded.why(error)}.") from error
    if not isinstance(data, dict):
        raise PrunePolicyError(f"{where} is not a policy: it holds no object.")
    try:
        return PolicyFile.model_validate(migrate(data, where))
    except ValidationError as error:
        raise PrunePolicyError(f"{where} is not a policy: {sentence_of(error, PolicyFile)}.") from error


@dataclass(frozen=True)
class StoredPolicy:
    """The files of a policy, read once: the bytes that are checked are the bytes that are used.

    Attributes:
        place: where they come from, as `Provenance` says it.
        folder: where they lie, for sentences.
        files: contents by name.
    """

    place: str
    folder: Path
    files: Mapping[str, bytes]

    @classmethod
    def read(cls, folder: Path) -> StoredPolicy:
        """Read the files of a folder that nobody vouches for.

        Raises:
            PrunePolicyError: when one is missing, a link, or too large.
        """
        text = read_regular(folder / POLICY_FILE, MOST_BYTES)
        stored = cls(f"folder {folder}", folder, {POLICY_FILE: text})
        if stored.file.weights_sha256 is None:
            return stored
        return replace(stored, files={**stored.files, WEIGHTS_FILE: read_regular(folder / WEIGHTS_FILE)})

    @cached_property
    def file(self) -> PolicyFile:
        """The checked `policy.json`.

        Raises:
            PrunePolicyError: when it is damaged or of a later schema.
        """
        return parsed_policy(self.files[POLICY_FILE], str(self.folder / POLICY_FILE))

    @property
    def provenance(self) -> Provenance:
        """What plans and reports say of it."""
        return Provenance(self.place, hashlib.sha256(self.files[POLICY_FILE]).hexdigest())

    def weights(self, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the weights, which must have the names and shapes of `like`.

        Raises:
            PrunePolicyError: when they are missing, changed, of other shapes, or no numbers.
        """
        data, where = self.files.get(WEIGHTS_FILE, b""), str(self.folder / WEIGHTS_FILE)
        return checked_weights(data, self.file.weights_sha256, like, where)


def sentence_of(error: ValidationError, model: type[BaseModel]) -> str:
    """Return the first validation error as text, with the nearest known key for an unknown one."""
    first = error.errors()[0]
    place = ".".join(map(str, first["loc"])) or "the file"
    place = "".join(letter if letter.isprintable() else "?" for letter in place[:80])
    hint = did_you_mean(place, model.model_fields) if first["type"] == "extra_forbidden" else ""
    return f"{place}: {first['msg']}{'.' + hint.rstrip('.') if hint else ''}"
