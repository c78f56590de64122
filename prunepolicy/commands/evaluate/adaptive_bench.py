"""`prunepolicy bench --adaptive`: what choosing channels at run time costs, and what it saves."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass

import torch
from rich.table import Table
from torch import Tensor

from prunepolicy.commands.evaluate.bench import BenchRequest
from prunepolicy.commands.report.report_view import size
from prunepolicy.policy.adaptive.adaptive_model import AdaptiveModel
from prunepolicy.pruning.checkpoint.context import context_of
from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.io.console import Console
from prunepolicy.pruning.io.machine import versions
from prunepolicy.pruning.io.progress import Listener, ProgressReporter
from prunepolicy.pruning.measure.latency import interleaved, now, threads, time_decode, time_prefill
from prunepolicy.pruning.measure.speedup import Speedup, Spread, speedup, spread
from prunepolicy.pruning.session.opened_model import Hardware

PROMPT = 512
"""Tokens of the prompt, unless asked otherwise."""


@dataclass(frozen=True)
class Phase:
    """One part of answering a prompt.

    Attributes:
        phase: `prefill`, `choose`, `gather`, `decode` (per token) or `answer` (all of them).
        dense: seconds that the dense model takes; None for what it doesn't do.
        adaptive: seconds with channels chosen at run time.
        speedup: of the second against the first.
        share: of the median dense prefill.
    """

    phase: str
    batch: int
    dense: Spread | None
    adaptive: Spread
    speedup: Speedup | None
    share: float


@dataclass(frozen=True)
class AdaptiveBenchReport:
    """Timings of one model in both ways, taken in turn.

    Attributes:
        model_bytes: what all weights take.
        extra_bytes: what the gathered ones take beside them.
    """

    model: str
    policy: str
    keep: float
    phases: tuple[Phase, ...]
    model_bytes: int
    extra_bytes: int
    settings: Mapping[str, object]
    versions: Mapping[str, str]

    def to_json(self) -> str:
        """Return the report as JSON text, with the verdicts."""
        data = asdict(self)
        for phase, row in zip(self.phases, data["phases"], strict=True):
            row["verdict"] = phase.speedup.verdict if phase.speedup else None
        return json.dumps(data, indent=1) + "\n"

    def render(self, console: Console) -> None:
        """Print a table with one row per phase and batch, the memory, and the settings."""
        table = Table("Phase", box=None, pad_edge=False)
        columns = ("batch", "dense", "adaptive", "of dense prefill", "speed-up", "95 % interval", "verdict")
        for column in columns:
            table.add_column(column, justify="right")
        for phase in self.phases:
            table.add_row(phase.phase, str(phase.batch), *_cells(phase))
        console.print(table)
        console.print(
            f"The gathered weights take {size(self.extra_bytes)} beside the model's {size(self.model_bytes)}."
        )
        settings = {"policy": self.policy, "keep": self.keep, **self.settings, **self.versions}
        console.print(", ".join(f"{name} {value}" for name, value in settings.items()), style="dim")


@dataclass(frozen=True)
class _Times:
    """Seconds of one answer."""

    prefill: float
    decode: float
    choose: float = 0.0
    gather: float = 0.0


def adaptive_bench(
    model: str,
    policy: str = "blend",
    keep: float = 0.5,
    request: BenchRequest | None = None,
    hardware: Hardware | None = None,
    progress: bool | Listener | ProgressReporter = False,
) -> AdaptiveBenchReport:
    """Let one model answer prompts in turn with all its channels and with those chosen for each prompt.

    Prompts are random tokens, others in each round, so that no choice is remembered.

    Args:
        progress: True for lines on standard error, or what is called with every event.

    Raises:
        UsageError: for a request that makes no sense, or is longer than the model's context.
        UnsupportedModelError: when the model's channels can't be chosen at run time.
    """
    request, hardware = request or BenchRequest(prompt=PROMPT), hardware or Hardware()
    request.check()
    adaptive = AdaptiveModel.from_pretrained(
        model,
        policy,
        keep,
        device=hardware.device,
        dtype=hardware.dtype,
        trust_remote_code=hardware.trust_remote_code,
    )
    if request.prompt + request.new > context_of(adaptive.model):
        raise UsageError(
            f"prompt and new must not exceed the {context_of(adaptive.model)} tokens that the model reads."
        )
    with threads(request.threads) as used:
        shown = ProgressReporter.of(progress)
        phases = tuple(row for batch in request.batches for row in _phases(adaptive, batch, request, shown))
    return AdaptiveBenchReport(
        model,
        policy,
        keep,
        phases,
        sum(parameter.nbytes for parameter in adaptive.model.parameters()),
        adaptive.extra_bytes,
        hardware.described()
        | {"threads": used, "prompt": request.prompt, "new": request.new, "repeats": request.repeats},
        versions("prunepolicy", "torch", "transformers"),
    )


def _phases(
    adaptive: AdaptiveModel, batch: int, request: BenchRequest, progress: ProgressReporter
) -> Iterator[Phase]:
    """Yield the measurements at one batch size."""
    settings, last = adaptive.model.config, request.repeats + 1

    def prompts() -> Iterator[Tensor]:
        generator = torch.Generator().manual_seed(request.seed)
        for _ in range(last):
            tokens = torch.randint(settings.vocab_size, (batch, request.prompt), generator=generator)
            yield tokens.to(adaptive.model.device)

    runs = (_dense_run(adaptive, prompts(), request.new), _adaptive_run(adaptive, prompts(), request.new))
    with progress.step(f"time batches of {batch}", last) as tick:
        dense, chosen = interleaved(runs, request.repeats, tick)
    typical = spread([times.prefill for times in dense]).median

    def phase(name: str, of: Callable[[_Times], float], dense_does: bool = True) -> Phase:
        before, after = [of(times) for times in dense], [of(times) for times in chosen]
        took = spread(after)
        if not dense_does:
            return Phase(name, batch, None, took, None, took.median / typical)
        ratio = speedup(before, after, request.seed)
        return Phase(name, batch, spread(before), took, ratio, took.median / typical)

    yield phase("prefill", lambda times: times.prefill)
    yield phase("choose", lambda times: times.choose, dense_does=False)
    yield phase("gather", lambda times: times.gather, dense_does=False)
    yield phase("decode", lambda times: times.decode)
    yield phase("answer", lambda t: t.prefill + t.choose + t.gather + request.new * t.decode)


def _dense_run(adaptive: AdaptiveModel, prompts: Iterator[Tensor], new: int) -> Callable[[], _Times]:
    def run() -> _Times:
        tokens = next(prompts)
        with adaptive.dense() as model:
            prefill, outputs = time_prefill(model, {"input_ids": tokens})
            return _Times(prefill, time_decode(model, tokens, outputs, new))

    return run


def _adaptive_run(adaptive: AdaptiveModel, prompts: Iterator[Tensor], new: int) -> Callable[[], _Times]:
    def run() -> _Times:
        tokens, device = next(prompts), adaptive.model.device
        prefill, outputs = time_prefill(adaptive.model, {"input_ids": tokens})
        begun = now(device)
        adaptive.choose()
        decided = now(device)
        adaptive.gather()
        gathered = now(device)
        decode = time_decode(adaptive.model, tokens, outputs, new)
        return _Times(prefill, decode, decided - begun, gathered - decided)

    return run


def _cells(phase: Phase) -> tuple[str, ...]:
    gain = phase.speedup
    verdict = (f"{gain.ratio:.3f}x", gain.written, gain.verdict) if gain else ("", "", "")
    return (
        *(times.written if times else "" for times in (phase.dense, phase.adaptive)),
        f"{phase.share:.1%}",
        *verdict,
    )
