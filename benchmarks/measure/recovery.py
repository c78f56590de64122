"""What recovery to a budget brings back, at equal CPU time: SmolLM2-135M-Instruct at keep 0.8 of parameters.

Dense, cut and repaired, then either the flat pass (`flat_pass.py`) or recovery as `--recover` does it, with
single settings changed. A budget is CPU time of one thread, writing texts included. Scored on text of several
kinds, none of which is learned from, and on PIQA and BLiMP. The texts that the model writes are written anew
by every row. Rows are written one by one, and a run that was stopped continues.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from domain_texts import kinds_of_text
from flat_pass import flat_pass
from scoring import Results, Row, Scorer
from torch import nn

from prunepolicy.agents.recovery.budget import RecoveryBudget
from prunepolicy.agents.recovery.language import LORA, RECIPES, WEIGHTS, freeze
from prunepolicy.agents.recovery.learning_texts import LearningTexts
from prunepolicy.agents.recovery.run import RecoveryRun
from prunepolicy.agents.recovery.savepoint import Savepoint
from prunepolicy.commands.prune.job import PruneSettings
from prunepolicy.commands.prune.prune import prune
from prunepolicy.pruning.checkpoint.loading import load_model
from prunepolicy.pruning.measure.perplexity import score_text
from prunepolicy.pruning.session.model_session import ModelSession
from prunepolicy.pruning.session.opened_model import Hardware
from prunepolicy.pruning.statistics.probe import Probe

MODEL, KEEP = "smollm2-135m", 0.8
PROBE = Probe("varied")
KIND_TOKENS = 1024
PARTS: dict[str, dict[str, Any]] = {
    "recovery": {},
    "adapters of rank 32": {"lora_rank": 32, "learning_rate": RECIPES[LORA].learning_rate},
    "peak learning rate 1e-4": {"learning_rate": 1e-4},
    "peak learning rate 1e-3": {"learning_rate": 1e-3},
    "one pass over the texts": {"passes": 1},
    "top-16": {"top_k": 16},
}


@dataclass(frozen=True)
class Way:
    """One way to go on after the cut."""

    way: str
    minutes: float = 0.0
    seed: int = 0


def ways(minutes: list[float], seeds: int) -> Iterator[Way]:
    """Yield what is measured, the most telling first."""
    yield from (Way("dense"), Way("repaired"))
    for seed in range(seeds):
        for some in minutes:
            yield from (Way("flat", some, seed), Way("recovery", some, seed))
    yield from (Way(part, minutes[0]) for part in PARTS if part != "recovery")


@dataclass(frozen=True)
class Bench:
    """What results are scored on, and where the cut network lies for so long."""

    scorer: Scorer
    folder: Path
    teacher: ModelSession = field(default_factory=lambda: ModelSession.named(MODEL, Hardware()))

    def row(self, way: Way) -> Row:
        """Go one way, and score what came of it."""
        if way.way == "dense":
            return asdict(way) | self.scores(self.teacher.model)
        student, facts = self.student(), {}
        began = time.process_time()
        if way.way == "flat":
            facts = {"tokens": flat_pass(student, self.fresh(), 60 * way.minutes, way.seed)}
        elif way.way != "repaired":
            facts = self.recovered(student, way)
        spent = round(time.process_time() - began, 1)
        return asdict(way) | facts | {"cpu_seconds": spent} | self.scores(student.to(self.teacher.dtype))

    def recovered(self, student: nn.Module, way: Way) -> Row:
        """Let the student learn as `--recover` does."""
        recipe, teacher = RECIPES[WEIGHTS].model_copy(update=PARTS[way.way]), self.fresh()
        freeze(student, {name for name, _ in student.named_parameters()})
        texts = LearningTexts.of(teacher, Probe("varied", seed=way.seed), recipe.window)
        budget = RecoveryBudget(60 * way.minutes, "seconds")
        with tempfile.TemporaryDirectory(dir=self.folder) as place:
            savepoint = Savepoint(Path(place), "one")
            facts = RecoveryRun(teacher, texts, budget, recipe, savepoint, clock=time.process_time).train(
                student
            )
        kept = {"steps": facts.steps, "tokens": facts.tokens, "kept": facts.kept}
        return kept | {"held_out_before": facts.before, "held_out_after": facts.after}

    def fresh(self) -> ModelSession:
        """Return the dense model without what earlier rows have found out, and with an empty cache."""
        os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(dir=self.folder)
        session = ModelSession(MODEL, self.teacher.checkpoint, self.teacher.hardware)
        vars(session)["model"] = self.teacher.model
        return session

    def student(self) -> nn.Module:
        """Return the cut and repaired network."""
        place = self.folder / f"keep-{KEEP:g}"
        if not place.is_dir():
            prune(MODEL, place, KEEP, settings=PruneSettings(measure=False, verify=False))
        return load_model(place, self.teacher.checkpoint.adapter, torch.float32, self.teacher.device)

    def scores(self, model: nn.Module) -> Row:
        """Return the mean log-perplexity of every text, nats per token, and shares of right answers."""
        model.eval()
        tokenizer = self.teacher.tokenizer
        texts = self.scorer.nll(model, tokenizer) | {
            kind: score_text(model, tokenizer, text, limit=KIND_TOKENS).nll
            for kind, text in kinds_of_text(None).items()
        }
        return {"nll": texts} | self.scorer.answers(model, tokenizer)


def main() -> None:
    """Measure what is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="prose, PIQA, BLiMP")
    parser.add_argument("--folder", type=Path, default=Path("runs/recovery"))
    parser.add_argument("--minutes", type=float, nargs="+", default=[5.0, 20.0], help="CPU minutes")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/recovery.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.folder.mkdir(parents=True, exist_ok=True)
    bench = Bench(Scorer.read(options.data), options.folder)
    described = bench.scorer.described(bench.teacher.dtype) | {"keep": KEEP, "kind_tokens": KIND_TOKENS}
    results = Results(options.json, ("way", "minutes", "seed"), described)
    for way in ways(options.minutes, options.seeds):
        if asdict(way) not in results:
            results.add(bench.row(way))


if __name__ == "__main__":
    main()
