"""Whom to believe about plans: how far a surrogate, or little text, orders them as much text does.

Every plan around the Fisher ranking is measured on the same texts, which the dense model wrote, and
predicted by surrogates of several shrinkages and numbers of samples. Where a search lowers a surrogate, the
network says what that was worth. One thread; under two minutes a small model, five for SmolLM2. Rows are
written one by one, and a run that was stopped continues: python benchmarks/measure/surrogate.py
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from scoring import Results, Row
from torch import Tensor

from prunepolicy.agents.learned_pruning.measured_rise import REWARDING_SEED, MeasuredRise
from prunepolicy.agents.learned_pruning.surrogate_audit import DISTORTIONS, SIZES, plans_around
from prunepolicy.envs.prune_case import PruneCase
from prunepolicy.pruning.checkpoint.no_model import SMOLLM2
from prunepolicy.pruning.io.machine import device_name, versions
from prunepolicy.pruning.plan import Budget
from prunepolicy.pruning.session.model_session import ModelSession
from prunepolicy.pruning.session.opened_model import Hardware
from prunepolicy.pruning.statistics.probe import Probe
from prunepolicy.pruning.statistics.search import exchange
from prunepolicy.pruning.statistics.stats import Stats
from prunepolicy.pruning.statistics.surrogate import rank_correlation
from prunepolicy.pruning.units import Keep

RESULT = Path(__file__).parents[1] / "results" / "surrogate.json"
SHRINKAGES = (0.0, 0.5, 0.8, 0.9, 1.0)
SAMPLES = (64, 192)
FEWER_TEXTS = (8, 16, 32)
SWAPS = 2000
KEY = ("model", "uniform", "by", "amount")


@dataclass(frozen=True)
class Trial:
    """One model in one shape.

    Attributes:
        plans: per size.
        texts: on which every plan is measured.
        searched: whether plans that lower the surrogates are measured, too.
    """

    model: str
    uniform: bool
    plans: int = 24
    texts: int = 64
    searched: bool = True


TRIALS = (
    *(Trial(f"models/{name}", uniform) for name in ("llama-1m", "gpt2-1m") for uniform in (False, True)),
    Trial(SMOLLM2, uniform=False, plans=8, texts=32, searched=False),
)


@dataclass(frozen=True)
class Measured:
    """Plans, their sizes, and the rise on every text, shape (plans, texts)."""

    keeps: Sequence[Keep]
    sizes: Sequence[float]
    rises: Tensor

    def agreement(self, predicted: Sequence[float], measured: Tensor) -> Row:
        """Return Kendall's tau at equal size, there among plans near the reference, and over all sizes."""
        truth = measured.tolist()
        near = [i for i in range(len(self.sizes)) if i % self._per_size % len(DISTORTIONS) in NEAR]
        columns = [[column[i] for i in near] for column in (predicted, truth, self.sizes)]
        return {
            "tau": round(rank_correlation(predicted, truth, self.sizes).tau, 3),
            "tau_near": round(rank_correlation(*columns).tau, 3),
            "tau_all_sizes": round(rank_correlation(predicted, truth).tau, 3),
        }

    @property
    def _per_size(self) -> int:
        return len(self.sizes) // len(SIZES)


NEAR = [index for index, (units, groups) in enumerate(DISTORTIONS) if units <= 0.5 and groups <= 0.5]


def rows_of(trial: Trial) -> Iterable[Row]:
    """Yield what was found about one model in one shape."""
    session = ModelSession.named(trial.model, Hardware("cpu"))
    stats = session.stats({"activations", "gradients"}, Probe(samples=max(SAMPLES)))
    budget = Budget(SIZES[0], "ffn", uniform=trial.uniform)
    case = PruneCase(trial.model, session.checkpoint.graph, stats, budget)
    measure = MeasuredRise(session, Probe("self", trial.texts, 128, REWARDING_SEED))
    measured = measured_plans(case, measure, trial.plans)
    plans = {**about(trial), "plans": len(measured.keeps)}
    for samples in SAMPLES:
        for shrinkage in SHRINKAGES:
            believing = replace(case, stats=first_samples(stats, samples), shrinkage=shrinkage)
            predicted = [believing.surrogate.rise(keep) for keep in measured.keeps]
            found = measured.agreement(predicted, measured.rises.mean(1))
            searched = {"searched": searched_rise(believing, case, measure)} if trial.searched else {}
            yield {**plans, "by": f"surrogate {shrinkage:g}", "amount": samples, **found, **searched}
    for texts in filter(lambda texts: texts < trial.texts, FEWER_TEXTS):
        yield {**plans, "by": "texts", "amount": texts, **fewer_texts(measured, texts)}


def about(trial: Trial) -> Row:
    """Return what tells the rows of a trial from those of others."""
    return {"model": trial.model, "uniform": trial.uniform}


def measured_plans(case: PruneCase, measure: MeasuredRise, per_size: int) -> Measured:
    """Measure plans of all sizes on every text."""
    keeps: list[Keep] = []
    sizes: list[float] = []
    for size in SIZES:
        keeps += plans_around(case, replace(case.budget, keep=size), per_size, seed=0)
        sizes += [size] * per_size
    return Measured(keeps, sizes, torch.stack([measure.per_text(keep) for keep in keeps]))


def fewer_texts(measured: Measured, texts: int) -> Row:
    """Compare the first texts with all, and with as many that are not among them."""
    few, whole = measured.rises[:, :texts].mean(1), measured.rises.mean(1)
    others = measured.agreement(few.tolist(), measured.rises[:, texts:].mean(1))
    return {**measured.agreement(few.tolist(), whole), "tau_other_texts": others["tau"]}


def searched_rise(believing: PruneCase, case: PruneCase, measure: MeasuredRise) -> float:
    """Return what a search on a surrogate comes to at the middle size, as a share of the reference's rise."""
    reference = case.spend(case.fisher, replace(case.budget, keep=SIZES[1]))
    frozen = torch.zeros(len(believing.surrogate.gradients), dtype=torch.bool)
    stays = exchange(believing.surrogate, reference, frozen, SWAPS, seed=0)
    found = {name: tuple(mask.nonzero().flatten().tolist()) for name, mask in stays.items()}
    return round(measure(found) / measure(reference), 3)


def first_samples(stats: Stats, samples: int) -> Stats:
    """Return the statistics with the gradients of the first samples only."""
    gradients = {name: rows[:samples] for name, rows in stats.values["gradients"].items()}
    return stats.merged(Stats({"gradients": gradients}))


def main() -> None:
    """Measure what the file lacks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="only this one")
    parser.add_argument("--json", type=Path, default=RESULT)
    options = parser.parse_args()
    torch.set_num_threads(1)
    described = {
        "machine": device_name(torch.device("cpu")),
        "versions": versions("prunepolicy", "torch", "transformers"),
    }
    results = Results(options.json, KEY, described)
    for trial in TRIALS:
        # A trial that was stopped has no rows about texts, which come last.
        finished = {**about(trial), "by": "texts", "amount": FEWER_TEXTS[0]} in results
        if options.model in (None, trial.model) and not finished:
            for row in filter(lambda row: row not in results, rows_of(trial)):
                results.add(row)


if __name__ == "__main__":
    main()
