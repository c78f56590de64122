"""`prunepolicy bench`: how much faster a pruned model is on this machine, with an interval."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass

import torch
from rich.table import Table
from torch import Tensor, nn

from prunepolicy.commands.report.report_view import size
from prunepolicy.pruning.checkpoint.context import context_of
from prunepolicy.pruning.cost import Cost, cost_of
from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.io.console import Console
from prunepolicy.pruning.io.machine import peak_memory, versions
from prunepolicy.pruning.io.progress import Listener, ProgressReporter
from prunepolicy.pruning.measure.latency import (
    Ceilings,
    ModelTime,
    interleaved,
    measure_ceilings,
    threads,
    time_model,
)
from prunepolicy.pruning.measure.speedup import Speedup, Spread, speedup, spread
from prunepolicy.pruning.session.opened_model import Hardware, OpenedModel

NEAR = 0.3
"""Share of a ceiling from which on it is called the limit."""


@dataclass(frozen=True)
class BenchRequest:
    """What the models have to do.

    Attributes:
        batches: sequences (or images) at once, one measurement each.
        prompt: tokens of the prompt (prefill).
        new: tokens to generate (decode).
        repeats: timed runs per model and batch.
        threads: for torch on a CPU; None leaves torch's choice.
        seed: of inputs and bootstrap.
    """

    batches: tuple[int, ...] = (1,)
    prompt: int = 128
    new: int = 32
    repeats: int = 10
    threads: int | None = None
    seed: int = 0

    def check(self) -> None:
        """Raise `UsageError` for a number that makes no sense."""
        if self.repeats < 5:
            raise UsageError(f"An interval needs at least 5 repeats; got {self.repeats}.")
        if min((*self.batches, self.prompt, self.new, self.threads or 1), default=0) < 1 or not self.batches:
            raise UsageError("batch, prompt, new and threads must be at least 1.")


@dataclass(frozen=True)
class Measurement:
    """One phase at one batch size, for both models.

    Attributes:
        phase: `prefill`, `decode`, or `forward` for models that don't write.
        before: seconds of the dense model: of one pass, in decoding per step.
        after: those of the pruned one.
        tokens: that one pass or step processes (images for vision models).
        achieved_flops: FLOP/s of the pruned model's weights.
        achieved_bandwidth: bytes per second of the pruned model's weights, read once a pass.
        limit: which ceiling the pruned model runs into, in words.
    """

    phase: str
    batch: int
    before: Spread
    after: Spread
    speedup: Speedup
    tokens: int
    achieved_flops: float
    achieved_bandwidth: float
    limit: str


@dataclass(frozen=True)
class BenchReport:
    """Timings of two models, taken in turn.

    Attributes:
        flop_ratio: FLOPs per token of the dense model over those of the pruned one.
        byte_ratio: the same of stored weight bytes.
        peak_memory: bytes at most, of both models together.
    """

    model: str
    against: str
    measurements: tuple[Measurement, ...]
    flop_ratio: float
    byte_ratio: float
    ceilings: Ceilings
    peak_memory: int | None
    settings: Mapping[str, object]
    versions: Mapping[str, str]

    def to_json(self) -> str:
        """Return the report as JSON text, with the verdicts."""
        data = asdict(self)
        for measured, row in zip(self.measurements, data["measurements"], strict=True):
            row["verdict"] = measured.speedup.verdict
        return json.dumps(data, indent=1) + "\n"

    def render(self, console: Console) -> None:
        """Print a table with one row per phase and batch, what limits it, and the settings."""
        table = Table("Phase", box=None, pad_edge=False)
        for column in ("batch", self.against, self.model, "tokens/s", "speed-up", "95 % interval", "verdict"):
            table.add_column(column, justify="right")
        for row in self.measurements:
            table.add_row(row.phase, str(row.batch), *_cells(row))
        console.print(table)
        console.print(
            f"FLOPs per token {self.flop_ratio:.3g}x fewer, weight bytes {self.byte_ratio:.3g}x fewer. "
            f"At best this machine computes {self.ceilings.flops / 1e9:.4g} GFLOP/s "
            f"and copies {self.ceilings.bandwidth / 1e9:.4g} GB/s.",
        )
        for row in self.measurements:
            console.print(f"{row.phase}, batch {row.batch}: {row.limit}")
        peak = size(self.peak_memory) if self.peak_memory else None
        settings = {**self.settings, "peak memory": peak, **self.versions}
        listing = ", ".join(f"{name} {value}" for name, value in settings.items() if value is not None)
        console.print(listing, style="dim")


def bench(
    model: str,
    against: str,
    request: BenchRequest | None = None,
    hardware: Hardware | None = None,
    progress: bool | Listener | ProgressReporter = False,
) -> BenchReport:
    """Time `model` and `against` in turn, in one process and one precision.

    Both are in memory at once, so that drift of the machine meets both alike.

    Args:
        progress: True for lines on standard error, or what is called with every event.

    Raises:
        UsageError: for a request that makes no sense, or models that read different inputs.
    """
    request, hardware = request or BenchRequest(), hardware or Hardware()
    request.check()
    dense, pruned = OpenedModel.named(against, hardware), OpenedModel.named(model, hardware)
    if dense.checkpoint.adapter.task != pruned.checkpoint.adapter.task:
        raise UsageError(f"{against} and {model} are models for different tasks, so they can't be compared.")
    costs = cost_of(dense.checkpoint.graph), cost_of(pruned.checkpoint.graph)
    with threads(request.threads) as count:
        ceilings = measure_ceilings(hardware.torch_device, hardware.torch_dtype)
        timer = _Timer(dense, pruned, costs[1], ceilings, request, ProgressReporter.of(progress))
        measurements = tuple(row for batch in request.batches for row in timer.measure(batch))
    return BenchReport(
        model,
        against,
        measurements,
        costs[0].flops / costs[1].flops,
        costs[0].weight_bytes / costs[1].weight_bytes,
        ceilings,
        peak_memory(hardware.torch_device),
        hardware.described()
        | {"threads": count, "prompt": request.prompt, "new": request.new, "repeats": request.repeats},
        versions("prunepolicy", "torch", "transformers"),
    )


@dataclass(frozen=True)
class _Timer:
    dense: OpenedModel
    pruned: OpenedModel
    cost: Cost
    ceilings: Ceilings
    request: BenchRequest
    progress: ProgressReporter

    def measure(self, batch: int) -> Iterator[Measurement]:
        """Yield the measurements at one batch size."""
        inputs = example_inputs(self.pruned, batch, self.request)
        writes = self.pruned.checkpoint.adapter.task == "causal"
        new = self.request.new if writes else 0
        inputs = {name: tensor.to(self.pruned.hardware.torch_device) for name, tensor in inputs.items()}

        def run(model: nn.Module) -> ModelTime:
            typed = {n: t.to(_dtype(model)) if t.is_floating_point() else t for n, t in inputs.items()}
            return time_model(model, typed, new)

        models = self.dense.model, self.pruned.model
        runs: list[Callable[[], ModelTime]] = [lambda m=m: run(m) for m in models]  # type: ignore[misc]
        with self.progress.step(f"time batches of {batch}", self.request.repeats + 1) as tick:
            before, after = interleaved(runs, self.request.repeats, tick)
        seconds = [time.prefill for time in before], [time.prefill for time in after]
        tokens = inputs["input_ids"].numel() if "input_ids" in inputs else batch
        yield self._measurement("prefill" if writes else "forward", batch, seconds, tokens)
        if writes:
            steps = [t.decode for t in before if t.decode], [t.decode for t in after if t.decode]
            yield self._measurement("decode", batch, steps, batch)

    def _measurement(
        self, phase: str, batch: int, seconds: tuple[list[float], list[float]], tokens: int
    ) -> Measurement:
        before, after = seconds
        typical = spread(after)
        flops = self.cost.flops * tokens / typical.median
        # A weight that a token passes costs two operations; a pass reads it once, whatever the batch.
        bandwidth = self.cost.flops / 2 * self.pruned.hardware.torch_dtype.itemsize / typical.median
        return Measurement(
            phase,
            batch,
            spread(before),
            typical,
            speedup(before, after, self.request.seed),
            tokens,
            flops,
            bandwidth,
            limit_sentence(flops / self.ceilings.flops, bandwidth / self.ceilings.bandwidth),
        )


def example_inputs(opened: OpenedModel, batch: int, request: BenchRequest) -> dict[str, Tensor]:
    """Return random inputs of the kind that the model reads, the same for the same seed.

    Raises:
        UsageError: when prompt and answer together are longer than the model's context.
    """
    generator = torch.Generator().manual_seed(request.seed)
    config = opened.checkpoint.config
    if opened.checkpoint.adapter.task == "vision":
        side = int(config.get("image_size") or 224)
        channels = int(config.get("num_channels") or 3)
        return {"pixel_values": torch.randn(batch, channels, side, side, generator=generator)}
    longest, new = context_of(opened.model), request.new if opened.checkpoint.adapter.task == "causal" else 0
    if request.prompt + new > longest:
        raise UsageError(f"prompt and new must not exceed the {longest} tokens that the model reads.")
    adapter = opened.checkpoint.adapter
    return adapter.reads(torch.randint(adapter.tokens(config), (batch, request.prompt), generator=generator))


def limit_sentence(compute: float, memory: float) -> str:
    """Say which roofline limit is near, given the shares of both that were reached."""
    reached = f"{compute:.0%} of peak FLOP/s, {memory:.0%} of peak memory bandwidth"
    if max(compute, memory) < NEAR:
        return f"{reached}: neither is near, overhead between kernels dominates."
    limit = "memory bandwidth, so fewer weight bytes" if memory > compute else "compute, so fewer FLOPs"
    return f"{reached}: the nearer limit is {limit} make it faster."


def _dtype(model: nn.Module) -> torch.dtype:
    return next(model.parameters()).dtype


def _cells(row: Measurement) -> tuple[str, ...]:
    gain = row.speedup
    rate = row.tokens / row.after.median
    return (
        row.before.written,
        row.after.written,
        f"{rate:.4g}",
        f"{gain.ratio:.3f}x",
        gain.written,
        gain.verdict,
    )
