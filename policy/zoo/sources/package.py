"""The policies that come with this package."""

from __future__ import annotations

from pathlib import Path

from prunepolicy.policy.zoo.settings import PACKAGE
from prunepolicy.policy.zoo.sources.directory import Directory
from prunepolicy.policy.zoo.sources.registry import sources

SHIPPED = Path(__file__).resolve().parents[2] / "shipped"


@sources.register
class Package(Directory):
    """The folder `policy/shipped`; its policies are used where they lie."""

    def __init__(self, spelling: str = PACKAGE) -> None:
        super().__init__(spelling, SHIPPED)
        self.in_place = SHIPPED

    @classmethod
    def claims(cls, spelling: str) -> bool:
        """Return whether the spelling is `package`."""
        return spelling == PACKAGE
