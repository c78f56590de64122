"""prunepolicy: policies that decide what to remove from a network, and proof that the rest works.

>>> from prunepolicy import prune
>>> report = prune("smollm2-135m", "smaller/", keep=0.9)  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prunepolicy import register
    from prunepolicy.agents.training.recipe_file import load_recipe
    from prunepolicy.agents.training.train import train
    from prunepolicy.commands.doctor.doctor import doctor
    from prunepolicy.commands.evaluate.bench import bench
    from prunepolicy.commands.evaluate.evaluate import evaluate
    from prunepolicy.commands.prune.frontier import frontier
    from prunepolicy.commands.prune.job import PruneSettings
    from prunepolicy.commands.prune.plan import cut, plan
    from prunepolicy.commands.prune.prune import prune
    from prunepolicy.policy.adaptive.adaptive_model import AdaptiveModel
    from prunepolicy.policy.base import Policy
    from prunepolicy.policy.load import load_policy
    from prunepolicy.pruning.errors import PrunePolicyError
    from prunepolicy.pruning.plan import Budget, Plan

__version__ = "0.1.0"
__all__ = [
    "AdaptiveModel",
    "Budget",
    "Plan",
    "Policy",
    "PrunePolicyError",
    "PruneSettings",
    "bench",
    "cut",
    "doctor",
    "evaluate",
    "frontier",
    "load_policy",
    "load_recipe",
    "plan",
    "prune",
    "register",
    "train",
]

_HOMES = {
    "AdaptiveModel": "prunepolicy.policy.adaptive.adaptive_model",
    "Budget": "prunepolicy.pruning.plan",
    "Plan": "prunepolicy.pruning.plan",
    "Policy": "prunepolicy.policy.base",
    "PrunePolicyError": "prunepolicy.pruning.errors",
    "PruneSettings": "prunepolicy.commands.prune.job",
    "bench": "prunepolicy.commands.evaluate.bench",
    "cut": "prunepolicy.commands.prune.plan",
    "doctor": "prunepolicy.commands.doctor.doctor",
    "evaluate": "prunepolicy.commands.evaluate.evaluate",
    "frontier": "prunepolicy.commands.prune.frontier",
    "load_policy": "prunepolicy.policy.load",
    "load_recipe": "prunepolicy.agents.training.recipe_file",
    "plan": "prunepolicy.commands.prune.plan",
    "prune": "prunepolicy.commands.prune.prune",
    "train": "prunepolicy.agents.training.train",
}


def __getattr__(name: str) -> Any:
    """Import public names on first use, so that the command line starts without torch."""
    from importlib import import_module

    if name == "register":
        return import_module("prunepolicy.register")
    if name not in _HOMES:
        raise AttributeError(f"module 'prunepolicy' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
