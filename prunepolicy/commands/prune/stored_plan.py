"""A plan from a file, which may be anybody's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from prunepolicy.agents.recovery.budget import RecoveryBudget
from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.plan import Plan
from prunepolicy.pruning.statistics.probe import Probe

NOT_OPENED = "Paths in plans aren't opened: name the text as"


def texts_of(plan: Plan) -> tuple[str, ...]:
    """Return the options that name the texts of a plan to `cut`."""
    probe, on = Probe(**plan.settings.get("probe", {})), plan.settings.get("on")
    learns = bool(RecoveryBudget.parse(str(plan.settings.get("recover", 0))))
    repaired_on = probe.source if probe.file is not None and (plan.repair or learns) else None
    named = {"--probe": repaired_on, "--on": on if learns else None}
    return tuple(word for option, text in named.items() if text for word in (option, str(text)))


def stored_plan(file: Path, probe: str | None, on: Path | None = None) -> Plan:
    """Read a plan that is to be carried out; no path that it names is opened.

    Args:
        probe: calibration data that the user wants instead.
        on: the user's file to learn from.

    Raises:
        UsageError: when repair or recovery need a text that the user hasn't named, or the budget is none.
        PrunePolicyError: when the file is no plan.
    """
    plan = Plan.load(file)
    made_on = Probe(**plan.settings.get("probe", {}))
    learns = bool(RecoveryBudget.parse(str(plan.settings.get("recover", 0))))
    if on is not None:
        plan = replace(plan, settings={**plan.settings, "on": str(on)})
    elif learns and plan.settings.get("on"):
        raise UsageError(f"{file} learns from {plan.settings['on']!r:.200}. {NOT_OPENED} --on.")
    if probe is not None:
        return replace(plan, settings={**plan.settings, "probe": vars(replace(made_on, source=probe))})
    if made_on.file is not None and (plan.repair or learns):
        raise UsageError(f"{file} was made on the text {str(made_on.file)!r:.200}. {NOT_OPENED} --probe.")
    return plan
