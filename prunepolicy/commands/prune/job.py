"""The main job in its steps: open, decide, and carry out what was decided."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from prunepolicy.agents.recovery.budget import RecoveryBudget
from prunepolicy.agents.recovery.language import (
    WEIGHTS,
    check_recoverable,
    clear_recovery,
    recovered,
    recovery_of,
)
from prunepolicy.commands.prune.evidence import Evidence, add_evidence, prove_result, report_on
from prunepolicy.commands.prune.finetune_images import Recovery, RecoverySettings, stages_of
from prunepolicy.commands.prune.for_text import Reading
from prunepolicy.commands.prune.measure import Measurements, choose_text, measure
from prunepolicy.commands.prune.rewrite import rewritten
from prunepolicy.commands.prune.unproven import set_aside
from prunepolicy.commands.report.report import PruneReport
from prunepolicy.policy.base import Policy
from prunepolicy.policy.load import load_policy
from prunepolicy.policy.planning import plan_for
from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.checkpoint.cut import check_apart, finish, prepare
from prunepolicy.pruning.checkpoint.source import resolve
from prunepolicy.pruning.checkpoint.vocabulary_cut import tokenizer_of
from prunepolicy.pruning.errors import NotEnoughSpaceError, PrunePolicyError, UsageError
from prunepolicy.pruning.io.atomic import check_target, publish
from prunepolicy.pruning.io.claim import real_place, release
from prunepolicy.pruning.io.progress import Listener, ProgressReporter
from prunepolicy.pruning.io.text_file import read_text
from prunepolicy.pruning.io.working_folder import discard, left_behind
from prunepolicy.pruning.plan import Budget, Plan
from prunepolicy.pruning.repair import repairs
from prunepolicy.pruning.session.model_session import ModelSession
from prunepolicy.pruning.session.opened_model import Hardware
from prunepolicy.pruning.statistics.probe import Probe
from prunepolicy.pruning.units import VOCABULARY, read_by_columns


@dataclass(frozen=True)
class PruneSettings:
    """How a run is carried out; what it decides about is in policy and budget.

    Attributes:
        arch: of a bare weight file.
        repair: overrides the policy's repair; `none` for none.
        probe: overrides the calibration data: `self`, `varied`, `start`, a text file, or `self+FILE`.
        examples: a text file, or a task in words, that the choice of units follows.
        languages: that the model is used in, as in `en,de`; tokens of other scripts go first.
        rounds: iterative pruning rounds; statistics are recomputed after each.
        recover: budget of knowledge distillation from the dense model after the cut: a time such as `20m`,
            `500k tokens`, `3 epochs`, or a plain number of epochs.
        recover_with: what learns: `weights`, or `lora` for low-rank adapters that are merged at the end.
        on: the user's file to learn from: text, or JSON lines with `messages` or `text`; None learns from
            what the probe has, and more of the model's own writing.
        text: file to measure perplexity on; None samples a text from the dense model.
        recovery: trains on the user's images before and after the cut; None trains nothing.
        measure: run both models for quality and speed.
        verify: prove that the result loads before it is published.
        progress: whether progress is printed on standard error, or what is called with every event.
    """

    revision: str | None = None
    arch: str | None = None
    repair: str | None = None
    probe: str | None = None
    examples: str | None = None
    languages: str = ""
    rounds: int = 1
    recover: str | int = 0
    recover_with: str = WEIGHTS
    on: Path | None = None
    text: Path | None = None
    hardware: Hardware = field(default_factory=Hardware)
    recovery: RecoverySettings | None = None
    seed: int = 0
    overwrite: bool = False
    measure: bool = True
    verify: bool = True
    command: str = ""
    progress: bool | Listener | ProgressReporter = False

    @cached_property
    def reporter(self) -> ProgressReporter:
        """What shows the progress of the run."""
        return ProgressReporter.of(self.progress)


@dataclass(frozen=True)
class PreparedModel:
    """A network before its cut.

    Attributes:
        session: what is planned for and cut: rewritten, and trained, where policy and user want it.
        original: what the user gave; the result is compared with it.
        recovery: how the pruned network is trained, if it is.
        began: when work on this result did, on the monotonic clock; None for the whole run.
        dense: what repairs of several plans for it share, as `RepairContext` has it.
        reading: the user's text that plans follow, if they do.
    """

    session: ModelSession
    original: ModelSession
    recovery: Recovery | None = None
    began: float | None = None
    dense: dict[str, Tensor] | None = None
    reading: Reading | None = None


@contextmanager
def prepared_model(
    session: ModelSession, policy: Policy, target: Path, settings: PruneSettings
) -> Iterator[PreparedModel]:
    """Yield what is cut: the session, or what a policy and training on the user's data have made of it."""
    wanted = settings.recovery
    recovery = None if wanted is None else Recovery.opened(wanted, session, target, settings.seed)
    with rewritten(session, policy, target) as whole:
        if recovery is None:
            yield PreparedModel(whole, session)
            return
        with recovery.clearing():
            yield PreparedModel(recovery.adapted(whole), session, recovery)


@contextmanager
def holding(target: Path, overwrite: bool) -> Iterator[None]:
    """Keep `target` for this run, after checking that nothing is destroyed unasked."""
    check_target(target, overwrite)
    try:
        yield
    finally:
        release(target)


def open_session(model: str, settings: PruneSettings, target: Path | None = None) -> ModelSession:
    """Find and open what the user calls `model`, and see that `target` lies outside of it.

    Texts of the user's are read later; that they can be is seen here, before the work begins.
    """
    probe = Probe(settings.probe or "self", languages=settings.languages)
    for file in (settings.text, probe.file):
        if file is not None:
            read_text(file)
    session = ModelSession(
        model,
        Checkpoint.open(resolve(model, settings.revision, arch=settings.arch)),
        settings.hardware,
        settings.reporter,
    )
    if target is not None:
        check_apart(session.checkpoint.folder, target)
    for note in (*session.checkpoint.notes, session.checkpoint.adapter.notice):
        if note:
            settings.reporter.note(note)
    return session


def resolve_policy(policy: str | Policy) -> Policy:
    """Return the policy that a name or a folder stands for."""
    return load_policy(policy) if isinstance(policy, str) else policy


def check_request(session: ModelSession, policy: Policy, budget: Budget, settings: PruneSettings) -> None:
    """Raise what follows from the request and the model's configuration alone, before any weight is read.

    Raises:
        UsageError: for an unknown name, or what policy, model and settings can't do together.
        BudgetError: when the budget can't be met.
    """
    if settings.rounds != 1:
        policy = policy.in_rounds(settings.rounds)
    if settings.repair not in (None, "none"):
        repairs[settings.repair]
    if settings.languages and VOCABULARY not in budget.kinds:
        raise UsageError("--languages chooses tokens; add --of vocabulary or --units vocabulary.")
    if VOCABULARY in budget.kinds and VOCABULARY in session.checkpoint.graph:
        if RecoveryBudget.parse(str(settings.recover)):
            raise UsageError("--recover compares answers token by token, so that all tokens must stay.")
        tokenizer_of(session.checkpoint)
    if RecoveryBudget.parse(str(settings.recover)):
        check_recoverable(session, settings.on, settings.recover_with)
    elif settings.on is not None:
        raise UsageError("--on names what to learn from; add for how long, such as --recover 20m.")
    elif settings.recover_with != WEIGHTS:
        raise UsageError("--recover-with says what learns; add for how long, such as --recover 20m.")
    if budget.of != "latency":  # What a width costs in seconds has to be measured.
        policy.check(session.checkpoint.graph, budget)
    if settings.text is not None and settings.measure:
        choose_text(session, settings.text)


def decide(session: ModelSession, policy: str | Policy, budget: Budget, settings: PruneSettings) -> Plan:
    """Let a policy plan, and bind the plan to repair and probe."""
    policy = resolve_policy(policy)
    check_request(session, policy, budget, settings)
    if settings.rounds != 1:
        policy = policy.in_rounds(settings.rounds)
    repair = policy.repair if settings.repair is None else settings.repair
    probe = probe_for(policy, settings)
    plan = plan_for(session, policy, budget, probe)
    mends = repair not in (None, "none") and (settings.repair or _mendable(session, plan, repair))
    needed: dict[str, Any] = {"probe": vars(probe)}
    if learning := RecoveryBudget.parse(str(settings.recover)):
        needed |= {"recover": str(learning), "recover_with": settings.recover_with}
        needed |= {} if settings.on is None else {"on": str(settings.on)}
    if policy.provenance is not None:
        needed["policy"] = vars(policy.provenance)
    return replace(plan, repair=repair if mends else None, settings=needed)


def probe_for(policy: Policy, settings: PruneSettings) -> Probe:
    """Return the policy's probe, with what the user wants otherwise."""
    probe = replace(policy.probe, seed=settings.seed, languages=settings.languages)
    return replace(probe, source=settings.probe) if settings.probe else probe


def carry_out(
    session: ModelSession,
    plan: Plan,
    target: Path,
    settings: PruneSettings,
    prepared: PreparedModel | None = None,
) -> PruneReport:
    """Cut, prove, measure and publish what `plan` says.

    A run that is interrupted, or that fills the disk, leaves what it has finished beside `target`;
    the same run continues there. A result that its proof refuses is kept beside it, too, under a name that
    says so. Whatever else goes wrong leaves nothing.

    Args:
        prepared: says what the result is compared with, and how it is trained.
    """
    part = settings.reporter.part
    if prepared is None:
        settings.reporter.outline(parts_of(settings))
        prepared = PreparedModel(session, session)
    checkpoint, original, recovery = session.checkpoint, prepared.original, prepared.recovery
    plan.check(checkpoint.graph)
    probe = _probe_of(plan)
    with holding(target, settings.overwrite), clearing(target):
        with part("text"):
            measurable = settings.measure and original.fits(original.dtype, copies=2)
            text = choose_text(original, settings.text) if measurable else None
        with part("repair"):
            edits = (
                session.repaired(plan, probe, prepared.dense)
                if recovery is None
                else recovery.edits(session, plan)
            )
            edits, facts = recovered(session, plan, edits, target, original)
        with part("cut"), settings.reporter.step("cut", checkpoint.nbytes) as tick:
            folder = prepare(checkpoint, plan, target, edits, tick)
        with part("prove"):
            proof = prove_result(session, plan, edits, folder) if settings.verify else None
        if proof is not None and proof.ran and not proof.ok:
            report = report_on(original, Evidence(plan, Measurements(), proof, settings.command))
            clear_recovery(target)
            raise set_aside(folder, target, report, plan)
        with part("measure"):
            measured = measure(original, folder, text, plan) if settings.measure else Measurements()
        if recovery is not None and settings.measure:
            measured = recovery.measured(measured, original, folder)
        report = report_on(
            original, Evidence(plan, measured, proof, settings.command, (facts,) if facts else ())
        )
        began = session.opened_at if prepared.began is None else prepared.began
        report = replace(_with_reading(report, plan, prepared.reading, settings.measure), folder=str(target))
        report = replace(report, seconds=time.monotonic() - began)
        add_evidence(report, plan, folder)
        finish(folder)
        publish(folder, target)
    clear_recovery(target)
    return report


def _with_reading(report: PruneReport, plan: Plan, reading: Reading | None, measured: bool) -> PruneReport:
    """Return the report with what is known of the text that the plan follows, if it follows one."""
    if reading is None:
        return report
    facts = reading.facts(plan) if measured else None
    ruined = facts.warning if facts else None
    warnings = (*report.warnings, *reading.warnings, *([ruined] if ruined else []))
    return replace(report, reading=facts, warnings=warnings)


def parts_of(settings: PruneSettings, first: bool = True) -> tuple[str, ...]:
    """Return what carrying out one plan consists of; the text to score is written for the first only."""
    wanted = {"text": settings.measure and first, "prove": settings.verify, "measure": settings.measure}
    return tuple(part for part in ("text", "repair", "cut", "prove", "measure") if wanted.get(part, True))


def _probe_of(plan: Plan) -> Probe:
    """Return the calibration data of a plan's repair; a plan may have been written by hand.

    Raises:
        UsageError: when there is no such repair, or no such text.
        PrunePolicyError: when the probe's settings are none.
    """
    if plan.repair is not None:
        repairs[plan.repair]
    try:
        probe = Probe(**plan.settings.get("probe", {}))
    except TypeError as error:
        raise PrunePolicyError(
            f"Not a plan: settings: {vars(Probe())} is what calibration settings hold."
        ) from error
    if probe.file is not None:
        read_text(probe.file)
    return probe


def left_beside(target: Path) -> tuple[str, ...]:
    """Return the folders beside `target` in which the next run with the same settings goes on."""
    places = (*left_behind(real_place(target)), stages_of(target), recovery_of(target))
    return tuple(str(place) for place in places if os.path.isdir(place))


@contextmanager
def clearing(target: Path) -> Iterator[None]:
    """Remove what a run that failed has prepared, unless the next run can continue with it."""
    try:
        yield
    except NotEnoughSpaceError:
        raise
    except Exception:
        discard(target)
        raise


def _mendable(session: ModelSession, plan: Plan, repair: str) -> bool:
    """Return whether the plan takes what the repair makes up for, in a network whose blocks it can re-fit."""
    graph = session.checkpoint.graph
    blocks = {group.name for group in graph.of_kind("ffn") if read_by_columns(group)}
    cut = [graph[name] for name, kept in plan.keep.items() if len(kept) < graph[name].size]
    lost = {group.kind for group in cut if group.kind != "ffn" or group.name in blocks}
    return bool(blocks) and not lost.isdisjoint(repairs[repair].kinds)
