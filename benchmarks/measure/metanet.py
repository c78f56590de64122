"""Does rewriting a network's weights before pruning help? Real images, equal budgets, three seeds.

All methods start from the same networks, train for the same epochs before and after the cut, and are cut to
the same operations; only what happens in between differs. Rows are written as they come, so that a stop
loses nothing: run it again to go on. Takes about three hours on one core.
"""

from __future__ import annotations

import argparse
import itertools
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from metanet_bench import (
    AFTER,
    AT_ONCE,
    BEFORE,
    CLOSE,
    DENSE,
    FAMILY,
    GROUP_NORM,
    RANDOM,
    SEEDS,
    SPEEDUPS,
    STRENGTHS,
    TUNING_SEED,
    Bench,
)
from metanet_learning import VARIANTS, MetaTraining
from metanet_peers import DepGraph
from torch import nn

from prunepolicy.agents.metanet.data_model import DataModel
from prunepolicy.agents.recovery.controls import from_scratch
from prunepolicy.agents.recovery.fit import Fit
from prunepolicy.agents.recovery.norm_statistics import remeasure_norms
from prunepolicy.agents.recovery.sparsity import GroupPenalty
from prunepolicy.agents.recovery.stored import load_network
from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint


def sparse_network(bench: Bench, strength: float, seed: int) -> Path:
    """Return the network of a seed after sparse training."""
    return bench.before("sparse training", seed, partial(shrinking, strength))


def shrinking(strength: float, model: nn.Module, folder: Path) -> GroupPenalty:
    """Return the penalty of sparse training for the network in a folder."""
    return GroupPenalty.of(Checkpoint.open(folder), strength)


def baselines(bench: Bench, strength: float) -> None:
    """Measure everything that needs no metanetwork."""
    for seed in SEEDS:
        bench.dense_row(seed)
        plain = bench.before("plain", seed)
        sparse = sparse_network(bench, strength, seed)
        for speedup in SPEEDUPS:
            bench.row("random", seed, speedup, bench.pruned("random", plain, RANDOM, seed, speedup))
            for method, source in (("group norm", plain), ("sparse training", sparse)):
                pruned = bench.pruned(method, source, GROUP_NORM, seed, speedup)
                bench.row(method, seed, speedup, pruned)
            bench.row("DepGraph", seed, speedup, DepGraph(bench, strength).pruned(seed, speedup))


def metanetworks(bench: Bench, strength: float) -> None:
    """Measure networks that metanetworks have rewritten, each of them learned from the same family."""
    for name, variant in VARIANTS.items():
        whole = partial(sparse_network, bench, strength) if variant.late else bench.dense
        family = [DataModel.opened(whole(seed)) for seed in FAMILY[: variant.networks]]
        held_out = DataModel.opened(whole(TUNING_SEED))
        seen = replace(variant, sparse=False)
        file = next(known for known, other in VARIANTS.items() if other == seen)
        learned = MetaTraining(bench.task, variant, bench.work / f"{file}.safetensors")
        learned.run(family, held_out)
        for seed in SEEDS:
            make = partial(prepared, bench, strength, learned, whole(seed), seed)
            source = bench.network(f"before-{name}-{seed}", make)
            for speedup in SPEEDUPS:
                bench.row(name, seed, speedup, bench.pruned(name, source, learned.policy, seed, speedup))


def prepared(bench: Bench, strength: float, learned: MetaTraining, folder: Path, seed: int) -> nn.Module:
    """Return a network as a metanetwork has changed it, trained as long as others unless it was before."""
    network = DataModel.opened(folder)
    penalty = GroupPenalty(network.units, strength, network.names) if learned.variant.sparse else None
    model = remeasure_norms(learned.rewritten(network), bench.task)
    return model if learned.variant.late else bench.trained(model, BEFORE, seed, penalty)


def cut_first(bench: Bench) -> None:
    """Measure ways that train nothing before the cut, and so have all epochs after it."""
    scoring = "metanetwork, scores"
    learned = MetaTraining(bench.task, VARIANTS[scoring], bench.work / f"{scoring}.safetensors")
    family = [DataModel.opened(bench.dense(seed)) for seed in FAMILY[: learned.variant.networks]]
    learned.run(family, DataModel.opened(bench.dense(TUNING_SEED)))
    ways = {"random": RANDOM, "group norm": GROUP_NORM, scoring: learned.policy}
    for seed in CLOSE:
        bench.dense_row(seed)
    for seed, speedup, (way, policy) in itertools.product(CLOSE, SPEEDUPS, ways.items()):
        method = f"{way}, cut first"
        pruned = bench.pruned(method, bench.dense(seed), policy, seed, speedup)
        bench.row(method, seed, speedup, pruned, AT_ONCE)


def controls(bench: Bench) -> None:
    """Measure networks of the pruned shapes that start from nothing."""
    for seed, speedup in itertools.product(SEEDS, SPEEDUPS):
        shape = bench.work / f"pruned-group norm-{seed}-{speedup:g}"
        bench.row("scratch-E", seed, speedup, shape, from_scratch(DENSE))
    for seed, speedup in itertools.product(SEEDS, SPEEDUPS):
        shape = bench.work / f"pruned-group norm-{seed}-{speedup:g}"
        bench.row("scratch-B", seed, speedup, shape, from_scratch(DENSE, speedup))


def chosen_strength(bench: Bench) -> float:
    """Return the penalty whose networks are best after the hardest cut, on validation images."""
    for strength in STRENGTHS:
        if str(strength) not in bench.strengths:
            bench.strengths[str(strength)] = tried_strength(bench, strength)
            bench.save()
    return float(max(bench.strengths, key=lambda strength: bench.strengths[strength]))


def tried_strength(bench: Bench, strength: float) -> float:
    """Return the validation accuracy after the hardest cut of a network that no row is about."""
    name = f"tuned-{strength:g}"
    source = bench.before(name, TUNING_SEED, partial(shrinking, strength))
    model = load_network(bench.pruned(name, source, GROUP_NORM, TUNING_SEED, max(SPEEDUPS)))
    return Fit(bench.task, AFTER, TUNING_SEED).train(model)[-1].score


def main() -> None:
    """Measure what is missing, and write it row by row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("runs/metanet-benchmark"))
    torch.set_num_threads(1)
    bench = Bench.resumed(parser.parse_args().work)
    strength = chosen_strength(bench)
    baselines(bench, strength)
    metanetworks(bench, strength)
    cut_first(bench)
    controls(bench)


if __name__ == "__main__":
    main()
