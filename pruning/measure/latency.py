"""Measure how fast a model runs, and how fast the machine could multiply and copy at best."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from prunepolicy.pruning.checkpoint.decoding import memory_of

T = TypeVar("T")
COPY_BYTES = 256 << 20
MATMUL_SIZE = 1024


@dataclass(frozen=True)
class Ceilings:
    """What one large operation reaches on this machine.

    Attributes:
        flops: floating-point operations per second of a square matrix product.
        bandwidth: bytes per second, read plus written, of a copy larger than the caches.
    """

    flops: float
    bandwidth: float


@dataclass(frozen=True)
class ModelTime:
    """Seconds of one run.

    Attributes:
        prefill: one forward pass over the whole input.
        decode: generating one more token with the KV cache; None for models that don't write.
    """

    prefill: float
    decode: float | None


def now(device: torch.device) -> float:
    """Return the time in seconds, after everything asked of `device` is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


@contextmanager
def threads(count: int | None) -> Iterator[int]:
    """Let torch use `count` threads (None leaves the number) while the context lasts."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)


@torch.inference_mode()
def time_model(model: nn.Module, inputs: Mapping[str, Tensor], new: int) -> ModelTime:
    """Run `model` on `inputs` once, then let it write `new` tokens greedily; `new=0` only reads.

    As in generation, the prompt's logits are computed for its last position only, where the model
    can do so.
    """
    if not new:
        device = next(model.parameters()).device
        start = now(device)
        model(**inputs)
        return ModelTime(now(device) - start, None)
    prefill, outputs = time_prefill(model, inputs)
    return ModelTime(prefill, time_decode(model, inputs["input_ids"], outputs, new))


@torch.inference_mode()
def time_prefill(model: nn.Module, inputs: Mapping[str, Tensor]) -> tuple[float, Any]:
    """Let `model` read a prompt, and return the seconds it took and the model's output."""
    device = next(model.parameters()).device
    last_only = (
        {"logits_to_keep": 1} if "logits_to_keep" in inspect.signature(model.forward).parameters else {}
    )
    start = now(device)
    outputs = model(**inputs, use_cache=True, **last_only)
    return now(device) - start, outputs


@torch.inference_mode()
def time_decode(model: nn.Module, tokens: Tensor, outputs: Any, new: int) -> float:
    """Let `model` go on greedily after a prompt of which `outputs` came, and return the seconds per token."""
    device = next(model.parameters()).device
    start = now(device)
    for _ in range(new):
        tokens = torch.cat([tokens, outputs.logits[:, -1:].argmax(-1)], dim=1)
        memory = memory_of(outputs)
        outputs = model(input_ids=tokens[:, -1:] if memory else tokens, use_cache=True, **memory)
    return (now(device) - start) / new


def interleaved(
    runs: Sequence[Callable[[], T]], repeats: int, tick: Callable[[int], None] = lambda done: None
) -> list[list[T]]:
    """Call every run `repeats` times in turn and return the results by run.

    The order turns round each time, so that a machine that slows down or speeds up meets all runs
    alike. One round before the first is thrown away.

    Args:
        tick: called with 1 after every round, the thrown one included.
    """
    for run in runs:
        run()
    tick(1)
    results: list[list[T]] = [[] for _ in runs]
    for repeat in range(repeats):
        order = range(len(runs)) if repeat % 2 == 0 else reversed(range(len(runs)))
        for index in order:
            results[index].append(runs[index]())
        tick(1)
    return results


@torch.inference_mode()
def measure_ceilings(device: torch.device, dtype: torch.dtype) -> Ceilings:
    """Time one large matrix product and one large copy; the best of five each."""
    size = MATMUL_SIZE * (8 if device.type == "cuda" else 1)
    left = torch.randn(size, size, dtype=dtype, device=device)
    source = torch.ones(COPY_BYTES, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)

    def best(operation: Callable[[], object]) -> float:
        seconds = []
        for _ in range(6):
            start = now(device)
            operation()
            seconds.append(now(device) - start)
        return min(seconds[1:])

    return Ceilings(
        2 * size**3 / best(lambda: left @ left), 2 * COPY_BYTES / best(lambda: target.copy_(source))
    )
