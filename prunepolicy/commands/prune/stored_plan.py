"""A plan from a file, which may be anybody's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.plan import Plan
from prunepolicy.pruning.statistics.probe import Probe


def stored_plan(file: Path, probe: str | None) -> Plan:
    """Read a plan that is to be carried out; no path that it names is opened.

    Args:
        probe: calibration data that the user wants instead.

    Raises:
        UsageError: when the repair needs a text that the user hasn't named.
        PrunePolicyError: when the file is no plan.
    """
    plan = Plan.load(file)
    made_on = Probe(**plan.settings.get("probe", {}))
    if probe is not None:
        return replace(plan, settings={**plan.settings, "probe": vars(replace(made_on, source=probe))})
    if made_on.file is not None and (plan.repair or plan.settings.get("recover")):
        raise UsageError(
            f"{file} was made on the text {str(made_on.file)!r:.200}. Paths in plans aren't opened: name the "
            "text as --probe."
        )
    return plan
