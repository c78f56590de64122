"""What becomes of a result that its proof refuses: it is kept, under a name that says so."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from pathlib import Path

from prunepolicy.commands.prune.evidence import add_evidence
from prunepolicy.commands.report.report import REPORT, PruneReport
from prunepolicy.pruning.checkpoint.cut import finish
from prunepolicy.pruning.errors import PrunePolicyError
from prunepolicy.pruning.io.atomic import publish
from prunepolicy.pruning.io.claim import real_place
from prunepolicy.pruning.plan import Plan

UNPROVEN = ".unproven"


def set_aside(folder: Path, target: Path, report: PruneReport, plan: Plan) -> PrunePolicyError:
    """Keep a prepared folder beside `target` with its report, and return the error that says why and where.

    Args:
        report: with the proof that failed.
    """
    place = place_beside(target)
    add_evidence(replace(report, folder=str(place)), plan, folder)
    finish(folder)
    publish(folder, place)
    reason = report.proof.sentence if report.proof else ""
    return PrunePolicyError(f"The result isn't proven, and is kept in {place}, not in {target}: {reason}")


def place_beside(target: Path) -> Path:
    """Return the first place named after `target` that is free, or holds an earlier unproven result."""
    place = real_place(target)
    names = (f"{place.name}{UNPROVEN}{number if number > 1 else ''}" for number in count(1))
    places = (place.with_name(name) for name in names)
    return next(place for place in places if not place.exists() or (place / REPORT).is_file())
