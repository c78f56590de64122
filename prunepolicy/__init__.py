"""prunepolicy: policies that decide what to remove from a network, and proof that the rest works.

>>> from prunepolicy import prune
>>> report = prune("smollm2-135m", "smaller/", keep=0.9)  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prunepolicy.commands.prune.job import PruneSettings
    from prunepolicy.commands.prune.prune import prune, prune_sizes
    from prunepolicy.policy.load import load_policy
    from prunepolicy.pruning.errors import PrunePolicyError
    from prunepolicy.pruning.plan import Budget, Plan

__version__ = "0.1.0"
__all__ = ["Budget", "Plan", "PrunePolicyError", "PruneSettings", "load_policy", "prune", "prune_sizes"]

_HOMES = {
    "Budget": "prunepolicy.pruning.plan",
    "Plan": "prunepolicy.pruning.plan",
    "PrunePolicyError": "prunepolicy.pruning.errors",
    "PruneSettings": "prunepolicy.commands.prune.job",
    "load_policy": "prunepolicy.policy.load",
    "prune": "prunepolicy.commands.prune.prune",
    "prune_sizes": "prunepolicy.commands.prune.prune",
}


def __getattr__(name: str) -> Any:
    """Import public names on first use, so that the command line starts without torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'prunepolicy' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
