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
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from contenders import BUDGETS, CONTENDERS, OFS, SEEDS, Contender, Job, jobs, learned
from peer_rows import peer_rows
from scoring import VARIED, Results, Row, Scorer
from torch import Tensor

from prunepolicy.agents.learned_pruning.evaluator import JUDGING_SEED, Evaluator
from prunepolicy.agents.learned_pruning.shared_stats import SharedStats
from prunepolicy.agents.training.recipe import EvaluationRecipe
from prunepolicy.policy.base import Instruments, Policy
from prunepolicy.policy.load import load_policy
from prunepolicy.pruning.checkpoint.cut import Edits
from prunepolicy.pruning.cost import cost_of
from prunepolicy.pruning.errors import PrunePolicyError
from prunepolicy.pruning.plan import Plan
from prunepolicy.pruning.repair import RepairContext, repairs
from prunepolicy.pruning.repair.edited import edited
from prunepolicy.pruning.repair.ridge import remember_moments
from prunepolicy.pruning.session.model_session import ModelSession
from prunepolicy.pruning.session.opened_model import Hardware
from prunepolicy.pruning.statistics.probe import Probe
from prunepolicy.pruning.statistics.stats import Stats

SMALL = ("models/gpt_neox-1m", "models/gemma3-2m")
SMALL_TEXTS = EvaluationRecipe(samples=64)
SMALL_TEXT_SEED = JUDGING_SEED + 2
"""Training chooses on the text of one seed and reports on that of the next; this is neither."""
REPAIR = "reconstruction"
"""The default's: what all are repaired by, in rows that say so."""
KEY = ("block", "model", "method", "of", "keep", "uniform", "seed")


@dataclass
class Bench:
    """The models, what they are scored on, and the statistics already collected, each with its seconds.

    Attributes:
        watched: what policies watch the network on; None leaves that to every policy.
    """

    scorer: Scorer
    watched: Probe | None = None
    sessions: dict[str, ModelSession] = field(default_factory=dict)
    collected: SharedStats = field(default_factory=SharedStats)
    policies: dict[tuple[str, int], Policy] = field(default_factory=dict)
    evaluators: dict[tuple[str, int], Evaluator] = field(default_factory=dict)
    moments: dict[Probe, dict[str, tuple[Tensor, Tensor]]] = field(default_factory=dict)
    _seconds: dict[tuple[Any, ...], float] = field(default_factory=dict)

    def session(self, name: str) -> ModelSession:
        """Return the opened and loaded model."""
        if name not in self.sessions:
            self.sessions[name] = ModelSession.named(name, Hardware())
        return self.sessions[name]

    def probe(self, policy: Policy, job: Job) -> Probe:
        """Return what the network is watched on."""
        return replace(self.watched or policy.probe, seed=job.seed)

    def row(self, job: Job) -> Row:
        """Prune one way and score the result, without writing it."""
        policy = self.policies[job.contender.name, job.seed]
        network = self.session(job.model).checkpoint.fingerprint
        facts = job.place | {"policy": digest(policy), "network": network}
        try:
            return facts | (self.judged if job.block == "small" else self.measured)(job, policy)
        except PrunePolicyError as error:
            return facts | {"refused": str(error)}

    def judged(self, job: Job, policy: Policy) -> Row:
        """Return the excess of a small model, scored on its own text."""
        place = (job.model, job.seed)
        if place not in self.evaluators:
            sessions = (self.session(job.model),)
            self.evaluators[place] = Evaluator(
                sessions, (), SMALL_TEXTS, job.seed, text_seed=SMALL_TEXT_SEED, collected=self.collected
            )
        evaluator = replace(self.evaluators[place], budgets=(job.budget,))
        return {"excess": next(iter(evaluator.scores(policy).values()))}

    def measured(self, job: Job, policy: Policy) -> Row:
        """Return the scores of the language model, pruned."""
        session, probe = self.session(job.model), self.probe(policy, job)
        plan, facts = self.planned(job, policy)
        repair = {"repaired": REPAIR, "questions": policy.repair}.get(job.block)
        edits = self.repaired_edits(session, replace(plan, repair=repair), probe) if repair else Edits()
        model, tokenizer = session.model, session.tokenizer
        with edited(model, session.checkpoint.graph, plan, edits):
            if job.block == "questions":
                return facts | {"repair": repair} | self.scorer.answers(model, tokenizer)
            names = ("prose",) if job.seed else ("prose", "code")
            return facts | self.scorer.nll(model, tokenizer, names)

    def repaired_edits(self, session: ModelSession, plan: Plan, probe: Probe) -> Edits:
        """Return what a repair changes, from second moments measured once for all plans."""
        if self.moments.keys() != {probe}:
            self.moments = {probe: {}}
        context = RepairContext(
            session.checkpoint, session.model, plan, session.probe(probe), self.moments[probe]
        )
        if plan.repair == "ridge" and not context.known:
            remember_moments(context)
        return repairs[str(plan.repair)](context)

    def planned(self, job: Job, policy: Policy) -> tuple[Plan, Row]:
        """Return a plan, its size, and the CPU seconds it took on an opened and loaded model."""
        session, probe = self.session(job.model), self.probe(policy, job)
        graph = session.checkpoint.graph
        needs = policy.needs(graph, job.budget)
        stats, watching = self.stats(job, policy)
        again = Instruments(refresh=lambda plan: session.stats(needs, probe, plan))
        start = time.process_time()
        plan = policy.plan(graph, stats, job.budget, again)
        spent = {"watching": round(watching, 3), "planning": round(time.process_time() - start, 3)}
        return plan, spent | {"params": cost_of(graph, plan.keep).params}

    def stats(self, job: Job, policy: Policy) -> tuple[Stats, float]:
        """Return a policy's statistics, and what collecting them alone would have taken."""
        session, probe = self.session(job.model), self.probe(policy, job)
        _ = session.model, session.tokenizer, session.probe(probe)  # opened, and its text written
        needs = policy.needs(session.checkpoint.graph, job.budget)
        for need in sorted(needs):
            start = time.process_time()
            self.collected.stats(session, {need}, probe)
            self._seconds.setdefault((job.model, need, probe), time.process_time() - start)
        stats = self.collected.stats(session, needs, probe)
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
                policy = load_policy(contender.source.replace("{seed}", str(seed)))
                policy = policy.with_settings(probe=VARIED) if contender.varied else policy
                found[contender.name, seed] = unlearned(policy) if contender.unlearned else policy
            except PrunePolicyError as error:
                print(f"skipped: {contender.name}, seed {seed}: {error}", flush=True)
    return found


def unlearned(policy: Policy) -> Policy:
    """Return a policy with the same settings that hasn't learned anything."""
    torch.manual_seed(0)
    return type(policy)(policy.config)


def dense_row(bench: Bench, answers: bool) -> Row:
    """Score the model as it is, with the questions if they are asked at all."""
    session = bench.session("smollm2-135m")
    model, tokenizer = session.model, session.tokenizer
    facts = {"params": cost_of(session.checkpoint.graph).params}
    answered = bench.scorer.answers(model, tokenizer) if answers else {}
    return DENSE | facts | bench.scorer.nll(model, tokenizer) | answered


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
    parser.add_argument("--uniform", action="store_true", help="only equal widths")
    parser.add_argument("--multiple-of", type=int, help="for widths, where parameters are budgeted")
    parser.add_argument("--methods", nargs="*", help="only these")
    parser.add_argument("--blocks", nargs="*", help="only selection, small, questions or repaired")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/policies.json"))
    return parser.parse_args()


def wanted(job: Job, options: argparse.Namespace) -> bool:
    """Return whether the command line asks for a row."""
    return (
        job.seed < options.seeds
        and options.of in (None, job.budget.of)
        and options.keep in (None, job.budget.keep)
        and (job.budget.uniform or not options.uniform)
        and (options.blocks is None or job.block in options.blocks)
    )


def main() -> None:
    """Measure what the results file lacks, row by row."""
    options = read_options()
    torch.set_num_threads(1)
    contenders = [*CONTENDERS, *(contender for run in options.run for contender in learned(run))]
    if options.methods:
        contenders = [contender for contender in contenders if contender.name in options.methods]
    bench = Bench(Scorer.read(options.data), policies=opened(contenders, options.seeds))
    described = bench.scorer.described(bench.session("smollm2-135m").dtype)
    described["multiple_of"] = options.multiple_of
    described["contenders"] = [asdict(contender) for contender in contenders]
    results = Results(options.json, KEY, described)
    forget_retrained(results, bench.policies)
    if DENSE not in results:
        results.add(dense_row(bench, "questions" in (options.blocks or ["questions"])))
    there = [name for name in options.models if Path(name).is_dir()]
    for name in sorted({*options.models} - {*there}):
        print(f"skipped: there is no model in {name}", flush=True)
    for job in jobs(contenders, there, options.multiple_of):
        known = (job.contender.name, job.seed) in bench.policies
        if known and wanted(job, options) and job.place not in results:
            results.add(bench.row(job))
    if options.peers_python is None:
        print("skipped: other tools, which need --peers-python", flush=True)
    else:
        budgets = [b for b in BUDGETS if options.of in (None, b.of) and options.keep in (None, b.keep)]
        peer_rows(bench.session("smollm2-135m"), bench.scorer, results, budgets, options)


if __name__ == "__main__":
    main()
