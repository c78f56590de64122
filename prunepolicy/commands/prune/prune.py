"""The main job: a model and budgets in, smaller model folders with their evidence out."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from prunepolicy.agents.for_text.examples import examples_file, written_examples
from prunepolicy.commands.prune.for_text import Reading, check_readable, read_for, reader_named
from prunepolicy.commands.prune.job import (
    PreparedModel,
    PruneSettings,
    carry_out,
    check_request,
    decide,
    holding,
    open_session,
    parts_of,
    prepared_model,
    resolve_policy,
)
from prunepolicy.commands.report.report import PruneReport
from prunepolicy.policy.base import Policy
from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.io.atomic import check_target
from prunepolicy.pruning.io.cache import recalled
from prunepolicy.pruning.io.progress import Listener, ProgressReporter
from prunepolicy.pruning.plan import Budget, Plan
from prunepolicy.pruning.session.model_session import ModelSession
from prunepolicy.pruning.units import VOCABULARY


def prune(
    model: str,
    out: str | Path,
    keep: float | Budget = 0.8,
    policy: str | Policy = "default",
    settings: PruneSettings | None = None,
    progress: bool | Listener | ProgressReporter = False,
) -> PruneReport:
    """Prune `model`, prove that the result loads, and write it to `out` with its evidence.

    Args:
        model: a model folder, `.gguf` file, alias or hub id.
        out: folder for the result; must be empty or absent.
        keep: share of the parameters that stays, or a whole budget.
        policy: what decides; a policy folder, a name, or a policy object.
        progress: whether progress is printed on standard error, or what is called with every `Event`.

    Raises:
        PrunePolicyError: with one sentence, for whatever goes wrong; `out` is untouched then.

    Example:
        >>> from prunepolicy import prune
        >>> report = prune("smollm2-135m", "smaller/", keep=0.9)  # doctest: +SKIP
    """
    return prune_sizes(model, out, [keep], policy, settings, progress)[0]


def prune_sizes(
    model: str,
    out: str | Path,
    keeps: Sequence[float | Budget],
    policy: str | Policy = "default",
    settings: PruneSettings | None = None,
    progress: bool | Listener | ProgressReporter = False,
) -> list[PruneReport]:
    """Prune `model` to several sizes, each as `prune` does; what doesn't depend on the size is done once.

    Args:
        out: holds a folder per size, such as `keep-0.9`; it is the result itself where there is one size.

    Raises:
        PrunePolicyError: with one sentence; sizes that were finished by then stay.
    """
    settings = settings or PruneSettings()
    settings = replace(settings, progress=progress or settings.reporter)
    targets = targets_of(Path(out), [keep if isinstance(keep, Budget) else Budget(keep) for keep in keeps])
    return [decision.carried_out() for decision in decisions(model, targets, policy, settings)]


def targets_of(out: Path, budgets: Sequence[Budget]) -> dict[Path, Budget]:
    """Return where the results for `budgets` go: to `out`, or where there are several into folders of it."""
    if len(budgets) == 1:
        return {out: budgets[0]}
    return {out / f"keep-{budget.keep:g}": budget for budget in budgets}


@dataclass(frozen=True)
class Decision:
    """A plan for one size, and everything that it takes to carry it out."""

    context: PreparedModel
    plan: Plan
    target: Path
    settings: PruneSettings

    @property
    def session(self) -> ModelSession:
        """What the user gave."""
        return self.context.original

    def carried_out(self) -> PruneReport:
        """Cut, prove, measure and publish."""
        return carry_out(self.context.session, self.plan, self.target, self.settings, self.context)


def decisions(
    model: str,
    targets: Mapping[Path, Budget],
    policy: str | Policy,
    settings: PruneSettings,
    dry_run: bool = False,
) -> Iterator[Decision]:
    """Yield one plan after the other; the caller carries each out before it asks for the next.

    All that can be refused is refused before the first is made. Of several sizes, those that an interrupted
    run of the same command has finished are left as they are.

    Args:
        targets: where each result goes, as `targets_of` says.
        dry_run: nothing will be written.
    """
    beside = next(iter(targets)) if len(targets) == 1 else next(iter(targets)).parent
    finished = {} if dry_run else _finished(targets, settings)
    left = {target: budget for target, budget in targets.items() if target not in finished}
    with ExitStack() as stack:
        for target in () if dry_run else left:
            stack.enter_context(holding(target, settings.overwrite))
        reads = settings.examples is not None and not any(VOCABULARY in b.kinds for b in targets.values())
        chosen = reader_named(policy) if reads else resolve_policy(policy)
        able = check_readable(str(settings.examples), chosen) if reads else chosen
        session = open_session(model, settings, beside)
        for target, report in finished.items():
            if report.origin.fingerprint != session.checkpoint.fingerprint:
                check_target(target, settings.overwrite)
            settings.reporter.note(f"{target} exists already; skipped.")
        for budget in left.values():
            check_request(session, able, budget, settings)
        settings.reporter.outline(_outline(settings, len(left), dry_run))
        reading = None
        if settings.examples is not None and not reads:
            settings = counting_tokens(session, settings)
        elif settings.examples is not None:
            reading = read_for(session, chosen, settings.examples, settings.seed)
            for warning in reading.warnings:
                settings.reporter.note(f"Warning: {warning}")
            chosen, settings = reading.policy, _following(settings, reading)
        context = stack.enter_context(prepared_model(session, chosen, beside, settings))
        context = replace(context, reading=reading)
        if len(left) > 1:
            context = replace(context, dense={})
        for target, budget in left.items():
            with settings.reporter.part("plan"):
                plan = decide(context.session, chosen, budget, settings)
            yield Decision(context, plan, target, settings)
            context = replace(context, began=time.monotonic())


def counting_tokens(session: ModelSession, settings: PruneSettings) -> PruneSettings:
    """Return the settings of a run that keeps the tokens of the user's text before others.

    Raises:
        UsageError: when the text can't be read, or a model that writes none is to write it.
    """
    wanted = str(settings.examples)
    file, writes = examples_file(wanted), session.checkpoint.adapter.task == "causal"
    if file is None and not writes:
        raise UsageError(f"{session.name} writes no text; name a file as --for.")
    file = file or written_examples(session, wanted, settings.seed)
    source = f"varied+{file}" if writes else str(file)
    return replace(settings, probe=settings.probe or source, progress=settings.reporter)


def _following(settings: PruneSettings, reading: Reading) -> PruneSettings:
    """Return the settings of a run whose repair watches the text that its choice follows, and others."""
    return replace(settings, probe=settings.probe or reading.source, progress=settings.reporter)


def _finished(targets: Mapping[Path, Budget], settings: PruneSettings) -> dict[Path, PruneReport]:
    """Return the reports of those among several results that the same command line has made."""
    if len(targets) == 1 or settings.overwrite or not settings.command:
        return {}
    found = {target: recalled(target, PruneReport.read) for target in targets}
    same = settings.command
    return {target: report for target, report in found.items() if report and report.origin.command == same}


def _outline(settings: PruneSettings, sizes: int, dry_run: bool) -> list[str]:
    """Return the parts of a run for so many sizes."""
    each = [("plan", *(() if dry_run else parts_of(settings, first=size == 0))) for size in range(sizes)]
    return [part for parts in each for part in parts]
