"""A repository of the Hugging Face hub, at a revision that doesn't move."""

from __future__ import annotations

import os
import re
from functools import cached_property
from urllib.error import HTTPError
from urllib.parse import urlsplit

from prunepolicy.policy.zoo.sources.http import Http
from prunepolicy.policy.zoo.sources.registry import Source, sources
from prunepolicy.pruning.errors import PrunePolicyError, UsageError

SCHEME = "hf://"
PLACE = re.compile(r"hf://([\w.-]+/[\w.-]+)(?:@([\w.-]+))?", re.ASCII)
MOVING = ("main", "master", "HEAD")
"""Names of revisions that are another one tomorrow."""


@sources.register
class Hub(Http):
    """Reads files of a repository through the hub's own addresses, with the user's token if there is one."""

    def __init__(self, spelling: str, token: str | bool | None = None) -> None:
        Source.__init__(self, spelling)
        self.repo, self.revision = pinned_place(spelling)
        self.token = token

    @property
    def line(self) -> str:
        """The revision: whoever names an old one wants its index."""
        return self.spelling

    @classmethod
    def claims(cls, spelling: str) -> bool:
        """Return whether the spelling is a place on the hub."""
        return spelling.startswith(SCHEME)

    def address(self, path: str) -> str:
        """Return the full address of a file."""
        from huggingface_hub import hf_hub_url

        return str(hf_hub_url(self.repo, path, revision=self.revision, endpoint=hub_endpoint()))

    def headers(self) -> dict[str, str]:
        """Return the hub's headers, the user's token among them."""
        return super().headers() | self._identified

    @cached_property
    def _identified(self) -> dict[str, str]:
        from huggingface_hub.utils import build_hf_headers

        return dict(build_hf_headers(token=self.token, library_name="prunepolicy"))

    def refusal(self, error: HTTPError, address: str) -> PrunePolicyError:
        """Return what an answer that is no success means."""
        code = error.headers.get("X-Error-Code") or ""
        if code == "RevisionNotFound":
            return PrunePolicyError(f"{self.repo} has no revision {self.revision!r} on the hub.")
        if code == "RepoNotFound" or error.code == 401:
            return PrunePolicyError(
                f"There is no repository {self.repo} on the hub, or it is private: `hf auth login`."
            )
        if code == "GatedRepo" or error.code == 403:
            return PrunePolicyError(f"{self.repo} is gated: accept its terms on its hub page, then log in.")
        return super().refusal(error, address)


def hub_endpoint() -> str | None:
    """Return the hub's address where the user has set one.

    Raises:
        UsageError: when it carries a password, which would end up in addresses that are shown.
    """
    endpoint = os.environ.get("HF_ENDPOINT")
    if endpoint and "@" in urlsplit(endpoint).netloc:
        raise UsageError(
            "HF_ENDPOINT carries a user name or password; take them out and use `hf auth login`."
        )
    return endpoint


def pinned_place(spelling: str) -> tuple[str, str]:
    """Return repository and revision of `hf://USER/REPO@REVISION`.

    Raises:
        UsageError: when it is no such place, or its revision may be another one tomorrow.
    """
    form = PLACE.fullmatch(spelling)
    if form is None or ".." in spelling:
        raise UsageError(f"{spelling!r} is no place on the hub: give hf://USER/REPO@REVISION.")
    if form[2] is None or form[2] in MOVING:
        raise UsageError(
            f"{spelling} can change at any time: pin a tag or a commit, as in hf://{form[1]}@COMMIT."
        )
    return form[1], form[2]
