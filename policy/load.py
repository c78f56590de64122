"""Find a policy by what a user calls it: a folder, the name of a criterion or of a shipped policy."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from prunepolicy.policy.base import POLICY_FILE, Policy, policies, read_policy_file, sentence_of
from prunepolicy.policy.kinds.heuristic import Heuristic, HeuristicConfig
from prunepolicy.policy.shelf import shipped
from prunepolicy.pruning.criteria import criteria
from prunepolicy.pruning.errors import PrunePolicyError, UsageError, did_you_mean

DEFAULT = "default"
SEARCHES = ("greedy", "qubo")
"""Kinds that plan without having learned anything."""


def load_policy(source: str | Path) -> Policy:
    """Return the policy called `source`.

    Args:
        source: a folder with a `policy.json`, the folder of a training run (its best policy, or its last
            as long as none was judged), the name of a criterion (the heuristic policy of that criterion),
            of a search (`greedy`, `qubo`), `default` (the best heuristic on held-out text), or the name of
            a shipped policy, whose version may be left out where there is only one.

    Raises:
        UsageError: when there is no such policy; the nearest name is suggested.
        PrunePolicyError: when the folder's policy is damaged, or a shipped one was changed.
    """
    place = Path(source)
    for folder in (place, place / "best", place / "last"):
        if (folder / POLICY_FILE).is_file():
            return load_policy_folder(folder)
    if place.is_dir():
        raise PrunePolicyError(f"{place} holds no {POLICY_FILE}, so it is no policy.")
    name = str(source)
    if name == DEFAULT:
        return Heuristic(HeuristicConfig(per_layer_criterion="fisher", repair="ridge"), DEFAULT)
    if name in criteria:
        return Heuristic(HeuristicConfig(criterion=name))
    if name in SEARCHES:
        return policies[name]()
    shelf = shipped()
    if full_name := shelf.find(name):
        return load_policy_folder(shelf.verified(full_name))
    raise UsageError(
        f"There is no policy {name!r}.{did_you_mean(name, [*built_in_policies(), *shelf.index().policies])}"
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
    file = read_policy_file(folder)
    kind = policies[file.kind]
    try:
        config = kind.config_type.model_validate(file.config)
    except ValidationError as error:
        sentence = sentence_of(error, kind.config_type)
        raise PrunePolicyError(f"{folder / POLICY_FILE}: config: {sentence}.") from error
    return kind.restore(folder, config, file.name)
