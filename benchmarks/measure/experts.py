"""Which experts may go? Criteria on a small mixture of experts that learned several kinds of text.

The model is trained on the spot, once, on equally much prose, Python and C++; then experts go in equal
numbers per layer, nothing repaired. Calibrated on all kinds it is scored on all, calibrated on one kind on
that kind. Seeds draw other calibration data. Rows are written one by one, and a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import torch
from domain_texts import Files
from package_prose import documents, split, token_stream, trained_tokenizer
from rich.console import Console
from scoring import Results, Row
from small_models import CPU, Schedule, full_config, sized, train
from torch import Tensor
from transformers.utils.logging import disable_progress_bar

from prunepolicy.policy.kinds.heuristic import Heuristic, HeuristicConfig
from prunepolicy.pruning.adapters import adapter_for
from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.io.atomic import check_target, publish
from prunepolicy.pruning.io.machine import device_name, versions
from prunepolicy.pruning.io.progress import ProgressReporter
from prunepolicy.pruning.io.working_folder import working_folder
from prunepolicy.pruning.measure.perplexity import window_losses
from prunepolicy.pruning.plan import Budget
from prunepolicy.pruning.statistics.activations import activation_stats
from prunepolicy.pruning.statistics.gates import masked
from prunepolicy.pruning.statistics.stats import Stats

CONFIG = sized("mixtral", 96, 3, 96, (4, 2)) | {
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
    "output_router_logits": True,
    "router_aux_loss_coef": 0.01,
}
STEPS, VOCABULARY = 2000, 1024
CHARACTERS = 1_500_000
"""Of one kind, to learn from and to score on."""
SOURCES = {
    "prose": documents,
    "python": Files("scipy", "**/*.py").texts,
    "C++": Files("torch", "include/ATen/**/*.h").texts,
}
ALL = "all"
CRITERIA = ("frequency", "activation", "reap", "expert_norm", "tcess", "random")
KEEPS = (0.75, 0.5, 0.25)
ROWS, SCORED = 64, 4096
"""Sequences to calibrate on, and tokens of every kind to score."""
KEY = ("criterion", "keep", "calibrated", "kind", "seed")


@dataclass
class Bench:
    """The model and the kinds of text.

    Attributes:
        folder: where the model lies, or will.
    """

    folder: Path
    schedule: Schedule = field(default_factory=Schedule)
    progress: ProgressReporter = field(default_factory=ProgressReporter)

    @cached_property
    def texts(self) -> dict[str, tuple[list[str], list[str]]]:
        """By kind, the documents to learn from, and those to score on."""
        return {kind: split(limited(source(), CHARACTERS)) for kind, source in SOURCES.items()}

    @cached_property
    def tokenizer(self) -> Any:
        """Made from all kinds."""
        return trained_tokenizer([text for learn, _ in self.texts.values() for text in learn], VOCABULARY)

    @cached_property
    def streams(self) -> dict[str, Tensor]:
        """Tokens to learn from and to calibrate on, by kind."""
        return {kind: token_stream(self.tokenizer, learn) for kind, (learn, _) in self.texts.items()}

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """The model's folder, trained where it is missing."""
        if not self.folder.is_dir():
            check_target(self.folder, overwrite=True)
            prepared = working_folder(self.folder)
            self.trained().save_pretrained(prepared)
            self.tokenizer.save_pretrained(prepared)
            publish(prepared, self.folder)
        return Checkpoint.open(self.folder)

    def trained(self) -> Any:
        """Return the model after training."""
        config = full_config(CONFIG, self.tokenizer, self.schedule)
        torch.manual_seed(self.schedule.seed)
        model = adapter_for(config).build(config)
        with self.progress.step("train the mixture of experts", STEPS) as advance:
            train(model, torch.cat(list(self.streams.values())), STEPS, self.schedule, advance)
        return model.eval()

    @cached_property
    def model(self) -> Any:
        """The model, in single precision."""
        return self.checkpoint.adapter.load(self.checkpoint.folder, torch.float32)

    def calibration(self, kind: str, seed: int) -> Tensor:
        """Return sequences of one kind, or of all in turn, (ROWS, length)."""
        generator, kinds = torch.Generator().manual_seed(seed), list(SOURCES) if kind == ALL else [kind]
        offsets, rows = torch.arange(self.schedule.length), []
        for place in range(ROWS):
            stream = self.streams[kinds[place % len(kinds)]]
            start = torch.randint(len(stream) - len(offsets), (1,), generator=generator)
            rows.append(stream[start + offsets])
        tokens = torch.stack(rows)
        tokens[:, 0] = self.tokenizer.bos_token_id
        return tokens

    def stats(self, calibrated: str, seed: int) -> Stats:
        """Return what experts do on calibration data."""
        graph = self.checkpoint.graph
        inputs = {"input_ids": self.calibration(calibrated, seed)}
        return replace(activation_stats(self.model, graph, graph.of_kind("expert"), inputs), seed=seed)

    def nll(self, kind: str) -> float:
        """Return the mean negative log-likelihood of a kind of text, nats per token."""
        tokens = token_stream(self.tokenizer, self.texts[kind][1])[:SCORED]
        losses = window_losses(self.model, tokens, bos=self.tokenizer.bos_token_id)
        return float(losses.score.nll)


def limited(texts: Any, characters: int) -> list[str]:
    """Return texts until there is enough of them."""
    found, total = [], 0
    for text in texts:
        found.append(text)
        total += len(text)
        if total >= characters:
            break
    return found


def main() -> None:
    """Measure what is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("models/mixtral-1m"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/experts.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    disable_progress_bar()
    bench = Bench(options.model, progress=ProgressReporter(Console()))
    described = {
        "model": f"Mixtral, {bench.model.num_parameters() / 1e6:.1f} million parameters, "
        f"{CONFIG['num_local_experts']} experts in each of {CONFIG['num_hidden_layers']} layers, "
        f"{CONFIG['num_experts_per_tok']} a token, {STEPS} steps",
        "machine": device_name(CPU),
        "versions": versions("prunepolicy", "torch", "transformers"),
        "calibration": f"{ROWS} sequences of {bench.schedule.length} tokens",
        "scored": f"{SCORED} tokens of every kind",
    }
    results = Results(options.json, KEY, described)
    for kind in SOURCES:
        cell: Row = {"criterion": "dense", "keep": 1.0, "calibrated": ALL, "kind": kind, "seed": 0}
        if cell not in results:
            results.add(cell | {"nll": bench.nll(kind)})
    for seed, calibrated in product(range(options.seeds), (ALL, *SOURCES)):
        stats = bench.stats(calibrated, seed)
        for name, keep in product(CRITERIA, KEEPS):
            policy, graph = Heuristic(HeuristicConfig(criterion=name)), bench.checkpoint.graph
            plan = policy.plan(graph, stats, Budget(keep, "experts"))
            for kind in SOURCES if calibrated == ALL else (calibrated,):
                cell = {"criterion": name, "keep": keep, "calibrated": calibrated, "kind": kind, "seed": seed}
                if cell not in results:
                    with masked(bench.model, graph, plan):
                        results.add(cell | {"nll": bench.nll(kind)})


if __name__ == "__main__":
    main()
