"""Send policies to repositories of the Hugging Face hub, and get single ones from there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from prunepolicy.policy.zoo.index import MOST_INDEX_BYTES, FileName, Index
from prunepolicy.policy.zoo.pull import checked_files
from prunepolicy.policy.zoo.push import Parcel, index_signed_by
from prunepolicy.policy.zoo.settings import offline
from prunepolicy.policy.zoo.signing import signed
from prunepolicy.policy.zoo.sources.hub import Hub, hub_endpoint
from prunepolicy.policy.zoo.transfer import read_whole
from prunepolicy.policy.zoo.zoo_handle import INDEX
from prunepolicy.pruning.errors import PrunePolicyError, UsageError

if TYPE_CHECKING:
    from huggingface_hub import HfApi

    from prunepolicy.policy.zoo.push import Keys

REPOSITORY = re.compile(r"hf://([\w-][\w.-]*/[\w-][\w.-]*)", re.ASCII)
"""A zoo to push to: its newest state, so without a revision."""


def repository_of(destination: str) -> str:
    """Return USER/REPO of `hf://USER/REPO`.

    Raises:
        UsageError: when it is none.
    """
    form = REPOSITORY.fullmatch(destination)
    if form is None:
        raise UsageError(f"{destination!r} is no place to push to: give a folder or hf://USER/REPO.")
    return form[1]


def push_to_hub(parcel: Parcel, repo: str, keys: Keys) -> str:
    """Add a policy to the zoo in a hub repository, in one commit that is tagged with the policy's name.

    Returns:
        The commit, to pin: `hf://USER/REPO@COMMIT`.

    Raises:
        UsageError: when the policy is there already.
        PrunePolicyError: when the hub refuses, or the index there isn't signed by a trusted key.
    """
    from huggingface_hub import CommitOperationAdd

    with one_sentence(repo):
        api = hub_api()
        api.create_repo(repo, exist_ok=True)
        parent = api.repo_info(repo).sha
        index = _index_there(api, repo, parent, keys).with_policy(parcel.name, parcel.entry)
        operations = [
            CommitOperationAdd(f"{parcel.name}/{file}", content)
            for file, content in checked_files(parcel.folder, parcel.entry).items()
        ]
        operations.append(CommitOperationAdd(INDEX, signed(index.to_bytes(), keys)))
        commit = api.create_commit(
            repo, operations, commit_message=f"Add {parcel.name}", parent_commit=parent
        ).oid
        api.create_tag(repo, tag=f"{parcel.name}-{parcel.entry.version}", revision=commit, exist_ok=True)
    return f"hf://{repo}@{commit}"


def _index_there(api: HfApi, repo: str, commit: str | None, keys: Keys) -> Index:
    """Return the index of the repository as it is at `commit`, an empty one where there is none yet."""
    if not api.file_exists(repo, INDEX, revision=commit):
        return Index.empty()
    signed_there = read_whole(Hub(f"hf://{repo}@{commit}"), INDEX, MOST_INDEX_BYTES)
    return index_signed_by(keys, signed_there, f"hf://{repo}")


def push_folder(folder: Path, repo: str, private: bool | None, message: str, token: Any) -> str:
    """Send the files of one policy to the top of a repository, and return the commit's address."""
    from huggingface_hub import CommitOperationAdd

    files = [file for file in get_args(FileName) if (folder / file).is_file()]
    with one_sentence(repo):
        api = hub_api(token)
        api.create_repo(repo, private=private, exist_ok=True)
        operations = [CommitOperationAdd(file, folder / file) for file in files]
        return str(api.create_commit(repo, operations, commit_message=message).commit_url)


def hub_api(token: Any = None) -> HfApi:
    """Return the hub's interface at the user's endpoint."""
    from huggingface_hub import HfApi

    return HfApi(endpoint=hub_endpoint(), token=token)


@contextmanager
def one_sentence(repo: str) -> Iterator[None]:
    """Turn what the hub's client raises into one sentence; its errors share no base."""
    if offline():
        raise PrunePolicyError("PRUNEPOLICY_OFFLINE or HF_HUB_OFFLINE forbids a push to the hub.")
    try:
        yield
    except PrunePolicyError:
        raise
    except Exception as error:
        reason = next(iter(str(error).strip().splitlines()), "").rstrip(".:") or type(error).__name__
        raise PrunePolicyError(f"The hub doesn't take a push to {repo}: {reason}.") from error
