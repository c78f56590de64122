"""What chooses best which units stay: hand-made criteria, searches and learned policies in one run.

On SmolLM2-135M-Instruct, without repair (and with it for a few), on text and questions that nobody
learned from; on small held-out models, on text they wrote themselves. One thread. Rows are written one
by one, and a run that was stopped continues; what was trained anew is measured anew. Learned policies
are named with --run, once for every kind: --run graph=runs/graph/seed-{seed}
"""

from __future__ import annotations

import argparse
import hashlib
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from peer_rows import peer_rows
from scoring import Results, Row, Scorer

from prunepolicy.agents.collected import Collected
from prunepolicy.agents.judge import JUDGING_SEED, Judge
from prunepolicy.agents.opened_model import Hardware
from prunepolicy.agents.recipe import EvaluationRecipe
from prunepolicy.agents.subject import Subject
from prunepolicy.policy.base import Policy
from prunepolicy.policy.load import load_policy
from prunepolicy.pruning.cost import cost_of
from prunepolicy.pruning.cut import Edits
from prunepolicy.pruning.edited import edited
from prunepolicy.pruning.errors import PrunePolicyError
from prunepolicy.pruning.plan import Budget, Of, Plan
from prunepolicy.pruning.stats import Stats

OFS: tuple[Of, ...] = ("ffn", "params")
BUDGETS = [Budget(keep, of, uniform=u) for u in (True, False) for of in OFS for keep in (0.9, 0.8, 0.7)]
ASKED = Budget(0.7, "ffn")
"""The budget at which questions are answered."""
SMALL = ("models/gpt_neox-1m", "models/phi3-2m", "models/llama-5m")
SMALL_TEXTS = EvaluationRecipe(samples=64)
SMALL_TEXT_SEED = JUDGING_SEED + 2
"""Training chooses on the text of one seed and reports on that of the next; this is neither."""
SEEDS = 3
KEY = ("block", "model", "method", "of", "keep", "uniform", "seed")


@dataclass(frozen=True)
class Contender:
    """One way to choose what stays.

    Attributes:
        source: a criterion, a search, or run folders with `{seed}` in their name.
        group: `hand-made`, `search` or `learned`; `finished` is the default with its repair.
        seeds: how many probes, and trainings, it is repeated with.
        blocks: where else it takes part than in `selection`.
        repaired: the shapes (uniform or not) in which it is also measured with a ridge repair.
    """

    name: str
    source: str
    group: str = "hand-made"
    seeds: int = SEEDS
    blocks: tuple[str, ...] = ("selection", "small")
    repaired: tuple[bool, ...] = ()


EVERYWHERE = ("selection", "small", "questions")
CONTENDERS = [
    Contender("random", "random", blocks=EVERYWHERE),
    Contender("magnitude", "magnitude", seeds=1),
    Contender("activation", "activation", blocks=EVERYWHERE),
    Contender("taylor", "taylor", seeds=1),
    Contender("fisher", "fisher", repaired=(False,)),
    Contender("fisher x activation", "fisher_activation", blocks=EVERYWHERE, repaired=(True,)),
    Contender("greedy search", "greedy", "search"),
    Contender("quadratic search", "qubo", "search"),
    Contender("default, ridge", "default", "finished", blocks=("questions",)),
]


def learned(option: str) -> Contender:
    """Read `--run NAME=FOLDERS`; row policies learn at equal widths only, and their repair isn't shown."""
    name, _, folders = option.partition("=")
    shapes = () if "prunenet" in name.lower() else (True, False)
    return Contender(name, folders, "learned", blocks=EVERYWHERE, repaired=shapes)


@dataclass(frozen=True)
class Job:
    """One row to measure."""

    block: str
    contender: Contender
    budget: Budget
    seed: int
    model: str = "smollm2-135m"

    @property
    def place(self) -> Row:
        """The columns that tell the row apart."""
        return {
            "block": self.block, "model": self.model, "method": self.contender.name,
            "group": self.contender.group, "of": self.budget.of, "keep": self.budget.keep,
            "uniform": self.budget.uniform, "seed": self.seed,
        }  # fmt: skip


@dataclass
class Bench:
    """The models, what they are scored on, and the statistics already collected, each with its seconds."""

    scorer: Scorer
    subjects: dict[str, Subject] = field(default_factory=dict)
    collected: Collected = field(default_factory=Collected)
    policies: dict[tuple[str, int], Policy] = field(default_factory=dict)
    judges: dict[tuple[str, int], Judge] = field(default_factory=dict)
    _seconds: dict[tuple[Any, ...], float] = field(default_factory=dict)

    def subject(self, name: str) -> Subject:
        """Return the opened and loaded model."""
        if name not in self.subjects:
            self.subjects[name] = Subject.named(name, Hardware())
        return self.subjects[name]

    def row(self, job: Job) -> Row:
        """Prune one way and score the result, without writing it."""
        policy = self.policies[job.contender.name, job.seed]
        facts = job.place | {"policy": digest(policy)}
        try:
            return facts | (self.judged if job.block == "small" else self.measured)(job, policy)
        except PrunePolicyError as error:
            return facts | {"refused": str(error)}

    def judged(self, job: Job, policy: Policy) -> Row:
        """Return the excess of a small model, scored on its own text."""
        place = (job.model, job.seed)
        if place not in self.judges:
            subjects = (self.subject(job.model),)
            self.judges[place] = Judge(
                subjects, (), SMALL_TEXTS, job.seed, text_seed=SMALL_TEXT_SEED, collected=self.collected
            )
        judge = replace(self.judges[place], budgets=(job.budget,))
        return {"excess": next(iter(judge.scores(policy).values()))}

    def measured(self, job: Job, policy: Policy) -> Row:
        """Return the scores of the language model, pruned."""
        subject, probe = self.subject(job.model), replace(policy.probe, seed=job.seed)
        plan, facts = self.planned(job, policy)
        repair = {"repaired": "ridge", "questions": policy.repair}.get(job.block)
        edits = subject.repaired(replace(plan, repair=repair), probe) if repair else Edits()
        model, tokenizer = subject.model, subject.tokenizer
        with edited(model, subject.checkpoint.graph, plan, edits):
            if job.block == "questions":
                return facts | {"repair": repair} | self.scorer.answers(model, tokenizer)
            names = ("prose",) if job.seed else ("prose", "code")
            return facts | self.scorer.nll(model, tokenizer, names)

    def planned(self, job: Job, policy: Policy) -> tuple[Plan, Row]:
        """Return a plan, its size, and the CPU seconds it took on an opened and loaded model."""
        graph = self.subject(job.model).checkpoint.graph
        stats, watching = self.stats(job, policy)
        start = time.process_time()
        plan = policy.plan(graph, stats, job.budget)
        spent = {"watching": round(watching, 3), "planning": round(time.process_time() - start, 3)}
        return plan, spent | {"params": cost_of(graph, plan.keep).params}

    def stats(self, job: Job, policy: Policy) -> tuple[Stats, float]:
        """Return a policy's statistics, and what collecting them alone would have taken."""
        subject, probe = self.subject(job.model), replace(policy.probe, seed=job.seed)
        _ = subject.model, subject.tokenizer, subject.probe(probe)  # opened, and its text written
        needs = policy.needs(subject.checkpoint.graph, job.budget)
        for need in sorted(needs):
            start = time.process_time()
            self.collected.stats(subject, {need}, probe)
            self._seconds.setdefault((job.model, need, probe), time.process_time() - start)
        stats = self.collected.stats(subject, needs, probe)
        return stats, sum(self._seconds[job.model, need, probe] for need in needs)


def digest(policy: Policy) -> str:
    """Return what changes when a policy was trained anew."""
    found = hashlib.sha256(policy.config.model_dump_json().encode())
    for name, tensor in sorted(policy.weights().items()):
        found.update(name.encode() + tensor.detach().contiguous().numpy().tobytes())
    return found.hexdigest()[:12]


def opened(contenders: list[Contender], seeds: int) -> dict[tuple[str, int], Policy]:
    """Return the policies by name and seed; those that aren't there yet are named and left out."""
    found = {}
    for contender in contenders:
        for seed in range(min(seeds, contender.seeds)):
            try:
                found[contender.name, seed] = load_policy(contender.source.replace("{seed}", str(seed)))
            except PrunePolicyError as error:
                print(f"skipped: {contender.name}, seed {seed}: {error}", flush=True)
    return found


def jobs(contenders: list[Contender], models: list[str]) -> Iterator[Job]:
    """Yield every row, the first seed of everything before the others."""
    for seed in range(SEEDS):
        here = [contender for contender in contenders if seed < contender.seeds]
        for budget in BUDGETS:
            yield from (Job("selection", c, budget, seed) for c in here if "selection" in c.blocks)
        for model in models:
            small = [budget for budget in BUDGETS if budget.of == "ffn" and budget.uniform]
            yield from (Job("small", c, b, seed, model) for b in small for c in here if "small" in c.blocks)
        if not seed:
            yield from (Job("questions", c, ASKED, seed) for c in here if "questions" in c.blocks)
            hard = [b for b in BUDGETS if b.of == "ffn" and b.keep < 0.9]
            yield from (Job("repaired", c, b, seed) for b in hard for c in here if b.uniform in c.repaired)


def dense_row(bench: Bench) -> Row:
    """Score the model as it is."""
    subject = bench.subject("smollm2-135m")
    model, tokenizer = subject.model, subject.tokenizer
    facts = {"params": cost_of(subject.checkpoint.graph).params}
    return DENSE | facts | bench.scorer.nll(model, tokenizer) | bench.scorer.answers(model, tokenizer)


DENSE: Row = {
    "block": "dense", "model": "smollm2-135m", "method": "dense", "group": "dense", "of": "params",
    "keep": 1.0, "uniform": True, "seed": 0,
}  # fmt: skip


def forget_retrained(results: Results, policies: dict[tuple[str, int], Policy]) -> None:
    """Drop rows of policies that are others now."""
    now = {place: digest(policy) for place, policy in policies.items()}
    results.rows = [
        row
        for row in results.rows
        if row.get("policy") == now.get((row["method"], row["seed"]), row.get("policy"))
    ]


def read_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="prose, PIQA, BLiMP")
    parser.add_argument("--run", action="append", default=[], help="NAME=FOLDER with {seed} in it")
    parser.add_argument("--models", nargs="*", default=SMALL, help="held-out small models")
    parser.add_argument("--peers-python", type=Path, help="interpreter that has the other tools")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--of", choices=OFS, help="only these budgets")
    parser.add_argument("--keep", type=float, help="only these budgets")
    parser.add_argument("--blocks", nargs="*", help="only selection, small, questions or repaired")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/policies.json"))
    return parser.parse_args()


def wanted(job: Job, options: argparse.Namespace) -> bool:
    """Return whether the command line asks for a row."""
    return (
        job.seed < options.seeds
        and options.of in (None, job.budget.of)
        and options.keep in (None, job.budget.keep)
        and (options.blocks is None or job.block in options.blocks)
    )


def main() -> None:
    """Measure what the results file lacks, row by row."""
    options = read_options()
    torch.set_num_threads(1)
    contenders = [*CONTENDERS, *map(learned, options.run)]
    bench = Bench(Scorer.read(options.data), policies=opened(contenders, options.seeds))
    described = bench.scorer.described(bench.subject("smollm2-135m").dtype)
    described["contenders"] = [asdict(contender) for contender in contenders]
    results = Results(options.json, KEY, described)
    forget_retrained(results, bench.policies)
    if DENSE not in results:
        results.add(dense_row(bench))
    there = [name for name in options.models if Path(name).is_dir()]
    for name in sorted({*options.models} - {*there}):
        print(f"skipped: there is no model in {name}", flush=True)
    for job in jobs(contenders, there):
        known = (job.contender.name, job.seed) in bench.policies
        if known and wanted(job, options) and job.place not in results:
            results.add(bench.row(job))
    if options.peers_python is None:
        print("skipped: other tools, which need --peers-python", flush=True)
    else:
        budgets = [b for b in BUDGETS if options.of in (None, b.of) and options.keep in (None, b.keep)]
        peer_rows(bench.subject("smollm2-135m"), bench.scorer, results, budgets, options)


if __name__ == "__main__":
    main()
