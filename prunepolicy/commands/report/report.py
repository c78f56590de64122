"""Everything known after a pruning run, and the conclusions that it supports."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from prunepolicy.agents.recovery.facts import RecoveryFacts
from prunepolicy.commands.report.text_reading import TextReading
from prunepolicy.pruning.adapters import ModelAdapter
from prunepolicy.pruning.cost import Cost
from prunepolicy.pruning.errors import PrunePolicyError
from prunepolicy.pruning.io import bounded
from prunepolicy.pruning.io.atomic import write_text
from prunepolicy.pruning.measure.intervals import Interval
from prunepolicy.pruning.measure.perplexity import Fidelity, TextScore
from prunepolicy.pruning.measure.speedup import Speedup
from prunepolicy.pruning.plan import Budget, Plan
from prunepolicy.pruning.proof.proof import Receipt
from prunepolicy.pruning.units import UnitGraph

REPORT = "prune_report.json"
REPORT_SCHEMA = 1
DEGRADED = 2.0
"""A perplexity that rose by more than this factor is called degraded."""
MORE_BITS = 1.25
"""Bits per byte that rose by more than this factor are called degraded."""
LOST = 0.05
"""An accuracy that fell by more than this is called degraded."""
CACHE_BYTES = 2
"""Bytes of one number in the KV-cache (16-bit floats, what runtimes use by default)."""


@dataclass(frozen=True)
class Facts:
    """What is known about one network; what wasn't measured is empty.

    Attributes:
        score: how well it predicts the report's text.
        latency: name of a workload to its seconds.
        samples: text it wrote, one per prompt.
        accuracy: share of the report's test images that it names rightly.
    """

    cost: Cost
    score: TextScore | None = None
    latency: Mapping[str, float] = field(default_factory=dict)
    samples: tuple[str, ...] = ()
    accuracy: float | None = None

    @property
    def cache_bytes(self) -> int:
        """Bytes of KV-cache per token."""
        return self.cost.cache_entries * CACHE_BYTES


@dataclass(frozen=True)
class KeptUnits:
    """How many units of one group stayed; `kept` is 0 where the whole layer went."""

    group: str
    kind: str
    layer: int | None
    size: int
    kept: int


@dataclass(frozen=True)
class Origin:
    """What a run has to be given to happen again.

    Attributes:
        model: the source, as the user called it.
        fingerprint: hash that tells the source's weights from others.
        command: the exact command line.
        made_by: the policy that decided.
        decided_by: its name, where it came from, and the start of its hash.
        repair: the repair that followed the cut, if any.
        recover: budget of knowledge distillation from the dense model after the cut; a number counts epochs.
        versions: of the packages that took part.
        machine: name of the processor everything was measured on.
        base_model: hub id of the source, where it has one.
        licence: the source's licence as its card or configuration names it, where it does.
        reused: what earlier runs had found out and this one took from the cache.
        texts: options that name a plan's texts to `cut`, which opens no path that a plan names.
    """

    model: str
    fingerprint: str
    command: str
    seed: int
    made_by: str
    repair: str | None = None
    recover: int | str = 0
    versions: Mapping[str, str] = field(default_factory=dict)
    machine: str = ""
    base_model: str | None = None
    licence: str | None = None
    decided_by: str = ""
    reused: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()


@dataclass(frozen=True)
class PruneReport:
    """What was removed, what that cost and saved, and the evidence for it.

    Attributes:
        folder: where the result lies, as the user called it.
        model_type: architecture, as in `config.json`.
        task: `causal`, `encoder` or `vision`.
        load: the lines of Python that load the result; `{folder}` stands for its place.
        uniform: all layers have equal shapes.
        budget: what was asked.
        reached: the share that stayed, of what the budget names.
        text: name of the text that both scores were taken on.
        images: name of the images that both networks were tested on, where the pruned one was trained.
        change: interval of the change in accuracy on them, or in log-perplexity (nats per token) on the text,
            from pairs of images or windows.
        speedups: name of a workload to how many times faster the pruned network is, with the interval
            that decides whether it may be called faster.
        fidelity: how close the outputs stay to the source's, for models that don't write text.
        loaders: who can load the result, in sentences.
        left_behind: files of the source that are not in the result, to the reason.
        seconds: duration of the run.
        reading: what a choice that follows the user's text stands on.
        prompts: what both models answered, where samples hold the answers alone; in reports of earlier
            versions samples begin with their prompt.
        recoveries: what learning after the cut came to, one after the other.
    """

    origin: Origin
    folder: str
    model_type: str
    task: str
    load: tuple[str, ...]
    uniform: bool
    budget: Budget
    reached: float
    before: Facts
    after: Facts
    kept: tuple[KeptUnits, ...]
    text: str = ""
    speedups: Mapping[str, Speedup] = field(default_factory=dict)
    fidelity: Fidelity | None = None
    proof: Receipt | None = None
    loaders: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    left_behind: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    images: str = ""
    change: Interval | None = None
    reading: TextReading | None = None
    prompts: tuple[str, ...] = ()
    recoveries: tuple[RecoveryFacts, ...] = ()

    @property
    def perplexity_ratio(self) -> float | None:
        """Perplexity after over before; None where one wasn't measured, or their tokens differ."""
        if self.before.score is None or self.after.score is None or self.bits_ratio is not None:
            return None
        return self.after.score.perplexity / self.before.score.perplexity

    @property
    def bits_ratio(self) -> float | None:
        """Bits per byte after over before; None where the vocabulary is the same, or nothing was measured."""
        scores = (self.before.score, self.after.score)
        before, after = (score and score.bits_per_byte for score in scores)
        return after / before if before and after else None

    @property
    def _undecided(self) -> bool:
        """Whether the change of quality lies within the error of what it was measured on."""
        return self.change is not None and not self.change.excludes(0)

    @property
    def degraded(self) -> bool:
        """Whether the quality fell so far that the result needs repair before use."""
        ratio, before, after = self.perplexity_ratio, self.before.accuracy, self.after.accuracy
        if self._undecided:
            return False
        if self.bits_ratio is not None:
            return not self.bits_ratio <= MORE_BITS
        if before is not None and after is not None:
            return not before - after <= LOST
        return ratio is not None and not ratio <= DEGRADED

    @property
    def verdict(self) -> str:
        """The outcome in plain words: does it load, is it still good, is it faster."""
        return " ".join((self._loading(), self._quality(), self._speed()))

    def _loading(self) -> str:
        if self.proof is None:
            return "Loading wasn't tested."
        return self.proof.sentence

    def _quality(self) -> str:
        before, after, ratio = self.before.score, self.after.score, self.perplexity_ratio
        if self.before.accuracy is not None and self.after.accuracy is not None:
            return self._accuracy(self.before.accuracy, self.after.accuracy)
        if self.fidelity is not None:
            return self._closeness(self.fidelity)
        if before and after and self.bits_ratio is not None:
            return self._bits(before, after, self.bits_ratio)
        if before is None or after is None or ratio is None:
            return "Quality wasn't measured."
        change = f"perplexity went from {before.perplexity:.4g} to {after.perplexity:.4g}"
        if self.degraded:
            return (
                f"Degraded: {change} ({ratio:.3g} times as high). "
                f"Keep more (--keep {gentler(self.budget.keep):g}), or train the result before use."
            )
        if self.change and self._undecided:
            interval = Interval(*map(math.exp, self.change)).written(3, null=1)
            return f"On the text that was scored, no difference shown: {change} ({interval} times, 95 %)."
        return f"On the text that was scored, {change} ({ratio - 1:+.1%})."

    def _bits(self, before: TextScore, after: TextScore, ratio: float) -> str:
        change = f"bits per byte went from {before.bits_per_byte:.4g} to {after.bits_per_byte:.4g}"
        if self.degraded:
            return f"Degraded: {change} ({ratio - 1:+.1%}). Keep more (--keep {gentler(self.budget.keep):g})."
        shown = "no difference shown: " if self._undecided else ""
        return f"On the text that was scored, {shown}{change} ({ratio - 1:+.1%})."

    def _accuracy(self, before: float, after: float) -> str:
        change = f"accuracy on {self.images}'s test images went from {before:.2%} to {after:.2%}"
        if self.change and self._undecided:
            points = Interval(*(100 * end for end in self.change)).written()
            return f"No difference shown: {change} ({points} points, 95 %)."
        if not self.degraded:
            return f"{change[0].upper()}{change[1:]}."
        gentle = gentler(self.budget.keep)
        return f"Degraded: {change}. Keep more (--keep {gentle:g}), or train longer (--epochs)."

    def _closeness(self, fidelity: Fidelity) -> str:
        agreement = fidelity.agreement
        same = "" if agreement is None else f" and name the same class {agreement:.0%} of the time"
        return (
            f"On {self.text}, outputs have a cosine of {fidelity.cosine:.3f} with the dense model's{same}; "
            "measure the quality that you need on data of your own."
        )

    def _speed(self) -> str:
        if not self.speedups:
            return "No speed was measured."
        parts = [
            f"{name}: {gain.verdict}, {gain.ratio:.2f} times as fast ({gain.written})"
            for name, gain in self.speedups.items()
        ]
        return f"Speed, with 95 % intervals: {'; '.join(parts)}."

    def to_json(self) -> str:
        """Return the report as JSON text, the same text for the same report."""
        return json.dumps({"schema_version": REPORT_SCHEMA, **asdict(self)}, indent=1, sort_keys=True) + "\n"

    def _repr_html_(self) -> str:
        """Return what notebooks show: the page that lies in the result's folder."""
        from prunepolicy.agents.runtime.html_page import framed
        from prunepolicy.commands.report.report_page import report_page

        return framed(report_page(self, {}))

    @classmethod
    def from_json(cls, text: str) -> PruneReport:
        """Read what `to_json` wrote; anything else raises `PrunePolicyError`."""
        try:
            data = bounded.parsed_json(text)
            if not isinstance(data, dict) or data.pop("schema_version", None) != REPORT_SCHEMA:
                raise PrunePolicyError(f"Not a report of schema {REPORT_SCHEMA}.")
            return TypeAdapter(cls).validate_python(_with_todays_names(data))
        except ValidationError as error:
            first = error.errors()[0]
            raise PrunePolicyError(
                f"Not a report: {'.'.join(map(str, first['loc']))}: {first['msg']}."
            ) from error
        except ValueError as error:
            raise PrunePolicyError(f"Not a report: {bounded.why(error)}.") from error

    @classmethod
    def read(cls, folder: Path) -> PruneReport:
        """Read the report in a result's folder; OSError or `PrunePolicyError` where there is none."""
        try:
            return cls.from_json(bounded.read_text(folder / REPORT))
        except UnicodeDecodeError as error:
            raise PrunePolicyError(f"Not a report: {bounded.why(error)}.") from error

    def save(self, folder: Path) -> None:
        """Write `prune_report.json` into `folder`."""
        write_text(folder / REPORT, self.to_json())


OLDER_WORKLOADS = {
    "Writing one token": "Decode (per token)",
    "One image": "Forward pass (one image)",
    "One text": "Forward pass (one text)",
}
"""Workloads in reports that earlier versions saved, and what they are called now."""


def _with_todays_names(data: dict[str, Any]) -> dict[str, Any]:
    """Return a stored report whose workloads are called as this version calls them."""

    def renamed(times: Any) -> Any:
        if not isinstance(times, dict):
            return times  # Validation refuses it.
        names = {name: re.sub(r"^Reading (\d+) tokens$", r"Prefill (\1 tokens)", str(name)) for name in times}
        today = {OLDER_WORKLOADS.get(name, name): times[old] for old, name in names.items()}
        return dict(sorted(today.items(), reverse=True))  # Prefill comes before decode; JSON has sorted keys.

    facts = {
        part: {**data[part], "latency": renamed(data[part].get("latency", {}))}
        for part in ("before", "after")
        if isinstance(data.get(part), dict)
    }
    return {**data, **facts, "speedups": renamed(data.get("speedups", {}))}


def gentler(keep: float) -> float:
    """Return a keep ratio half-way between `keep` and everything, in steps of 0.05."""
    return min(0.95, round((1 + keep) / 2 * 20) / 20)


def kept_units(graph: UnitGraph, plan: Plan) -> tuple[KeptUnits, ...]:
    """Count what `plan` leaves of every group of `graph`."""
    gone = plan.dropped_layers(graph)
    return tuple(
        KeptUnits(
            group.name,
            group.kind,
            group.layer,
            group.size,
            0 if group.layer in gone else len(plan.kept(group)),
        )
        for group in graph.groups
    )


def loading_lines(adapter: ModelAdapter, uniform: bool, prepared: bool = True) -> tuple[str, ...]:
    """Return the lines of Python that load a result; `{folder}` stands for its place.

    Args:
        prepared: the folder has what prepares inputs, a tokenizer or an image processor.
    """
    modules = [Path(file).stem for file in adapter.carries if file.endswith(".py")]
    if modules:
        return (f"from {modules[0]} import load", 'model = load("{folder}")')
    trust = "" if uniform else ", trust_remote_code=True"
    imports = f"from transformers import {adapter.auto_class}"
    load = f'model = {adapter.auto_class}.from_pretrained("{{folder}}"{trust})'
    if not prepared:
        return imports, load
    vision = adapter.task == "vision"
    name, reader = ("processor", "AutoImageProcessor") if vision else ("tokenizer", "AutoTokenizer")
    return f"{imports}, {reader}", load, f'{name} = {reader}.from_pretrained("{{folder}}")'
