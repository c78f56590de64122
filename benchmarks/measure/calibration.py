"""How much does the text matter that a choice of units is made on?

The same criteria and gates, on text that the dense model writes itself, from its start token or varied, on
other pages of the stories that the result is scored on, as a user's own text would be, on both, and, for
gates, on the scored pages themselves: nothing chosen without them can be expected to do as well. One seed;
one thread; nothing repaired. Rows are written one by one, and a run that was stopped continues; gates, which
take long to learn, come last.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from contenders import OFS, Contender, Job
from policies import DENSE, Bench, dense_row
from scoring import OTHER, SCORED, SELF, VARIED, Results, Scorer

from prunepolicy.agents.training.recipe_file import load_recipe
from prunepolicy.agents.training.run_report import REPORT
from prunepolicy.agents.training.train import train
from prunepolicy.policy.load import load_policy
from prunepolicy.pruning.io.atomic import write_text
from prunepolicy.pruning.plan import Budget, Of
from prunepolicy.pruning.statistics.probe import Probe

RECIPE = Path("configs/train/gradient_gates.yaml")
KEEPS = (0.9, 0.8, 0.7)
LENGTH = 128
BOTH = "self and other pages"
SELF_TEXTS = 384
WATCHING = (
    Contender("activation", "activation"),
    Contender("fisher", "fisher"),
    Contender("fisher, layers too", "fisher", mixes=True),
    Contender("fisher x activation", "fisher_activation"),
    Contender("llama-graph.v1", "llama-graph.v1", "learned"),
)


@dataclass(frozen=True)
class Texts:
    """What is watched or learned on, and where gates learn.

    Attributes:
        sources: by the text's name, what probes and learners take.
        pieces: of `LENGTH` tokens, that gates learn on; criteria watch as many of a file, and what the model
            writes in the number that is usual for probes.
    """

    folder: Path
    sources: dict[str, str]
    pieces: dict[str, int]

    @classmethod
    def written(cls, bench: Bench, folder: Path) -> Texts:
        """Split the stories into the pages that are scored, and the others."""
        folder.mkdir(parents=True, exist_ok=True)
        tokenizer = bench.session("smollm2-135m").tokenizer
        sources, pieces = {SELF: SELF, VARIED: VARIED}, {SELF: SELF_TEXTS, VARIED: SELF_TEXTS}
        for name, part in bench.scorer.pages(tokenizer).items():
            file = folder / f"{name.replace(' ', '_')}.txt"
            write_text(file, tokenizer.decode(part))
            sources[name], pieces[name] = str(file), len(part) // LENGTH
        sources[BOTH], pieces[BOTH] = f"{SELF}+{sources[OTHER]}", pieces[OTHER]
        return cls(folder, sources, pieces)

    def probe(self, name: str) -> Probe | None:
        """Return what criteria watch the network on; None is their own choice."""
        if name == SELF:
            return None
        return Probe(VARIED) if name == VARIED else Probe(self.sources[name], self.pieces[name], LENGTH)

    def gates(self, name: str, of: Of) -> Contender:
        """Return gates that have learned, learning them first where they are missing."""
        run = self.folder / f"{name.replace(' ', '_')}-{of}"
        changes = {"text": self.sources[name], "texts": self.pieces[name], "length": LENGTH}
        if not (run / REPORT).is_file():
            overrides = [f"learner.{key}={value}" for key, value in changes.items()]
            recipe = load_recipe(RECIPE, [*overrides, f"budgets.of={of}", "evaluation.every=1000"])
            train(recipe, run, resume=run.exists())
        return Contender("gradient gates", str(run / "last"), "learned")


def contenders(texts: Texts) -> Iterator[tuple[str, Of, Contender]]:
    """Yield what takes part, by text and budget; gates, as soon as they have learned, come last."""
    places = [(name, of) for of in OFS for name in texts.sources]
    yield from ((name, of, contender) for name, of in places if name != SCORED for contender in WATCHING)
    yield from ((name, of, texts.gates(name, of)) for name, of in places)


def main() -> None:
    """Measure what is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="prose, PIQA, BLiMP")
    parser.add_argument("--folder", type=Path, default=Path("runs/calibration"))
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/calibration.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    bench = Bench(Scorer.read(options.data))
    texts = Texts.written(bench, options.folder)
    described = bench.scorer.described(bench.session("smollm2-135m").dtype)
    results = Results(options.json, ("method", "text", "of", "keep"), described)
    if DENSE not in results:
        results.add(dense_row(bench, answers=False))
    for name, of, contender in contenders(texts):
        here = replace(bench, watched=texts.probe(name))
        here.policies[contender.name, 0] = load_policy(contender.source)
        for keep in KEEPS:
            budget = contender.asked(Budget(keep, of))
            job = Job("selection", contender, budget, 0) if budget else None
            if job and job.place | {"text": name} not in results:
                results.add({**here.row(job), "text": name})


if __name__ == "__main__":
    main()
