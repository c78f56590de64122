"""What `--recover` brings back: SmolLM2-135M-Instruct cut, and then taught by the dense model for a pass.

Through the command's own function, on text that the dense model writes itself or on the other pages of the
stories whose first pages are scored; nothing learned from those. One thread. Rows are written one by one,
and a run that was stopped continues.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from scoring import OTHER, SELF, VARIED, Results, Row, Scorer
from torch import nn

from prunepolicy.commands.prune.job import PruneSettings
from prunepolicy.commands.prune.prune import prune
from prunepolicy.pruning.io.atomic import write_text
from prunepolicy.pruning.session.model_session import ModelSession
from prunepolicy.pruning.session.opened_model import Hardware

MODEL = "smollm2-135m"


@dataclass(frozen=True)
class Way:
    """One way to prune, and how many passes follow.

    Attributes:
        repair: before the passes; None is the policy's own.
    """

    policy: str
    keep: float
    recover: int
    text: str = SELF
    seed: int = 0
    repair: str | None = None


def ways(seeds: int) -> Iterator[Way]:
    """Yield what is measured, the most telling first."""
    for seed in range(seeds):
        yield from (Way("default", 0.8, recover, VARIED, seed) for recover in (0, 1))
        for text in (SELF, OTHER, VARIED):
            yield from (Way("default", 0.8, recover, text, seed, "ridge") for recover in (0, 1))
        yield from (Way("random", 0.8, recover, seed=seed) for recover in (0, 1))
        for keep in (0.7, 0.9):
            yield from (Way("default", keep, recover, SELF, seed, "ridge") for recover in (0, 1))


@dataclass(frozen=True)
class Bench:
    """What results are scored on, and where they lie for so long."""

    scorer: Scorer
    folder: Path

    def row(self, way: Way) -> Row:
        """Prune one way, and score what was written."""
        out = self.folder / "smaller"
        probe = str(self.other_pages()) if way.text == OTHER else way.text
        settings = PruneSettings(
            recover=way.recover, probe=probe, seed=way.seed, repair=way.repair,
            measure=False, verify=False, overwrite=True,
        )  # fmt: skip
        began = time.process_time()
        prune(MODEL, out, way.keep, way.policy, settings)
        spent = round(time.process_time() - began, 1)
        return asdict(way) | {"cpu_seconds": spent} | self.scores(str(out))

    def scores(self, name: str) -> Row:
        """Score a model in its own precision."""
        session = ModelSession.named(name, Hardware())
        model: nn.Module = session.model
        return self.scorer.nll(model, session.tokenizer)

    def other_pages(self) -> Path:
        """Return the file of the prose that isn't scored."""
        tokenizer: Any = ModelSession.named(MODEL, Hardware()).tokenizer
        file = self.folder / "other_pages.txt"
        write_text(file, tokenizer.decode(self.scorer.pages(tokenizer)[OTHER]))
        return file


def main() -> None:
    """Measure what is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="prose, PIQA, BLiMP")
    parser.add_argument("--folder", type=Path, default=Path("runs/recover"))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/recover.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.folder.mkdir(parents=True, exist_ok=True)
    bench = Bench(Scorer.read(options.data), options.folder)
    described = bench.scorer.described(ModelSession.named(MODEL, Hardware()).dtype)
    results = Results(options.json, ("policy", "keep", "recover", "text", "seed", "repair"), described)
    dense = Way("dense", 1.0, 0)
    if asdict(dense) not in results:
        results.add(asdict(dense) | bench.scores(MODEL))
    for way in ways(options.seeds):
        if asdict(way) not in results:
            results.add(bench.row(way))


if __name__ == "__main__":
    main()
