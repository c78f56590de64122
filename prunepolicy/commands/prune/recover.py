"""More learning for a result of pruning, from where it stands."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from prunepolicy.agents.recovery.budget import RecoveryBudget
from prunepolicy.agents.recovery.language import check_recoverable, clear_recovery, recovered, recovery_of
from prunepolicy.commands.prune.evidence import PLAN, Evidence, add_evidence, prove_result, report_on
from prunepolicy.commands.prune.job import PruneSettings, clearing, holding, open_session
from prunepolicy.commands.prune.measure import Measurements, choose_text, measure
from prunepolicy.commands.report.report import PruneReport
from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.checkpoint.cut import Edits, finish, prepare
from prunepolicy.pruning.errors import PrunePolicyError, UsageError
from prunepolicy.pruning.io.atomic import publish
from prunepolicy.pruning.io.working_folder import discard
from prunepolicy.pruning.plan import Budget, Plan
from prunepolicy.pruning.session.model_session import ModelSession
from prunepolicy.pruning.statistics.probe import Probe
from prunepolicy.pruning.units import VOCABULARY

FRESH = 1_000
"""By how much the seed of the texts moves on with every recovery, so that each has texts of its own."""


def recover(folder: str | Path, model: str, settings: PruneSettings) -> PruneReport:
    """Let the result of pruning in `folder` learn from the model it was cut from, and replace it.

    The folder stays as it is until everything is written and proven; a run that is killed goes on where it
    was when it is started again.

    Args:
        model: the dense model, as the result's report knows it.
        settings: `recover` says for how long, `on` from what.

    Raises:
        PrunePolicyError: with one sentence, for whatever goes wrong; `folder` is untouched then.
    """
    folder, began = Path(folder), time.monotonic()
    plan, earlier = _evidence_in(folder)
    budget = RecoveryBudget.parse(str(settings.recover))
    if not budget:
        raise UsageError("--for takes a time such as 20m, or 500k tokens, 3 epochs, 400 steps.")
    original = open_session(model, settings, folder)
    if earlier.origin.fingerprint != original.checkpoint.fingerprint:
        raise UsageError(f"{folder} was cut from another model than {model}, which can't be its teacher.")
    if VOCABULARY in plan.keep:
        raise UsageError(f"{folder} has other tokens than {model}, which therefore can't be its teacher.")
    check_recoverable(original, settings.on, settings.recover_with)
    checkpoint = Checkpoint.open(folder)
    pruned = ModelSession(str(folder), checkpoint, settings.hardware, settings.reporter)
    probe = Probe(**plan.settings.get("probe", {}))
    if probe.file is not None:  # Paths in plans aren't opened.
        probe = replace(probe, source=probe.written or "self")
    probe = replace(probe, seed=probe.seed + FRESH * (1 + len(earlier.recoveries)))
    wanted = {"probe": vars(probe), "recover": str(budget), "recover_with": settings.recover_with} | (
        {"on": str(settings.on)} if settings.on else {}
    )
    whole, aside = Plan({}, Budget(1.0), plan.made_by, settings=wanted), aside_of(folder)
    with holding(folder, True), holding(aside, True), clearing(aside):
        text = choose_text(original, settings.text) if settings.measure else None
        edits, facts = recovered(pruned, whole, Edits(), aside, original)
        with settings.reporter.step("write", checkpoint.nbytes) as tick:
            prepared = prepare(checkpoint, whole, aside, edits, tick)
        proof = prove_result(pruned, whole, edits, prepared) if settings.verify else None
        if proof is not None and proof.ran and not proof.ok:
            raise PrunePolicyError(f"{folder} stays as it was, for the result isn't proven: {proof.sentence}")
        measured = measure(original, prepared, text, plan) if settings.measure else Measurements()
        recoveries = (*earlier.recoveries, *([facts] if facts else []))
        commands = "\n".join(filter(None, (earlier.origin.command, settings.command)))
        report = report_on(original, Evidence(plan, measured, proof, commands, recoveries))
        seconds = earlier.seconds + time.monotonic() - began
        report = replace(report, folder=str(folder), seconds=seconds, reading=earlier.reading)
        add_evidence(report, plan, prepared)
        finish(prepared)
        publish(prepared, folder)
        discard(aside)
    clear_recovery(aside)
    return report


def aside_of(folder: Path) -> Path:
    """Return the name under which what replaces `folder` is prepared."""
    return folder.with_name(f"{folder.name}.recovered")


def kept_beside(folder: Path) -> str:
    """Return where the next run for `folder` goes on; empty where there is nothing."""
    place = recovery_of(aside_of(folder))
    return str(place) if place.is_dir() else ""


def _evidence_in(folder: Path) -> tuple[Plan, PruneReport]:
    """Return the plan and the report in a result's folder.

    Raises:
        UsageError: when it is no result of pruning.
    """
    try:
        return Plan.load(folder / PLAN), PruneReport.read(folder)
    except (PrunePolicyError, OSError) as error:
        raise UsageError(
            f"{folder} is no result of prune-with-policy: its {PLAN} and its report can't be read."
        ) from error
