"""Memory and time of calibrating a 1B-shaped model whole, and layer by layer under a limit that it exceeds.

The limit is the system's own (`ulimit -d`): a process that took more would end. Linux only; minutes, and
2 GiB of disk.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from streaming import random_blocks, split

from prunepolicy.pruning.adapters import adapter_for
from prunepolicy.pruning.checkpoint.checkpoint import CONFIG, INDEX, Checkpoint
from prunepolicy.pruning.io.atomic import write_text
from prunepolicy.pruning.io.machine import GIB, device_name, peak_memory, versions
from prunepolicy.pruning.io.safetensors_file import TensorHeader, header_bytes, write_file
from prunepolicy.pruning.plan import Budget, Plan
from prunepolicy.pruning.session.model_session import ModelSession
from prunepolicy.pruning.session.opened_model import Hardware
from prunepolicy.pruning.statistics.probe import Probe

RESULT = Path(__file__).parents[1] / "results" / "layer_by_layer.json"
SHAPE = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 8192,
    "tie_word_embeddings": True,
    "dtype": "bfloat16",
}
PROBE = Probe(samples=4, length=128)
KEEP = 0.8


def main() -> None:
    """Make the model, calibrate it in either way, each in a process of its own, and write the numbers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=float, default=2.0, help="GiB that the process may take")
    parser.add_argument("--json", type=Path, default=RESULT)
    parser.add_argument("--work", choices=["whole", "layer by layer"], help=argparse.SUPPRESS)
    parser.add_argument("--model", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        limit = int(options.limit * GIB) if options.work != "whole" else None
        print(json.dumps(calibrated(options.model, limit)))
        return
    rows = []
    with tempfile.TemporaryDirectory() as place:
        checkpoint = make_checkpoint(Path(place))
        for way in ("whole", "layer by layer"):
            asked = ["--work", way, "--model", place, "--limit", str(options.limit)]
            command = [sys.executable, __file__, *asked]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            rows.append({"way": way, **json.loads(done.stdout.splitlines()[-1])})
            print(rows[-1], flush=True)
        began = time.process_time()
        for name in checkpoint.tensors:
            checkpoint.read(name)
        read_once = time.process_time() - began
    described = {
        "machine": device_name(torch.device("cpu")),
        "versions": versions("torch", "transformers"),
        "layers": SHAPE["num_hidden_layers"],
        "model_bytes": checkpoint.nbytes,
        "limit_bytes": int(options.limit * GIB),
        "tokens": PROBE.samples * PROBE.length,
        "keep": KEEP,
        "seconds_to_read_once": round(read_once, 2),
    }
    write_text(options.json, json.dumps(described | {"rows": rows}, indent=1) + "\n")


def make_checkpoint(folder: Path) -> Checkpoint:
    """Write random weights of the shape."""
    shapes = list(adapter_for(SHAPE).shapes(SHAPE).items())
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(split(shapes)):
        name = f"model-{number}.safetensors"
        header = header_bytes(TensorHeader(tensor, "BF16", shape) for tensor, shape in shard)
        write_file(folder / name, header, random_blocks(shard, number))
        weight_map |= {tensor: name for tensor, _ in shard}
    write_text(folder / INDEX, json.dumps({"metadata": {}, "weight_map": weight_map}))
    write_text(folder / CONFIG, json.dumps(SHAPE))
    return Checkpoint.open(folder)


def calibrated(folder: Path, limit: int | None) -> dict[str, Any]:
    """Collect statistics and repair a plan, within a limit of bytes; return CPU seconds and peak memory."""
    torch.set_num_threads(1)
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    session = ModelSession("1B", Checkpoint.open(folder), Hardware("cpu", "bfloat16"))
    generator = torch.Generator().manual_seed(0)
    size = (PROBE.samples, PROBE.length)
    tokens = torch.randint(int(session.checkpoint.config["vocab_size"]), size, generator=generator)
    session.found[session.checkpoint.fingerprint, PROBE] = {"input_ids": tokens}
    ffn = session.checkpoint.graph.of_kind("ffn")
    kept = {group.name: tuple(range(int(KEEP * group.size))) for group in ffn}
    plan = Plan(kept, Budget(KEEP, "ffn"), "none", repair="reconstruction")
    seconds = {}
    began = time.process_time()
    _ = session.model
    seconds["load"] = time.process_time() - began
    for step, needs in (("activations", {"activations"}), ("gradients", {"activations", "gradients"})):
        began = time.process_time()
        session.stats(needs, PROBE, Plan({}, Budget(1.0), "none"))  # type: ignore[arg-type]
        seconds[step] = time.process_time() - began
    began = time.process_time()
    session.repaired(plan, PROBE)
    seconds["repair"] = time.process_time() - began
    rounded = {step: round(value, 1) for step, value in seconds.items()}
    return {"cpu_seconds": rounded, "peak_bytes": peak_memory(torch.device("cpu"))}


if __name__ == "__main__":
    main()
