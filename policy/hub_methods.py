"""Policies by the conventions of the Hugging Face hub: the names and arguments of its `ModelHubMixin`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Self

from prunepolicy.policy.hub_card import CARD, front_matter
from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.io.atomic import write_text
from prunepolicy.pruning.io.temporary import temporary_folder


class HubMethods(ABC):
    """Loading, saving and sharing by the hub's conventions."""

    @property
    @abstractmethod
    def kind(self) -> str:
        """Registered name of the policy's kind."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the policy to `folder`."""

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        revision: str | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        token: str | bool | None = None,
    ) -> Self:
        """Return a policy that was saved; called on a kind, it must be of that kind.

        Args:
            source: a folder, `zoo:NAME.vN`, or a hub repository USER/REPO with a policy at its top.
            revision: tag or commit of the repository; branches move, so they are refused.
            cache_dir: where policies of repositories are kept, by default among the hub's assets.
            local_files_only: never use the network.
            token: for private repositories; by default the one of `hf auth login`.

        Raises:
            UsageError: when there is none, the revision isn't pinned, or the kind is another.
            PrunePolicyError: when it can't be had, or is damaged.
        """
        from prunepolicy.policy.load import load_policy, load_policy_folder
        from prunepolicy.policy.zoo.repository import Repository

        text = str(source)
        if Path(source).is_dir() or "/" not in text or text.startswith("zoo:"):
            policy = load_policy(source)
        else:
            cache = Path(cache_dir) if cache_dir is not None else None
            place = Repository(text, revision, token, cache)
            policy = load_policy_folder(place.folder(local_files_only))
        if not isinstance(policy, cls):
            raise UsageError(f"{source} is a policy of the kind {policy.kind}, not {cls.__name__}.")
        return policy

    def save_pretrained(self, save_directory: str | Path) -> None:
        """Write the policy to a folder, with a card where there is none."""
        folder = Path(save_directory)
        self.save(folder)
        if not (folder / CARD).exists():
            text = f"A policy of the kind `{self.kind}` that decides what to remove from a network.\n"
            write_text(folder / CARD, front_matter(self.kind) + text)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        commit_message: str = "Upload policy",
        token: str | bool | None = None,
    ) -> str:
        """Send the policy to the top of a hub repository, and return the commit's address.

        Raises:
            PrunePolicyError: when the hub refuses.
        """
        from prunepolicy.policy.zoo.hub_upload import push_folder

        with temporary_folder() as folder:
            self.save_pretrained(folder)
            return push_folder(folder, repo_id, private, commit_message, token)
