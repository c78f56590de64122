"""Time and memory of cutting a LLaMA-2-7B-shaped checkpoint, beside copying it on the same disk."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from prunepolicy.pruning.checkpoint.checkpoint import CONFIG, INDEX, Checkpoint
from prunepolicy.pruning.checkpoint.cut import finish, prepare
from prunepolicy.pruning.io.atomic import publish, write_text
from prunepolicy.pruning.io.safetensors_file import TensorHeader, header_bytes, write_file
from prunepolicy.pruning.plan import Budget, Plan

HIDDEN, CHANNELS, HEADS, VOCAB = 4096, 11008, 32, 32000
SHARD = 1 << 30
CHUNK = 2 << 20
KEEP = 0.7
SEED = 0


@dataclass(frozen=True)
class Run:
    """One measured process.

    Attributes:
        seconds: wall time of the work itself, without start-up and imports.
        peak: largest resident memory, in bytes.
    """

    seconds: float
    peak: int


def main() -> None:
    """Make the checkpoint, cut and copy it with warm and with cold caches, and write the numbers."""
    options = parse_arguments()
    if options.work:
        work(options.work, options.source, options.target)
        return
    folder = Path(tempfile.mkdtemp(prefix="streaming-", dir=options.folder))
    try:
        source = folder / "source"
        layers = make_checkpoint(source, options.gib * 2**30)
        results = measure(source, folder / "target", options.rounds)
    finally:
        shutil.rmtree(folder)
    write_text(options.json, json.dumps(describe(layers) | results, indent=2) + "\n")
    print(options.json.read_text(encoding="utf-8"))


def parse_arguments() -> argparse.Namespace:
    """Read the command line; `--work` is for the measured processes this script starts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gib", type=float, default=2.0, help="size of the checkpoint to make")
    parser.add_argument("--rounds", type=int, default=3, help="copies and cuts per cache condition")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/streaming.json"))
    parser.add_argument("--folder", type=Path, help="where to make it (default: the temporary folder)")
    parser.add_argument("--work", choices=["cut", "copy", "import"], help=argparse.SUPPRESS)
    parser.add_argument("--source", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--target", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def make_checkpoint(folder: Path, nbytes: float) -> int:
    """Write a checkpoint of about `nbytes` and return its number of layers."""
    folder.mkdir(parents=True)
    outer = [("model.embed_tokens.weight", (VOCAB, HIDDEN)), ("model.norm.weight", (HIDDEN,))]
    outer.append(("lm_head.weight", (VOCAB, HIDDEN)))
    per_layer = size_of(layer_tensors(0))
    layers = max(1, round((nbytes - size_of(outer)) / per_layer))
    tensors = outer[:1] + [tensor for i in range(layers) for tensor in layer_tensors(i)] + outer[1:]
    shards = list(split(tensors))
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        header = header_bytes(TensorHeader(tensor, "BF16", shape) for tensor, shape in shard)
        write_file(folder / name, header, random_blocks(shard, number))
        weight_map |= {tensor: name for tensor, _ in shard}
    write_text(folder / INDEX, json.dumps({"metadata": {}, "weight_map": weight_map}))
    write_text(folder / CONFIG, json.dumps(configuration(layers)))
    return layers


Tensors = list[tuple[str, tuple[int, ...]]]


def layer_tensors(index: int) -> Tensors:
    """Names and shapes of one layer."""
    attention = [(f"self_attn.{name}_proj.weight", (HIDDEN, HIDDEN)) for name in "qkvo"]
    rows = [(f"mlp.{name}_proj.weight", (CHANNELS, HIDDEN)) for name in ("gate", "up")]
    norms = [(f"{name}_layernorm.weight", (HIDDEN,)) for name in ("input", "post_attention")]
    named: Tensors = [*attention, *rows, ("mlp.down_proj.weight", (HIDDEN, CHANNELS)), *norms]
    return [(f"model.layers.{index}.{name}", shape) for name, shape in named]


def size_of(tensors: Tensors) -> int:
    """Bytes of tensors in bfloat16."""
    return sum(2 * int(np.prod(shape)) for _, shape in tensors)


def split(tensors: Tensors) -> Iterator[Tensors]:
    """Yield runs of tensors of about one GiB."""
    shard: Tensors = []
    for tensor in tensors:
        if shard and size_of([*shard, tensor]) > SHARD:
            yield shard
            shard = []
        shard.append(tensor)
    yield shard


def random_blocks(tensors: Tensors, seed: int) -> Iterator[torch.Tensor]:
    """Yield weights: one random block, turned by another offset for every stretch of a tensor."""
    generator = torch.Generator().manual_seed(seed)
    block = (torch.randn(4_000_003, generator=generator) * 0.02).to(torch.bfloat16)
    for _, shape in tensors:
        left = int(np.prod(shape))
        while left:
            start = int(torch.randint(len(block), (), generator=generator))
            part = block[start : start + left]
            left -= len(part)
            yield part


def configuration(layers: int) -> dict[str, Any]:
    """The configuration of LLaMA-2-7B with another number of layers."""
    return {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": HIDDEN,
        "intermediate_size": CHANNELS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS,
        "num_hidden_layers": layers,
        "vocab_size": VOCAB,
        "tie_word_embeddings": False,
    }


def measure(source: Path, target: Path, rounds: int) -> dict[str, Any]:
    """Run every measurement in a process of its own; copies and cuts take turns on a noisy disk."""
    results: dict[str, Any] = {"source_bytes": folder_size(source)}
    for cache in ("warm", "cold"):
        runs: dict[str, list[Run]] = {"copy": [], "cut": []}
        for job in ("copy", "cut") * rounds:
            settle(source, warm=cache == "warm")
            runs[job].append(run(job, source, target))
            results[f"{job}_bytes"] = folder_size(target)
            shutil.rmtree(target)
        results[cache] = summary(runs["copy"], runs["cut"])
    results["import_only_peak_mib"] = round(run("import", source, target).peak / 2**20)
    return results


def folder_size(folder: Path) -> int:
    """Bytes of all files of a folder."""
    return sum(file.stat().st_size for file in folder.iterdir())


def summary(copies: list[Run], cuts: list[Run]) -> dict[str, Any]:
    """Medians and all single times of one cache condition."""
    copy_median, cut_median = (statistics.median(run.seconds for run in runs) for runs in (copies, cuts))
    return {
        "copy_seconds": round(copy_median, 2),
        "cut_seconds": round(cut_median, 2),
        "cut_over_copy": round(cut_median / copy_median, 3),
        "cut_peak_mib": round(max(run.peak for run in cuts) / 2**20),
        "all_copy_seconds": [round(run.seconds, 2) for run in copies],
        "all_cut_seconds": [round(run.seconds, 2) for run in cuts],
    }


def settle(source: Path, warm: bool) -> None:
    """Flush what is pending, then fill the page cache with the source, or drop the source from it."""
    os.sync()
    for file in source.iterdir():
        with open(file, "rb", buffering=0) as stream:
            if warm:
                while stream.read(CHUNK):
                    pass
            else:
                os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def run(job: str, source: Path, target: Path) -> Run:
    """Start this script as a measured process."""
    command = [sys.executable, __file__, "--work", job, "--source", str(source), "--target", str(target)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    answer = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    return Run(**json.loads(answer.splitlines()[-1]))


def work(job: str, source: Path, target: Path) -> None:
    """Do one job and print how long it took and how much memory the process ever held."""
    torch.set_num_threads(1)
    start = time.perf_counter()
    if job == "cut":
        cut(source, target)
    elif job == "copy":
        copy(source, target)
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "peak": peak_memory()}))


def peak_memory() -> int:
    """Largest resident memory of this process, in bytes.

    `ru_maxrss` would carry the peak of the process that started this one.
    """
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def cut(source: Path, target: Path) -> None:
    """Cut with a random plan, the whole way from opening to the finished folder."""
    checkpoint = Checkpoint.open(source)
    random = np.random.default_rng(SEED)
    kept = round(KEEP * CHANNELS)
    keep = {
        group.name: tuple(np.sort(random.permutation(group.size)[:kept]).tolist())
        for group in checkpoint.graph.of_kind("ffn")
    }
    folder = prepare(checkpoint, Plan(keep, Budget(KEEP, of="ffn"), "random"), target)
    finish(folder)
    publish(folder, target)


def copy(source: Path, target: Path) -> None:
    """Read all and write all through one buffer, and flush every file: the least that a tool could do."""
    target.mkdir()
    buffer = memoryview(bytearray(CHUNK))
    for file in sorted(source.iterdir()):
        with open(file, "rb", buffering=0) as reader, open(target / file.name, "wb", buffering=0) as writer:
            while count := reader.readinto(buffer):
                writer.write(buffer[:count])
            os.fsync(writer.fileno())


def describe(layers: int) -> dict[str, Any]:
    """What was run, on what."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "shape": f"LLaMA-2-7B with {layers} layers, bfloat16, {KEEP} of the FFN channels kept",
        "machine": {
            "processor": processor(),
            "cores": len(os.sched_getaffinity(0)),
            "load_average": round(os.getloadavg()[0], 2),
            "torch_threads": 1,
        },
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "kernel": platform.release(),
        },
    }


def processor() -> str:
    """The processor's name, as Linux gives it."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


if __name__ == "__main__":
    main()
