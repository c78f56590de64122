"""Quality after pruning SmolLM2-135M-Instruct: every criterion, budget and probe in one run.

Nothing is chosen on the texts and questions scored here. Results are written row by row, and a run
that was stopped continues.
"""

from __future__ import annotations

import argparse
import argparse as scored_module
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from prunepolicy.agents.opened_model import Hardware
from prunepolicy.agents.subject import Subject
from prunepolicy.policy.kinds.heuristic import Heuristic, HeuristicConfig
from prunepolicy.policy.load import load_policy
from prunepolicy.pruning.atomic import write_text
from prunepolicy.pruning.checkpoint import Checkpoint
from prunepolicy.pruning.edited import edited
from prunepolicy.pruning.errors import BudgetError
from prunepolicy.pruning.machine import device_name, versions
from prunepolicy.pruning.multiple_choice import read_choices, score_choices
from prunepolicy.pruning.perplexity import score_text
from prunepolicy.pruning.plan import Budget
from prunepolicy.pruning.probe import Probe
from prunepolicy.pruning.source import resolve
from prunepolicy.pruning.stats import Stats

BUDGETS = [("ffn", 0.9), ("ffn", 0.7), ("params", 0.8), ("ffn", 0.8), ("params", 0.9), ("params", 0.7)]
TOKENS = 4096
PIQA, BLIMP_STEP = 300, 3
"""Questions of PIQA, and the step between BLiMP's sentences, whose paradigms lie in blocks of 15."""


@dataclass(frozen=True)
class Method:
    """One way to prune.

    Attributes:
        policy: a criterion, or `default`.
        probe: `self`, `start`, `text` (the user's file) or `none`.
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
    Method("default: fisher x activation, ridge", "default", repair="ridge", seeds=3, questions=1),
    Method(
        "default, per layer: fisher, ridge", "default", per_layer=True, repair="ridge", seeds=3, questions=1
    ),
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
        checkpoint = Checkpoint.open(resolve("smollm2-135m"))
        self.subject = Subject("smollm2-135m", checkpoint, Hardware())
        self.texts = {
            "prose": options.data.joinpath("prose.txt").read_text(encoding="utf-8"),
            "code": Path(scored_module.__file__).read_text(encoding="utf-8"),
        }
        self.piqa = read_choices(options.data / "piqa.jsonl", None)[:PIQA]
        self.blimp = read_choices(options.data / "blimp.jsonl", None)[::BLIMP_STEP]
        self._stats: dict[tuple[str, int], Stats] = {}

    def probe(self, method: Method, seed: int) -> Probe:
        """Return the probe of a method; its text is never one that is scored."""
        source = str(self.options.probe_text) if method.probe == "text" else method.probe
        samples = 1 if method.probe == "start" else 64
        return Probe("self" if source == "none" else source, samples, 128, seed)

    def stats(self, method: Method, seed: int) -> Stats:
        """Collect a probe's statistics once."""
        if method.probe == "none":
            return replace(self.subject.stats({"weights"}, Probe()), seed=seed)
        key = (method.probe, seed)
        if key not in self._stats:
            needs: set[Any] = {"activations"} if method.probe == "start" else {"activations", "gradients"}
            self._stats[key] = self.subject.stats(needs, self.probe(method, seed))
        return self._stats[key]

    def row(self, method: Method, of: str, keep: float, seed: int) -> dict[str, Any]:
        """Prune one way and score the result, without writing it."""
        graph = self.subject.checkpoint.graph
        policy = (
            load_policy("default")
            if method.policy == "default"
            else Heuristic(HeuristicConfig(criterion=method.policy))
        )
        budget = Budget(keep, of, uniform=not method.per_layer)  # type: ignore[arg-type]
        facts: dict[str, Any] = {"method": method.name, "of": of, "keep": keep, "seed": seed}
        start = time.perf_counter()
        try:
            plan = policy.plan(graph, self.stats(method, seed), budget)
        except BudgetError as error:
            return facts | {"refused": str(error)}
        plan = replace(plan, repair=method.repair)
        edits = self.subject.repaired(plan, self.probe(method, seed))
        facts["seconds"] = round(time.perf_counter() - start, 1)
        with edited(self.subject.model, graph, plan, edits):
            return facts | self.scores(seed < method.questions)

    def scores(self, questions: bool) -> dict[str, Any]:
        """Score the model as it runs now."""
        model, tokenizer = self.subject.model, self.subject.tokenizer
        found: dict[str, Any] = {
            name: round(score_text(model, tokenizer, text, limit=TOKENS).perplexity, 3)
            for name, text in self.texts.items()
        }
        if questions:
            piqa = score_choices(model, tokenizer, self.piqa)
            blimp = score_choices(model, tokenizer, self.blimp)
            found |= {"piqa_acc": piqa.acc, "piqa_acc_norm": piqa.acc_norm, "blimp_acc": blimp.acc}
        return found


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
    done: Mapping[str, Any] = json.loads(options.json.read_text()) if options.json.is_file() else {"rows": []}
    rows = list(done["rows"])
    known = {(row["method"], row["of"], row["keep"], row["seed"]) for row in rows}
    bench = Bench(options)
    if not known:
        rows.append({"method": "dense", "of": "params", "keep": 1.0, "seed": 0} | bench.scores(True))
    for method, of, keep, seed in jobs():
        if options.of not in (None, of):
            continue
        wants_text = method.probe == "text" and options.probe_text is None
        if (method.name, of, keep, seed) in known or wants_text:
            continue
        rows.append(bench.row(method, of, keep, seed))
        print(rows[-1], flush=True)
        write_text(options.json, json.dumps(described(bench) | {"rows": rows}, indent=1) + "\n")


def described(bench: Bench) -> dict[str, Any]:
    """Return what the numbers depend on."""
    return {
        "model": "SmolLM2-135M-Instruct, dequantised from Q4_1",
        "machine": device_name(torch.device("cpu")),
        "threads": torch.get_num_threads(),
        "dtype": str(bench.subject.dtype).removeprefix("torch."),
        "versions": versions("prunepolicy", "torch", "transformers"),
        "texts": f"first {TOKENS} tokens of each, windows of 512",
        "questions": {"piqa": len(bench.piqa), "blimp": len(bench.blimp)},
        "methods": [asdict(method) for method in METHODS],
    }


if __name__ == "__main__":
    main()
