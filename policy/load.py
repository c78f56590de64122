"""Find a policy by what a user calls it: a folder, the name of a criterion or of a policy of the zoo."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from prunepolicy.policy.base import (
    POLICY_FILE,
    Policy,
    PolicyFile,
    policies,
    read_policy_file,
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
        source: a folder with a `policy.json`, the folder of a training run (its best policy, or its last
            as long as none was judged), the name of a criterion (the heuristic policy of that criterion),
            of a search (`greedy`, `qubo`), `default` (the best heuristic on held-out text), the name of
            a policy that ships, or `zoo:` and the name of one in the configured zoo, which is pulled on
            first use. Versions and tags may be left out where that leaves one policy only.

    Raises:
        UsageError: when there is no such policy; the nearest name is suggested.
        PrunePolicyError: when the folder's policy is damaged, one of the zoo was changed or can't be had.
    """
    if str(source).startswith(ZOO_PREFIX):
        return _from_zoo(str(source).removeprefix(ZOO_PREFIX))
    place = Path(source)
    for folder in (place, place / "best", place / "last"):
        if (folder / POLICY_FILE).is_file():
            return load_policy_folder(folder)
    if place.is_dir():
        raise PrunePolicyError(f"{place} holds no {POLICY_FILE}, so it is no policy.")
    name = str(source)
    if name == DEFAULT:
        best = HeuristicConfig(per_layer_criterion="fisher", repair="reconstruction", probe="varied")
        return Heuristic(best, DEFAULT)
    if name in criteria:
        return Heuristic(HeuristicConfig(criterion=name))
    if name in SEARCHES:
        return policies[name]()
    return _shipped(name)


def _from_zoo(name: str) -> Policy:
    from prunepolicy.policy.zoo.pull import policy_folder

    return load_policy_folder(policy_folder(name))


def _shipped(name: str) -> Policy:
    from prunepolicy.policy.zoo.identifiers import find
    from prunepolicy.policy.zoo.opened import Zoo
    from prunepolicy.policy.zoo.pull import pull
    from prunepolicy.policy.zoo.settings import PACKAGE

    zoo = Zoo.open(PACKAGE)
    known = zoo.index.policies
    if full_name := find(name, known):
        return load_policy_folder(pull(zoo, full_name))
    raise UsageError(f"There is no policy {name!r}.{did_you_mean(name, [*built_in_policies(), *known])}")


def built_in_policies() -> tuple[str, ...]:
    """Return the names of the policies that plan without having learned anything."""
    return (DEFAULT, *criteria, *SEARCHES)


def load_policy_folder(folder: Path) -> Policy:
    """Read the policy that `Policy.save` wrote.

    Raises:
        UsageError: when its kind is unknown.
        PrunePolicyError: when it is damaged.
    """
    file = read_policy_file(folder)
    kind = policies[file.kind]
    _check_versions(file, kind, folder)
    try:
        config = kind.config_type.model_validate(file.config)
    except ValidationError as error:
        sentence = sentence_of(error, kind.config_type)
        raise PrunePolicyError(f"{folder / POLICY_FILE}: config: {sentence}.") from error
    return kind.restore(folder, config, file.name)


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
