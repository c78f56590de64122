"""One meta-step on ResNet-56 in several ways, and a language model read in one pass: time, memory, gradients.

Every way runs in processes of its own, since a process never gives its largest memory back.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from math import prod
from pathlib import Path
from typing import Any

import torch
from published_graph import SIZES, PublishedGraph, PublishedMetanetwork
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from prunepolicy.metanet.weight_network.deferred import deferred_backward
from prunepolicy.metanet.weight_network.metanetwork import Metanetwork, MetanetworkSettings
from prunepolicy.metanet.weight_network.weight_graph import weight_graph_of
from prunepolicy.pruning.convnets import networks as convnets
from prunepolicy.pruning.io.atomic import write_text
from prunepolicy.pruning.io.machine import versions

BATCHES = 5
MIB = 1 << 20
Weights = dict[str, Tensor]
Modify = Callable[[Weights], Weights]
WAYS = {
    "published": "padded kernels, dense identity blocks, messages; one pass back per batch",
    "published_deferred": "the same graph and messages; one pass back",
    "published_blocks": "the same graph, by blocks; one pass back",
    "messages": "our graph, messages; one pass back per batch",
    "ours": "our graph, by blocks; one pass back",
    "ours_streamed": "our graph, by streamed blocks; one pass back",
}
REFERENCES = {
    "published_deferred": "published",
    "published_blocks": "published",
    "ours": "messages",
    "ours_streamed": "messages",
}
"""Whose gradients a way must have."""
EXACT = ("--double", "--hidden", "16", "--images", "8")
"""How gradients are compared where nothing is rounded; smaller, since numbers are twice as long."""
LANGUAGE_MODEL = "smollm2-135m"


def main() -> None:
    """Run every way in fresh processes, and write what they took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--way", choices=[*WAYS, LANGUAGE_MODEL], help="Run this one, here.")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--hidden", type=int, default=SIZES["hidden"])
    parser.add_argument("--images", type=int, default=128, help="Per batch.")
    parser.add_argument("--double", action="store_true", help="Compute in float64.")
    parser.add_argument("--gradients", type=Path, help="Where the gradients of one way go.")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/metanet_step.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    # A network that was never trained passes back numbers of almost 0, which take some processors long.
    torch.set_flush_denormal(True)
    if options.way:
        print(json.dumps(language_model() if options.way == LANGUAGE_MODEL else one_way(options)))
        return
    with tempfile.TemporaryDirectory() as folder:
        runs = {way: runs_of(way, options.repeats, Path(folder)) for way in WAYS}
        differences = compared(Path(folder))
        for way in WAYS:
            runs_of(way, 1, Path(folder), *EXACT)
        exact = compared(Path(folder))
    results = {
        "step": {
            "batches": BATCHES,
            "images": options.images,
            "network": "ResNet-56, width 16, 32 px",
            **SIZES,
        },
        "ways": {way: {"what": WAYS[way], **summary(rows)} for way, rows in runs.items()},
        "gradient_differences": differences,
        "gradient_differences_exact": {"flags": EXACT, **exact},
        LANGUAGE_MODEL: runs_of(LANGUAGE_MODEL, 1)[0],
        "repeats": options.repeats,
        "versions": versions("prunepolicy", "torch", "torch-geometric"),
    }
    write_text(options.json, json.dumps(results, indent=1) + "\n")
    print(options.json.read_text())


def one_way(options: argparse.Namespace) -> dict[str, float]:
    """Take one meta-step, after one on a small network to warm up, and return what it took."""
    if options.double:
        torch.set_default_dtype(torch.float64)
    step = back_per_batch if options.way in ("published", "messages") else back_once
    for arch, images in (("resnet8", 8), ("resnet56", options.images)):
        modify, metanetwork, model, about = prepared(options.way, arch, options.hidden)
        weights = {n: t.detach() for n, t in (*model.named_parameters(), *model.named_buffers())}
        losses, start, before = losses_of(model, images), _peak(), time.process_time()
        inside = step(modify, weights, losses)
        whole = time.process_time() - before
    if options.gradients:
        gradients = {name: p.grad for name, p in metanetwork.named_parameters() if p.grad is not None}
        torch.save(gradients, options.gradients)
    return {**about, "seconds": whole, "network_seconds": inside, "peak_mib": _peak(), "start_mib": start}


def prepared(way: str, arch: str, hidden: int) -> tuple[Modify, nn.Module, nn.Module, dict[str, float]]:
    """Return what modifies a network's weights, the metanetwork, the network, and sizes of its graph."""
    torch.manual_seed(0)
    model = convnets.build({"arch": arch}).eval()
    torch.manual_seed(1)
    if way.startswith("published"):
        published = PublishedGraph(model)
        path = "blocks" if way == "published_blocks" else "messages"
        restated = PublishedMetanetwork(published, path, SIZES["layers"], hidden)
        return restated, restated, model, {"nodes": sum(published.sizes), "edges": published.edges}
    graph = weight_graph_of(vars(model.config))  # type: ignore[arg-type]
    path = {"messages": "messages", "ours": "blocks", "ours_streamed": "streamed_blocks"}[way]
    ours = Metanetwork(MetanetworkSettings(SIZES["layers"], hidden, path=path))
    for last in (ours.nodes.decoder[-1], ours.edges.decoders["9"][-1], ours.edges.decoders["1"][-1]):
        last.reset_parameters()  # At zero, nothing before the decoders would have gradients.
    return (lambda weights: ours(graph, weights)), ours, model, {"nodes": graph.size, "edges": graph.edges}


def losses_of(model: nn.Module, images: int) -> list[Callable[[Any], Tensor]]:
    """Return the network's loss on each batch of random images as a function of its weights."""
    generator = torch.Generator().manual_seed(2)
    batches = [
        (
            torch.randn(images, 3, 32, 32, generator=generator),
            torch.randint(10, (images,), generator=generator),
        )
        for _ in range(BATCHES)
    ]

    def loss_of(images: Tensor, labels: Tensor) -> Callable[[Any], Tensor]:
        return lambda weights: functional.cross_entropy(functional_call(model, weights, (images,)), labels)

    return [loss_of(*batch) for batch in batches]


def back_per_batch(modify: Modify, weights: Weights, losses: Sequence[Callable[[Any], Tensor]]) -> float:
    """Go back through the metanetwork after every batch; what the network takes isn't known apart."""
    modified = modify(weights)
    for loss in losses:
        loss(modified).backward(retain_graph=True)
    return 0.0


def back_once(modify: Modify, weights: Weights, losses: Sequence[Callable[[Any], Tensor]]) -> float:
    """Go back through the metanetwork once; returns the seconds that the network itself took."""
    taken = [0.0]

    def timed() -> Any:
        for loss in losses:
            start = time.process_time()
            yield loss
            taken[0] += time.process_time() - start

    deferred_backward(modify(weights), timed())
    return taken[0]


def language_model() -> dict[str, float]:
    """Read SmolLM2-135M once with an untrained metanetwork of four layers, width 16."""
    from prunepolicy.commands.prune.rewrite import rewritten_tensors
    from prunepolicy.policy.kinds.metanet import Metanet
    from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
    from prunepolicy.pruning.checkpoint.source import resolve

    checkpoint, policy = Checkpoint.open(resolve(LANGUAGE_MODEL)), Metanet()
    graph = weight_graph_of(checkpoint.config)
    start, before = _peak(), time.process_time()
    changed = rewritten_tensors(checkpoint, policy)
    settings = policy.network.settings
    return {
        "layers": settings.layers, "hidden": settings.hidden, "nodes": graph.size, "edges": graph.edges,
        "read_parameters": sum(tensor.numel() for tensor in changed.values()),
        "carried_parameters": sum(prod(checkpoint.shapes.get(name, (0,))) for name in graph.carried),
        "edge_states_mib": graph.edges * settings.hidden * 4 / MIB,
        "seconds": time.process_time() - before, "start_mib": start, "peak_mib": _peak(),
    }  # fmt: skip


def summary(rows: list[dict[str, float]]) -> dict[str, float]:
    """Return the medians of all columns."""
    return {name: statistics.median(row[name] for row in rows) for name in rows[0]}


def difference(one: Path, other: Path) -> float:
    """Return the norm of the difference of two gradients, as a share of the second's."""
    first, second = torch.load(one, weights_only=True), torch.load(other, weights_only=True)
    apart = sum(float((first[name] - tensor).double().square().sum()) for name, tensor in second.items())
    whole = sum(float(tensor.double().square().sum()) for tensor in second.values())
    return (apart / whole) ** 0.5


def compared(folder: Path) -> dict[str, float]:
    """Return by how much the gradients in a folder differ from those of their references."""
    return {way: difference(folder / way, folder / other) for way, other in REFERENCES.items()}


def runs_of(way: str, repeats: int, folder: Path | None = None, *flags: str) -> list[dict[str, float]]:
    """Run one way in processes of its own; its gradients go into a folder."""
    command = [sys.executable, __file__, "--way", way, *flags]
    command += ["--gradients", str(folder / way)] if folder else []
    rows = []
    for _ in range(repeats):
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        rows.append(json.loads(output.splitlines()[-1]))
        print(way, rows[-1], file=sys.stderr, flush=True)
    return rows


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
