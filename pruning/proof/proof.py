"""Proof of loading: a clean process without this package opens a folder and gets the right numbers."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from torch import Tensor

from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.checkpoint.loading import carries_code
from prunepolicy.pruning.errors import BadCheckpointError
from prunepolicy.pruning.io import bounded
from prunepolicy.pruning.io.atomic import write_bytes
from prunepolicy.pruning.io.machine import GIB, available_memory
from prunepolicy.pruning.io.safetensors_file import safetensors_bytes
from prunepolicy.pruning.io.temporary import temporary_folder

SCRIPT = Path(__file__).with_name("proof_script.py")
LIBRARIES = GIB // 2
"""Bytes that Python, torch and transformers take before any weight."""


@dataclass(frozen=True)
class Receipt:
    """What the clean process saw.

    Attributes:
        ok: it loaded, computed what was expected, and generates the same with and without cache.
        ran: the process gave an answer; False when it couldn't be started or didn't finish.
        sentence: the outcome in words.
        difference: largest absolute difference of the outputs, in float32.
        relative: `difference` over the standard deviation of the expected outputs (or a hundredth of their
            size, where they are nearly equal).
        tolerance: the largest `relative` that passes.
        cache_agrees: None for models that don't generate.
        own_code: the folder's own modelling file was run (with trust_remote_code, where transformers does).
        seconds: time from loading to the last comparison.
        peak_memory: bytes the process held at most.
        versions: of what it ran with.
    """

    ok: bool
    ran: bool
    sentence: str
    difference: float | None = None
    relative: float | None = None
    tolerance: float | None = None
    cache_agrees: bool | None = None
    own_code: bool = False
    seconds: float | None = None
    peak_memory: int | None = None
    versions: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return the receipt as JSON text."""
        return json.dumps(asdict(self), indent=1, sort_keys=True) + "\n"


def prove(
    folder: Path,
    source: Checkpoint,
    inputs: Mapping[str, Tensor],
    expected: Tensor,
    tolerance: float = 1e-3,
    timeout: float = 1800.0,
    texts: Mapping[str, list[int]] = MappingProxyType({}),
) -> Receipt:
    """Load `folder` in a clean process with plain transformers and compare what it computes.

    The process never imports this package. Everything is computed in float32 on the CPU. Weights that the
    source's class doesn't read, and a cache that the source disagrees with, too, are no fault of the folder.

    Args:
        source: what `folder` was cut from.
        inputs: the model's keyword arguments (`input_ids` or `pixel_values`), rows of equal length.
        expected: the answers it must reproduce (`answers.answer_of`).
        tolerance: largest difference that passes, in standard deviations of `expected`.
        timeout: seconds after which the process is stopped.
        texts: what the folder's tokenizer reads, to the tokens that it must find; none for the source's own.
    """
    try:
        own_code, too_large = needs_own_code(folder, source), _too_large(Checkpoint.open(folder))
    except BadCheckpointError as error:
        return Receipt(False, False, str(error))
    if too_large:
        return Receipt(False, False, too_large, own_code=own_code)
    request = {
        "folder": str(folder.resolve()),
        "auto_class": source.adapter.auto_class,
        "own_code": own_code,
        "modelling_file": next(iter(source.adapter.carries), None),
        "generates": source.adapter.task == "causal",
        "source": None if carries_code(source.folder) else str(source.folder.resolve()),
        "source_files": [str(file.resolve()) for file in source.files],
        "texts": dict(texts),
    }
    tensors = {**inputs, "expected": expected.float()}
    try:
        reply = _ask(request, tensors, timeout)
        if reply.get("cache_agrees") is False and not _source_agrees(source, request, tensors, timeout):
            reply |= {"cache_agrees": None, "trouble": ""}
    except subprocess.TimeoutExpired:
        return Receipt(False, False, f"Stopped after {timeout:g} s without an answer.", own_code=own_code)
    return verdict_on(reply, tolerance, own_code)


def needs_own_code(folder: Path, source: Checkpoint) -> bool:
    """Return whether a result is loaded by a file that it carries."""
    return bool(source.adapter.carries) or carries_code(folder)


def _source_agrees(
    source: Checkpoint, request: dict[str, Any], tensors: Mapping[str, Tensor], timeout: float
) -> bool:
    """Return whether the source generates the same with a cache as without, or can't be asked."""
    if not request["source"] or _too_large(source):
        return True
    reply = _ask(request | {"folder": request["source"], "own_code": False, "texts": {}}, tensors, timeout)
    return reply.get("cache_agrees") is not False


def _too_large(checkpoint: Checkpoint) -> str:
    """Say that a checkpoint doesn't fit into free memory; nothing where it does."""
    needed, available = memory_to_load(checkpoint), available_memory()
    if available is None or needed <= available:
        return ""
    return f"Not run: needs {needed / GIB:.1f} GiB of memory, {available / GIB:.1f} GiB are free."


def memory_to_load(checkpoint: Checkpoint) -> int:
    """Return the bytes a process needs to load and run a checkpoint in float32."""
    entries = sum(math.prod(shape) for shape in checkpoint.shapes.values())
    return int(4.2 * entries) + LIBRARIES


def _ask(request: dict[str, Any], tensors: Mapping[str, Tensor], timeout: float) -> dict[str, Any]:
    with temporary_folder() as scratch:
        reply = scratch / "reply.json"
        request |= {"tensors": f"{scratch}/tensors.safetensors", "reply": str(reply)}
        write_bytes(scratch / "tensors.safetensors", safetensors_bytes(tensors))
        # Code that a folder carries is copied before it runs; the copy goes with the scratch folder.
        offline = {"HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(scratch), "CUDA_VISIBLE_DEVICES": ""}
        process = subprocess.run(
            [sys.executable, "-I", "-c", SCRIPT.read_text(encoding="utf-8")],
            input=json.dumps(request),
            env=os.environ | offline,
            cwd=scratch,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if reply.is_file():
            answer: dict[str, Any] = bounded.read_json(reply)
            return answer
        last = process.stderr.strip().splitlines()[-1:] or ["no message"]
        return {"error": f"the process ended with code {process.returncode}: {last[0]}"}


def verdict_on(reply: dict[str, Any], tolerance: float, own_code: bool) -> Receipt:
    """Turn what the clean process answered into a receipt."""
    if "error" in reply:
        return Receipt(
            False, True, f"The folder doesn't load: {reply['error'].rstrip('.:')}.", own_code=own_code
        )
    if not math.isfinite(reply["difference"]):
        return Receipt(False, True, "The folder loads, but its outputs are not finite.", own_code=own_code)
    spread, trouble = reply.pop("spread"), reply.pop("trouble")
    relative = reply["difference"] / spread if spread else math.inf
    sentence = _sentence(relative, tolerance, reply, trouble)
    ok = relative <= tolerance and reply["cache_agrees"] is not False
    return Receipt(ok, True, sentence, relative=relative, tolerance=tolerance, own_code=own_code, **reply)


def _sentence(relative: float, tolerance: float, reply: dict[str, Any], trouble: str) -> str:
    if relative > tolerance:
        return (
            f"The folder loads, but its outputs differ by {reply['difference']:.3g}, "
            f"{relative:.2g} of their spread; {tolerance:g} is allowed."
        )
    if trouble:
        return f"The folder loads and computes well, but doesn't generate: {trouble.rstrip('.:')}."
    if reply["cache_agrees"] is False:
        return "The folder loads and computes well, but answers otherwise with a cache than without."
    version = reply["versions"]["transformers"]
    return f"A clean process with transformers {version} loads it and gets the same outputs."
