"""A hub repository with one policy at its top, as `Policy.push_to_hub` makes it: pinned, but not signed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from prunepolicy.policy.base import POLICY_FILE, parsed_policy
from prunepolicy.policy.load import load_policy_folder
from prunepolicy.policy.weights import WEIGHTS_FILE
from prunepolicy.policy.zoo.cache import only_one, quarantine, zoo_cache
from prunepolicy.policy.zoo.index import LARGEST, FileName
from prunepolicy.policy.zoo.settings import offline
from prunepolicy.policy.zoo.sources.hub import Hub
from prunepolicy.policy.zoo.transfer import read_whole
from prunepolicy.pruning.errors import PrunePolicyError
from prunepolicy.pruning.io.atomic import as_sentence, write_bytes


class Repository:
    """A repository at a revision that doesn't move.

    Nobody vouches for it but the hub and its owner. The policy is data all the same: the size of its files
    is bounded, `policy.json` names the hash of the weights, and neither can run code.

    Args:
        repo: USER/REPO, with or without `hf://` before it.
        revision: tag or commit.
        cache: where repositories are kept; by default the zoo's cache.

    Raises:
        UsageError: when the revision is missing or a branch.
    """

    def __init__(
        self,
        repo: str,
        revision: str | None,
        token: str | bool | None = None,
        cache: Path | None = None,
    ) -> None:
        place = f"hf://{repo.removeprefix('hf://')}"
        self.hub = Hub(f"{place}@{revision}" if revision else place, token)
        self.cache = cache

    def folder(self, local_only: bool = False) -> Path:
        """Return the folder of the policy, bringing it on first use.

        Raises:
            PrunePolicyError: when it can't be had, or is no readable policy.
        """
        home = self.cache or zoo_cache() / "repositories"
        place = home / self.hub.repo.replace("/", "--") / self.hub.revision
        with only_one(place):
            if not place.is_dir():
                self._bring(place, local_only)
        return place

    def _bring(self, place: Path, local_only: bool) -> None:
        if local_only or offline():
            raise PrunePolicyError(
                f"{self.hub.spelling} isn't here, and a download is forbidden (local_files_only, "
                "PRUNEPOLICY_OFFLINE or HF_HUB_OFFLINE)."
            )
        prepared = place.with_name(f"{place.name}.partial")
        shutil.rmtree(prepared, ignore_errors=True)
        text = self._copy(POLICY_FILE, prepared)
        if parsed_policy(text, f"{POLICY_FILE} of {self.hub.spelling}").weights_sha256:
            self._copy(WEIGHTS_FILE, prepared)
        try:
            load_policy_folder(prepared)
        except PrunePolicyError as error:
            raise PrunePolicyError(f"{error} It lies in quarantine at {quarantine(prepared)}.") from error
        try:
            os.rename(prepared, place)
        except OSError as error:
            raise as_sentence(error, place) from error

    def _copy(self, file: FileName, folder: Path) -> bytes:
        content = read_whole(self.hub, file, LARGEST[file])
        write_bytes(folder / file, content)
        return content
