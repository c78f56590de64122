"""How much lower could a choice of units score? Gates that learn on the very text they are scored on.

Nothing that is chosen without that text can be expected to do as well: what separates hand-made criteria from
these gates is about all there is to win by choosing units, without repair. One seed; one thread. Rows are
written one by one, and a run that was stopped continues.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import torch
from contenders import OFS, Contender, Job
from policies import DENSE, Bench, dense_row
from scoring import TOKENS, Results, Scorer

from prunepolicy.agents.training.recipe import load_recipe
from prunepolicy.agents.training.run_report import REPORT
from prunepolicy.agents.training.train import train
from prunepolicy.policy.load import load_policy
from prunepolicy.pruning.atomic import write_text
from prunepolicy.pruning.plan import Budget, Of

RECIPE = Path("configs/train/gradient_gates.yaml")
KEEPS = (0.9, 0.8, 0.7)
TEXTS = {"scored": TOKENS // 128, "self": 384}
"""What gates learn on, and how many pieces of 128 tokens of it."""
NAMES = {"scored": "gradient gates, on the scored text", "self": "gradient gates"}
HAND_MADE = (
    Contender("activation", "activation"),
    Contender("fisher", "fisher"),
    Contender("fisher, layers too", "fisher", mixes=True),
    Contender("fisher x activation", "fisher_activation"),
)


def scored_text(bench: Bench, folder: Path) -> Path:
    """Write the part of the prose that counts, and return its file."""
    tokenizer = bench.subject("smollm2-135m").tokenizer
    tokens = tokenizer(bench.scorer.texts["prose"], add_special_tokens=False)["input_ids"][:TOKENS]
    file = folder / "scored.txt"
    write_text(file, tokenizer.decode(tokens))
    return file


def learned(text: str, of: Of, file: Path) -> Path:
    """Return the folder of gates that have learned, learning them first where they are missing."""
    run = file.with_name(f"{text}-{of}")
    source = file if text == "scored" else text
    changes = [f"learner.text={source}", f"learner.texts={TEXTS[text]}", f"budgets.of={of}"]
    if not (run / REPORT).is_file():
        train(load_recipe(RECIPE, [*changes, "evaluation.every=1000"]), run, resume=run.exists())
    return run / "last"


def contenders(bench: Bench, folder: Path, of: Of) -> Iterator[Contender]:
    """Yield criteria and gates, the latter as soon as they have learned."""
    yield from HAND_MADE
    file = scored_text(bench, folder)
    for text in TEXTS:
        yield Contender(NAMES[text], str(learned(text, of, file)), "learned")


def main() -> None:
    """Measure what is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="prose, PIQA, BLiMP")
    parser.add_argument("--folder", type=Path, default=Path("runs/ceiling"))
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/ceiling.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.folder.mkdir(parents=True, exist_ok=True)
    bench = Bench(Scorer.read(options.data))
    described = bench.scorer.described(bench.subject("smollm2-135m").dtype)
    results = Results(options.json, ("method", "of", "keep"), described)
    if DENSE not in results:
        results.add(dense_row(bench, answers=False))
    for of in OFS:
        for contender in contenders(bench, options.folder, of):
            bench.policies[contender.name, 0] = load_policy(contender.source)
            for keep in KEEPS:
                budget = contender.asked(Budget(keep, of))
                job = Job("selection", contender, budget, 0) if budget else None
                if job and job.place not in results:
                    results.add(bench.row(job))


if __name__ == "__main__":
    main()
