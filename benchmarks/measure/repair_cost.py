"""What calibration costs as networks get wider: texts, statistics and the default repair, step by step.

Each network is one layer of random weights whose FFN is four times as wide as its hidden states; a fifth of
the channels goes. CPU seconds on one thread, so that other work on the machine counts less. The same system
is also solved as earlier versions did, with a factorisation in double precision for each of the candidates,
of which one is timed. Minutes up to width 4096; about 5 GiB of memory at 16384.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.io.atomic import write_text
from prunepolicy.pruning.io.machine import device_name, peak_memory, versions
from prunepolicy.pruning.plan import Budget, Plan
from prunepolicy.pruning.repair import RepairContext, repairs
from prunepolicy.pruning.repair.refit import RIDGES, LeastSquares, Refitter, Samples, factorised
from prunepolicy.pruning.session.model_session import ModelSession
from prunepolicy.pruning.session.opened_model import Hardware
from prunepolicy.pruning.statistics.gates import find_module
from prunepolicy.pruning.statistics.probe import Probe, read_inputs
from prunepolicy.pruning.statistics.probe import write_text as texts_of
from prunepolicy.pruning.units import UnitGroup

RESULT = Path(__file__).parents[1] / "results" / "repair_cost.json"
WIDTHS = (512, 1024, 2048, 4096, 8192, 16384)
BEFORE = 8192
"""Widest network that is also repaired as earlier versions did: wider ones take too much memory."""
PROBE = Probe(samples=64, length=128)
KEEP, SHARE = 0.8, 0.3
VOCABULARY = 1024


def main() -> None:
    """Measure all widths, and write after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--widths", type=int, nargs="+", default=WIDTHS)
    parser.add_argument("--json", type=Path, default=RESULT)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for width in options.widths:
        with tempfile.TemporaryDirectory() as place:
            rows.append({"width": width, **measured(opened(Path(place), width))})
        print(rows[-1], flush=True)
        described = {
            "machine": device_name(torch.device("cpu")),
            "versions": versions("torch", "transformers"),
            "tokens": PROBE.samples * PROBE.length,
            "keep": KEEP,
            "candidates": len(RIDGES),
        }
        write_text(options.json, json.dumps(described | {"rows": rows}, indent=1) + "\n")


def opened(folder: Path, width: int) -> ModelSession:
    """Write a network of one layer, and open it."""
    import transformers

    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        hidden_size=width // 4,
        intermediate_size=width,
        num_hidden_layers=1,
        num_attention_heads=width // 256,
        num_key_value_heads=max(1, width // 1024),
        vocab_size=VOCABULARY,
    )
    transformers.LlamaForCausalLM(config).bfloat16().save_pretrained(folder)
    return ModelSession(str(width), Checkpoint.open(folder), Hardware("cpu", "bfloat16"))


def measured(session: ModelSession) -> dict[str, Any]:
    """Return the CPU seconds of every step, and how far the re-fit lies from one in double precision."""
    model, graph = session.model, session.checkpoint.graph
    group = graph.of_kind("ffn")[0]
    steps: dict[str, float] = {}
    tokens = timed(steps, "texts", lambda: texts_of(model, 1, PROBE))
    inputs = {"input_ids": tokens}
    probe = PROBE
    session.found[session.checkpoint.fingerprint, probe] = inputs
    needs: Any = {"activations", "gradients"}
    timed(steps, "statistics", lambda: session.stats(needs, probe, Plan({}, Budget(1.0), "none")))
    kept = torch.randperm(group.size)[: int(KEEP * group.size)].sort().values
    plan = Plan({group.name: tuple(kept.tolist())}, Budget(KEEP, "ffn"), "none")
    context = RepairContext(session.checkpoint, model, plan, inputs)
    timed(steps, "repair", lambda: repairs["reconstruction"](context))
    columns, fitted, held_out = problem(session, group, kept, inputs)
    refitter = Refitter()
    new = timed(steps, "fit", lambda: refitter(columns, LeastSquares.of_samples(fitted, held_out)))
    del new
    found: dict[str, Any] = {"steps": steps, "peak_bytes": peak_memory(torch.device("cpu"))}
    if group.size <= BEFORE:
        before: dict[str, float] = {}
        found |= {"deviation": in_double(before, fitted, held_out), "before": before}
    return found


def problem(
    session: ModelSession, group: UnitGroup, kept: Tensor, inputs: dict[str, Tensor]
) -> tuple[Tensor, Samples, Samples]:
    """Return the kept columns, and what they read and lack on the samples to fit and on the others."""
    assert group.gate is not None
    down, seen = find_module(session.model, group.gate.module), []
    with down.register_forward_pre_hook(lambda module, read: seen.append(read[0].flatten(0, -2))):
        read_inputs(session.model, inputs)
    x, weight = torch.cat(seen).float(), down.get_parameter("weight").detach().float()
    gone = torch.ones(group.size, dtype=torch.bool)
    gone[kept] = False
    missing = x[:, gone] @ weight[:, gone].T
    border = len(x) * 3 // 4
    read = x[:, kept]
    return weight[:, kept], Samples(read[:border], missing[:border]), Samples(read[border:], missing[border:])


def in_double(steps: dict[str, float], fitted: Samples, held_out: Samples) -> float:
    """Time moments and one candidate in double precision; return the deviation of single precision."""
    x, missing = fitted.read, fitted.missing

    def moments() -> tuple[Tensor, Tensor, Tensor]:
        return x.T @ x, x.T @ missing, held_out.read.T @ held_out.read

    read, target, others = timed(steps, "moments", moments)

    def candidate() -> Tensor:
        system = read.double()
        system.diagonal().add_(SHARE * system.diagonal().mean())
        change = torch.cholesky_solve(target.double(), torch.linalg.cholesky(system)).float()
        (change * (others @ change)).sum()
        return change

    exact = timed(steps, "candidate", candidate)
    ridged = read.clone()
    ridged.diagonal().add_(SHARE * ridged.diagonal().mean())
    timed(steps, "library_factor", lambda: torch.linalg.cholesky_ex(ridged))
    timed(steps, "own_factor", lambda: factorised(ridged))
    least_squares = LeastSquares.of_samples(fitted, held_out)
    solution = least_squares.solved(SHARE)
    assert solution is not None
    return float((least_squares.change(solution).T - exact).norm() / exact.norm())


def timed(steps: dict[str, float], name: str, work: Callable[[], Any]) -> Any:
    """Do some work, and note its CPU seconds."""
    began = time.process_time()
    result = work()
    steps[name] = round(time.process_time() - began, 3)
    return result


if __name__ == "__main__":
    main()
