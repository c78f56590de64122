"""The two halves of pruning: decide what stays, and carry it out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from prunepolicy.commands.prune.job import PruneSettings, carry_out, decide, open_session
from prunepolicy.commands.report.report import PruneReport
from prunepolicy.policy.base import Policy
from prunepolicy.pruning.plan import Budget, Plan


def plan(
    model: str,
    keep: float | Budget = 0.8,
    policy: str | Policy = "default",
    settings: PruneSettings | None = None,
) -> Plan:
    """Decide what of `model` stays, and write nothing.

    Args:
        model: a model folder, `.gguf` file, alias or hub id.
        keep: share of the parameters that stays, or a whole budget.
        policy: what decides; a policy folder, a name, or a policy object.

    Raises:
        PrunePolicyError: when the model can't be opened, or the budget can't be met.
    """
    settings = settings or PruneSettings()
    budget = keep if isinstance(keep, Budget) else Budget(keep)
    return decide(open_session(model, settings), policy, budget, settings)


def cut(model: str, plan: Plan, out: str | Path, settings: PruneSettings | None = None) -> PruneReport:
    """Carry out `plan` on the checkpoint that it was made for: the same plan gives the same bytes.

    Args:
        out: folder for the result; must be empty or absent.

    Raises:
        PrunePolicyError: with one sentence, for whatever goes wrong; `out` is untouched then.
    """
    settings = settings or PruneSettings()
    settings = replace(settings, seed=int(plan.settings.get("probe", {}).get("seed", settings.seed)))
    return carry_out(open_session(model, settings, Path(out)), plan, Path(out), settings)
