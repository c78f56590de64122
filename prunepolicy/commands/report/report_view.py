"""The report on a terminal: what changed, what it is worth, how to load it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from prunepolicy.commands.report.report import REPORT, PruneReport
from prunepolicy.pruning.allocators.registry import TOLERANCE
from prunepolicy.pruning.io.console import Console, styled
from prunepolicy.pruning.measure.intervals import Interval
from prunepolicy.pruning.measure.speedup import Speedup
from prunepolicy.pruning.plan import KIND_OF, Budget
from prunepolicy.pruning.units import KIND_NAMES

SAMPLES = 3
SAMPLE_LENGTH = 200
SCREEN_NAMES = 4
"""Names of files that fit one line."""
SIZE_NAMES = {
    "params": "parameters",
    "flops": "FLOPs",
    "heads": "attention heads",
    **{of: KIND_NAMES[kinds[0]] for of, kinds in KIND_OF.items() if len(kinds) == 1},
}
"""What readers see of what a budget counts, where that isn't its own name."""


@dataclass(frozen=True)
class Comparison:
    """One quantity before and after, written out, and their ratio.

    Attributes:
        group: what it is part of, `size`, `memory`, `speed` or `quality`.
        measured: whether it was measured, so that it has an error; all others are counted.
        interval: of `ratio`, 95 %.
    """

    name: str
    before: str
    after: str
    ratio: float
    group: str = "size"
    measured: bool = False
    interval: Interval | None = None

    @property
    def shown(self) -> bool:
        """Whether a difference was shown."""
        return not self.measured or (self.interval is not None and self.interval.excludes(1))


def comparisons(report: PruneReport) -> Iterator[Comparison]:
    """Yield every quantity known for both networks."""
    old, new = report.before, report.after
    per = "image" if report.task == "vision" else "token"
    yield _compare("Parameters", old.cost.params, new.cost.params, count)
    yield _compare(f"FLOPs per {per}", old.cost.flops, new.cost.flops, count, group="speed")
    yield _compare("Weights", old.cost.weight_bytes, new.cost.weight_bytes, size)
    if old.cache_bytes:
        yield _compare("KV cache per token", old.cache_bytes, new.cache_bytes, size, group="memory")
    if old.accuracy is not None and new.accuracy is not None:
        name = f"Accuracy on {report.images}"
        yield _measured(name, old.accuracy, new.accuracy, "{:.2%}".format, "quality", None)
    if old.score and new.score and old.score.bits_per_byte and new.score.bits_per_byte:
        bits = old.score.bits_per_byte, new.score.bits_per_byte
        yield _measured("Bits per byte", *bits, "{:.4g}".format, "quality", None)
    elif old.score and new.score:
        interval = None if report.change is None else Interval(*map(_exp, report.change))
        before, after = old.score.perplexity, new.score.perplexity
        yield _measured("Perplexity", before, after, "{:.4g}".format, "quality", interval)
    for workload, seconds in old.latency.items():
        if workload in new.latency:
            gain = report.speedups.get(workload)
            interval = None if gain is None else Interval(1 / gain.high, 1 / gain.low)
            yield _measured(workload, seconds, new.latency[workload], duration, "speed", interval)


def less_is_better(report: PruneReport) -> list[Comparison]:
    """Return the same quantities so that less is better in each: errors in place of accuracy, and first."""
    every = list(comparisons(report))
    before, after = report.before.accuracy, report.after.accuracy
    if before is None or after is None:
        return every
    wrong, interval = 1 - before, None
    if report.change is not None and wrong:
        interval = Interval((wrong - report.change.high) / wrong, (wrong - report.change.low) / wrong)
    name = f"Error rate on {report.images}"
    first = _measured(name, wrong, 1 - after, "{:.2%}".format, "quality", interval)
    return [first, *(row for row in every if not row.name.startswith("Accuracy on "))]


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf


def _compare(
    name: str, before: float, after: float, write: Callable[[float], str], **more: Any
) -> Comparison:
    return Comparison(name, write(before), write(after), after / before if before else 1.0, **more)


def _measured(
    name: str,
    before: float,
    after: float,
    write: Callable[[float], str],
    group: str,
    interval: Interval | None,
) -> Comparison:
    return _compare(name, before, after, write, group=group, measured=True, interval=interval)


def count(number: float) -> str:
    """Write a count with three digits and a unit: 134.5 M."""
    for factor, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= factor:
            return f"{number / factor:.4g} {unit}"
    return f"{number:g}"


def size(nbytes: float) -> str:
    """Write a number of bytes: 256.5 MiB."""
    for power, unit in ((3, "GiB"), (2, "MiB"), (1, "KiB")):
        if nbytes >= 1024**power:
            return f"{nbytes / 1024**power:.4g} {unit}"
    return f"{nbytes:g} B"


def duration(seconds: float) -> str:
    """Write a duration: 12.3 ms, 4.2 s, 3 min 20 s."""
    if seconds < 1:
        return f"{seconds * 1000:.3g} ms"
    if seconds < 60:
        return f"{seconds:.3g} s"
    return f"{int(seconds) // 60} min {int(seconds) % 60} s"


def asked_and_reached(report: PruneReport) -> str:
    """Say what share was asked and what share stayed."""
    what = SIZE_NAMES.get(report.budget.of, report.budget.of)
    return f"asked to keep {report.budget.keep:.1%} of the {what}, kept {report.reached:.1%}"


def capitalised(sentence: str) -> str:
    """Return a sentence with a capital at its beginning, and names in it as they were."""
    return sentence[:1].upper() + sentence[1:]


def rounding(budget: Budget, reached: float) -> str:
    """Say that a budget was rounded down to what whole units add up to; empty where it was met within 1 %."""
    if reached >= budget.keep - TOLERANCE:
        return ""
    what = SIZE_NAMES.get(budget.of, budget.of)
    return f"No counts of whole units keep {budget.keep:.1%} of the {what}: rounded down to {reached:.1%}."


def scored_on(report: PruneReport) -> str:
    """Say what the perplexities were measured on; empty where they weren't."""
    score = report.after.score
    if score is None:
        return ""
    text = report.text or "the given text"
    if score.bits_per_byte is not None:
        return f"Bits per byte of {text}, in {score.tokens} tokens of the new vocabulary."
    return f"Perplexity on {text}: {score.tokens} tokens in windows of {score.window}."


def load_code(report: PruneReport, place: str) -> str:
    """Return the Python that loads the result from `place`."""
    return "\n".join(line.replace("{folder}", place) for line in report.load)


def missed(report: PruneReport, most: int) -> str:
    """Say which files of the source are not in the result; `most` of them by name."""
    names = list(report.left_behind)
    more = f" and {len(names) - most} more ({REPORT} names all)" if len(names) > most else ""
    return f"Not copied from the source's folder: {', '.join(names[:most])}{more}."


def printable(text: str) -> str:
    """Return `text` without what would steer a terminal."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)


def shortened(text: str) -> str:
    """Return a sample on one line, cut to a readable length, without what would steer a terminal."""
    line = printable(" ".join(text.split()))
    return line if len(line) <= SAMPLE_LENGTH else line[: SAMPLE_LENGTH - 1] + "…"


def render(report: PruneReport, console: Console) -> None:
    """Print the report."""
    title = styled((report.origin.model, "bold"), f": {asked_and_reached(report)}")
    console.print(title)
    if sentence := rounding(report.budget, report.reached):
        console.print(sentence)
    if report.origin.decided_by:
        console.print(f"Decided by {report.origin.decided_by}", style="dim")
    console.print(_table(report))
    if sentence := scored_on(report):
        console.print(sentence, style="dim")
    colour = "red" if report.degraded or (report.proof and not report.proof.ok) else "green"
    console.print(report.verdict, style=colour)
    if report.reading is not None:
        console.print(report.reading.sentence)
    for facts in report.recoveries:
        console.print(facts.sentence)
    _print_samples(report, console)
    for sentence in report.loaders:
        console.print(f"• {sentence}")
    if report.left_behind:
        console.print(missed(report, SCREEN_NAMES), style="dim")
    for warning in report.warnings:
        console.print(f"Warning: {warning}", style="yellow")
    console.print(styled("\nThe result is in ", (report.folder, "bold"), "; load it with\n"))
    console.print(load_code(report, report.folder), soft_wrap=True)


def render_sizes(reports: Sequence[PruneReport], console: Console) -> None:
    """Print results of one model beside each other, and where each lies."""
    table = Table(box=None, pad_edge=False)
    for column in ("keep", "parameters", "perplexity", "speed", "folder"):
        table.add_column(column, justify="left" if column == "folder" else "right")
    for report in reports:
        score = report.after.score
        table.add_row(
            f"{report.budget.keep:g}",
            count(report.after.cost.params),
            f"{score.perplexity:.4g}" if score else "",
            "; ".join(_speed(gain) for gain in report.speedups.values()),
            report.folder,
        )
    console.print(table)


def _speed(gain: Speedup) -> str:
    """Return how many times as fast a workload is, where that is more than chance."""
    return gain.verdict if gain.low <= 1 <= gain.high else f"{gain.ratio:.2f} times"


def _table(report: PruneReport) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for column in ("before", "after", "ratio"):
        table.add_column(column, justify="right")
    for row in comparisons(report):
        table.add_row(row.name, row.before, row.after, f"{row.ratio:.3g}x")
    return table


def _print_samples(report: PruneReport, console: Console) -> None:
    pairs = list(zip(report.before.samples, report.after.samples, strict=False))[:SAMPLES]
    for number, (before, after) in enumerate(pairs):
        console.print()
        if number < len(report.prompts):
            console.print(styled((shortened(report.prompts[number]), "bold")))
        console.print(styled(("before ", "dim"), shortened(before)))
        console.print(styled(("after  ", "dim"), shortened(after)))
    if pairs:
        console.print()
