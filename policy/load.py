"""Find a policy by what a user calls it: a folder, the name of a criterion or of a policy of the zoo."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from pydantic import ValidationError

from prunepolicy.policy.base import (
    POLICY_FILE,
    Policy,
    PolicyFile,
    Provenance,
    StoredPolicy,
    policies,
    sentence_of,
)
from prunepolicy.policy.kinds.heuristic import Heuristic, HeuristicConfig
from prunepolicy.policy.migrations import reader_of
from prunepolicy.pruning.criteria import criteria
from prunepolicy.pruning.errors import PrunePolicyError, UsageError, did_you_mean

DEFAULT = "default"
ZOO_PREFIX = "zoo:"
"""What stands before the name of a policy that may have to be pulled."""
SEARCHES = ("greedy", "qubo")
"""Kinds that plan without having learned anything."""


def load_policy(source: str | Path) -> Policy:
    """Return the policy called `source`.

    Args:
        source: the name of a criterion (the heuristic policy of that criterion), of a search (`greedy`,
            `qubo`), `default` (the best heuristic on held-out text), the name of a policy that ships, or
            `zoo:` and the name of one in the configured zoo, which is pulled on first use; versions and
            tags may be left out where that leaves one policy only. A `Path`, or text with a separator
            such as `./mine`, is a folder with a `policy.json`, or that of a training run (its best policy,
            or its last as long as none was evaluated). A bare name never means a folder, so that what lies
            in the working directory can't stand in for a policy of that name.

    Raises:
        UsageError: when there is no such policy; the nearest name is suggested.
        PrunePolicyError: when the folder's policy is damaged, one of the zoo was changed or can't be had.
    """
    name = str(source)
    if name.startswith(ZOO_PREFIX):
        return _from_zoo(name.removeprefix(ZOO_PREFIX))
    if isinstance(source, Path) or is_place(name):
        return load_policy_folder(_policy_below(Path(source)))
    if name in built_in_policies():
        policy = _built_in(name)
        policy.provenance = Provenance("built-in", hashlib.sha256(policy.described().encode()).hexdigest())
        return policy
    return _shipped(name)


def is_place(source: str) -> bool:
    """Return whether a user's word for a policy is a path: it has a separator."""
    return os.sep in source


def as_place(folder: str | Path) -> str:
    """Return how a folder is written where a bare name would mean a policy."""
    return str(folder) if is_place(str(folder)) else f".{os.sep}{folder}"


def _policy_below(place: Path) -> Path:
    """Return the folder with the policy of a policy's or a run's folder."""
    for folder in (place, place / "best", place / "last"):
        if (folder / POLICY_FILE).is_file():
            return folder
    if place.is_dir():
        raise PrunePolicyError(f"{place} holds no {POLICY_FILE}, so it is no policy.")
    raise UsageError(f"There is no policy at {place}.")


def _built_in(name: str) -> Policy:
    if name == DEFAULT:
        best = HeuristicConfig(
            per_layer_criterion="fisher",
            token_criterion="token_cost",
            repair="reconstruction",
            probe="varied",
        )
        return Heuristic(best, DEFAULT)
    if name in criteria:
        return Heuristic(HeuristicConfig(criterion=name))
    return policies[name]()


def _from_zoo(name: str) -> Policy:
    from prunepolicy.policy.zoo.pull import find_policy, read_policy

    return load_stored(read_policy(*find_policy(name)))


def _shipped(name: str) -> Policy:
    from prunepolicy.policy.zoo.identifiers import find
    from prunepolicy.policy.zoo.pull import read_policy
    from prunepolicy.policy.zoo.settings import PACKAGE
    from prunepolicy.policy.zoo.zoo_handle import Zoo

    zoo = Zoo.open(PACKAGE)
    known = zoo.index.policies
    if full_name := find(name, known):
        return load_stored(read_policy(zoo, full_name))
    hint = f" For the folder of that name, write .{os.sep}{name}." if Path(name).is_dir() else ""
    raise UsageError(
        f"There is no policy {name!r}.{did_you_mean(name, [*built_in_policies(), *known])}{hint}"
    )


def built_in_policies() -> tuple[str, ...]:
    """Return the names of the policies that plan without having learned anything."""
    return (DEFAULT, *criteria, *SEARCHES)


def load_policy_folder(folder: Path) -> Policy:
    """Read the policy that `Policy.save` wrote.

    Raises:
        UsageError: when its kind is unknown.
        PrunePolicyError: when it is damaged.
    """
    return load_stored(StoredPolicy.read(folder))


def load_stored(stored: StoredPolicy) -> Policy:
    """Build a policy from its files.

    Raises:
        UsageError: when its kind is unknown.
        PrunePolicyError: when it is damaged.
    """
    file = stored.file
    kind = policies[file.kind]
    _check_versions(file, kind, stored.folder)
    try:
        config = kind.config_type.model_validate(file.config)
    except ValidationError as error:
        sentence = sentence_of(error, kind.config_type)
        raise PrunePolicyError(f"{stored.folder / POLICY_FILE}: config: {sentence}.") from error
    policy = kind.restore(stored, config, file.name)
    policy.provenance = stored.provenance
    return policy


def _check_versions(file: PolicyFile, kind: type[Policy], folder: Path) -> None:
    """Refuse a policy that would see, or do, something else here than where it was learned."""
    for what, its, ours in (
        ("observations", file.observation_version, kind.observation_version),
        ("actions", file.action_version, kind.action_version),
    ):
        if its != ours:
            reader = reader_of(file.written_by) if its > ours else f"prunepolicy {file.written_by}"
            raise PrunePolicyError(
                f"{folder} was learned for version {its} of the {what} of {file.kind} policies, "
                f"this prunepolicy has version {ours}: install {reader}."
            )
