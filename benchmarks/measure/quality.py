"""Quality after pruning SmolLM2-135M-Instruct: every criterion, budget and probe in one run.

Nothing is chosen on the texts and questions scored here. Results are written row by row, and a run
that was stopped continues.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from scoring import Results, Row, Scorer

from prunepolicy.policy.kinds.heuristic import Heuristic, HeuristicConfig
from prunepolicy.policy.load import load_policy
from prunepolicy.pruning.errors import BudgetError
from prunepolicy.pruning.plan import Budget
from prunepolicy.pruning.repair.edited import edited
from prunepolicy.pruning.session.model_session import ModelSession
from prunepolicy.pruning.session.opened_model import Hardware
from prunepolicy.pruning.statistics.probe import Probe
from prunepolicy.pruning.statistics.stats import Stats

BUDGETS = [("ffn", 0.9), ("ffn", 0.7), ("params", 0.8), ("ffn", 0.8), ("params", 0.9), ("params", 0.7)]


@dataclass(frozen=True)
class Method:
    """One way to prune.

    Attributes:
        policy: a criterion, or `default`.
        probe: `self`, `varied`, `start`, `text` (the user's file) or `none`.
        seeds: how many probes (or random draws) it is repeated with.
        questions: also answer multiple choice, with the first `questions` seeds.
    """

    name: str
    policy: str
    probe: str = "self"
    per_layer: bool = False
    repair: str | None = None
    seeds: int = 1
    questions: int = 0


METHODS = [
    Method("random", "random", "none", seeds=5, questions=2),
    Method("default", "default", "varied", repair="reconstruction", seeds=3, questions=1),
    Method("default, per layer", "default", "varied", True, "reconstruction", seeds=3, questions=1),
    Method("default, ridge", "default", "varied", repair="ridge", seeds=3, questions=1),
    Method("default, ridge, per layer", "default", "varied", True, "ridge", seeds=3, questions=1),
    Method("fisher x activation, varied text", "fisher_activation", "varied", seeds=3),
    Method("fisher, varied text, per layer", "fisher", "varied", per_layer=True, seeds=3),
    Method("fisher x activation, ridge", "fisher_activation", repair="ridge", seeds=3, questions=1),
    Method("fisher, ridge, per layer", "fisher", per_layer=True, repair="ridge", seeds=3, questions=1),
    Method("activation", "activation", seeds=3, questions=1),
    Method("fisher", "fisher", seeds=3, questions=1),
    Method("fisher x activation", "fisher_activation", seeds=3),
    Method("fisher, per layer", "fisher", per_layer=True, seeds=3),
    Method("activation, real text", "activation", "text"),
    Method("fisher, real text", "fisher", "text"),
    Method("fisher x activation, real text", "fisher_activation", "text"),
    Method("activation, start token only", "activation", "start"),
    Method("taylor", "taylor"),
    Method("magnitude (L2)", "magnitude", "none"),
    Method("magnitude (L1)", "magnitude_l1", "none"),
    Method("magnitude (largest)", "magnitude_linf", "none"),
    Method("fisher x activation, bias", "fisher_activation", repair="bias"),
]


class Bench:
    """The model, the texts it is scored on, and the statistics already collected."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.session = ModelSession.named("smollm2-135m", Hardware())
        self.scorer = Scorer.read(options.data)
        self._stats: dict[tuple[str, int], Stats] = {}

    def probe(self, method: Method, seed: int) -> Probe:
        """Return the probe of a method; its text is never one that is scored."""
        source = str(self.options.probe_text) if method.probe == "text" else method.probe
        samples = 1 if method.probe == "start" else 64
        return Probe("self" if source == "none" else source, samples, 128, seed)

    def stats(self, method: Method, seed: int) -> Stats:
        """Collect a probe's statistics once."""
        if method.probe == "none":
            return replace(self.session.stats({"weights"}, Probe()), seed=seed)
        key = (method.probe, seed)
        if key not in self._stats:
            needs: set[Any] = {"activations"} if method.probe == "start" else {"activations", "gradients"}
            self._stats[key] = self.session.stats(needs, self.probe(method, seed))
        return self._stats[key]

    def row(self, method: Method, of: str, keep: float, seed: int) -> Row:
        """Prune one way and score the result, without writing it."""
        graph = self.session.checkpoint.graph
        policy = (
            load_policy("default")
            if method.policy == "default"
            else Heuristic(HeuristicConfig(criterion=method.policy))
        )
        budget = Budget(keep, of, uniform=not method.per_layer)  # type: ignore[arg-type]
        facts: Row = {"method": method.name, "of": of, "keep": keep, "seed": seed}
        start = time.perf_counter()
        try:
            plan = policy.plan(graph, self.stats(method, seed), budget)
        except BudgetError as error:
            return facts | {"refused": str(error)}
        plan = replace(plan, repair=method.repair)
        edits = self.session.repaired(plan, self.probe(method, seed))
        facts["seconds"] = round(time.perf_counter() - start, 1)
        with edited(self.session.model, graph, plan, edits):
            return facts | self.scores(seed < method.questions)

    def scores(self, questions: bool) -> Row:
        """Score the model as it runs now."""
        model, tokenizer = self.session.model, self.session.tokenizer
        losses = self.scorer.nll(model, tokenizer)
        found = {name: round(math.exp(nll), 3) for name, nll in losses.items()}
        return found | (self.scorer.answers(model, tokenizer) if questions else {})

    def described(self) -> Row:
        """Return what the numbers depend on."""
        methods = {"methods": [asdict(method) for method in METHODS]}
        return self.scorer.described(self.session.dtype) | methods


def jobs() -> Iterator[tuple[Method, str, float, int]]:
    """Yield every row to measure, the first seed of everything before the others."""
    for seed in range(5):
        for of, keep in BUDGETS:
            for method in METHODS:
                if seed < method.seeds:
                    yield method, of, keep, seed


def main() -> None:
    """Measure what the results file lacks, row by row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="prose, PIQA, BLiMP")
    parser.add_argument("--probe-text", type=Path, help="real text to watch the model on")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/quality.json"))
    parser.add_argument("--of", choices=["ffn", "params"], help="only these budgets")
    options = parser.parse_args()
    bench = Bench(options)
    results = Results(options.json, ("method", "of", "keep", "seed"), bench.described())
    dense = {"method": "dense", "of": "params", "keep": 1.0, "seed": 0}
    if dense not in results:
        results.add(dense | bench.scores(True))
    for method, of, keep, seed in jobs():
        wants_text = method.probe == "text" and options.probe_text is None
        place = {"method": method.name, "of": of, "keep": keep, "seed": seed}
        if options.of in (None, of) and not wants_text and place not in results:
            results.add(bench.row(method, of, keep, seed))


if __name__ == "__main__":
    main()
