"""Bits per byte after a cut of the vocabulary, of FFN channels, or of both, at equal numbers of parameters.

What goes is chosen on texts that the model writes itself; nothing is chosen on the texts scored here. A run
that was stopped continues.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from domain_texts import kinds_of_text
from scoring import Results, Row
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from prunepolicy.policy.base import Instruments
from prunepolicy.policy.budgeting import spend, task_for
from prunepolicy.policy.load import DEFAULT, load_policy
from prunepolicy.policy.planning import plan_for
from prunepolicy.pruning.checkpoint.vocabulary_cut import VocabularyCut, needed_tokens, tokenizer_of
from prunepolicy.pruning.cost import cost_of
from prunepolicy.pruning.io.machine import device_name, versions
from prunepolicy.pruning.measure.perplexity import piece_losses
from prunepolicy.pruning.plan import Budget, Plan
from prunepolicy.pruning.repair.edited import edited
from prunepolicy.pruning.session.model_session import ModelSession
from prunepolicy.pruning.session.opened_model import Hardware
from prunepolicy.pruning.units import VOCABULARY

KEEPS = (0.95, 0.9, 0.85)
SCORED = ("stories", "docstrings", "licences", "python", "C")
LENGTH, PIECE = 6000, 1500
"""Characters of every kind of text, and of the pieces that a model reads at once."""
WIDTHS = 32
"""Counts of tokens and channels are multiples of this; of channels alone, of half, to meet each budget."""
ORDERS = ("by number", "by frequency", "random")
WAYS = {"default": ("vocabulary",), "with FFN": ("ffn", "vocabulary"), "FFN alone": ("ffn",)}
"""Ways in which the product decides, to the kinds of unit that may go."""


@dataclass(frozen=True)
class Bench:
    """The model, and the texts by kind."""

    session: ModelSession
    texts: dict[str, list[str]]

    def row(self, way: str, keep: float, seed: int = 0) -> Row:
        """Cut one way and score the result, without writing it."""
        session = self.session
        plan = self.plan(way, keep, seed)
        edits = session.repaired(plan, load_policy(DEFAULT).probe)
        cut = VocabularyCut.of(session.checkpoint, plan)
        tokenizer = session.tokenizer if cut is None else tokenizer_after(cut, session.tokenizer)
        graph = session.checkpoint.graph
        facts = {
            "way": way,
            "keep": keep,
            "seed": seed,
            "tokens": len(plan.kept(graph[VOCABULARY])),
            "channels": len(plan.kept(graph.of_kind("ffn")[0])),
            "params": round(cost_of(graph, plan.keep).params / cost_of(graph).params, 4),
        }
        with edited(session.model, graph, plan, edits):
            return facts | {kind: self.bits(tokenizer, pieces) for kind, pieces in self.texts.items()}

    def bits(self, tokenizer: Any, pieces: Sequence[str]) -> float:
        """Return the bits per byte of a text for the model as it runs now."""
        return round(float(piece_losses(self.session.model, tokenizer, pieces).score.bits_per_byte or 0), 4)

    def plan(self, way: str, keep: float, seed: int) -> Plan:
        """Return what stays."""
        policy = load_policy(DEFAULT)
        if way == "dense":
            return Plan({}, Budget(keep), way)
        if way in WAYS:
            budget = Budget(
                keep, units=WAYS[way], multiple_of=WIDTHS if VOCABULARY in WAYS[way] else WIDTHS // 2
            )
            plan = plan_for(self.session, policy, budget, policy.probe)
            mends = any(name != VOCABULARY for name in plan.keep)
            return replace(plan, repair=policy.repair if mends else None)
        scores = {VOCABULARY: self.ranked(way, seed)}
        budget, graph = Budget(keep, units=(VOCABULARY,), multiple_of=WIDTHS), self.session.checkpoint.graph
        return Plan(spend(task_for(graph, scores, budget, Instruments(), comparable=False)), budget, way)

    def ranked(self, order: str, seed: int) -> torch.Tensor:
        """Return scores by which tokens stay in a simple order, each with all that it is built from."""
        tokenizer = tokenizer_of(self.session.checkpoint)
        rows = self.session.checkpoint.graph[VOCABULARY].size
        wanted = list(range(rows))
        if order == "random":
            generator = torch.Generator().manual_seed(seed)
            wanted = torch.randperm(rows, generator=generator).tolist()
        if order == "by frequency":
            ids = self.session.probe(load_policy(DEFAULT).probe)["input_ids"].flatten().cpu()
            counts = torch.bincount(ids, minlength=rows)
            wanted = torch.argsort(counts, descending=True, stable=True).tolist()
        placed: dict[int, int] = {}
        for number in (*sorted(needed_tokens(self.session.checkpoint, tokenizer)), *wanted):
            for part in _with_pieces(number, tokenizer.pieces):
                placed.setdefault(part, len(placed))
        scores = torch.empty(rows, dtype=torch.float64)
        scores[list(placed)] = -torch.arange(rows, dtype=torch.float64)
        return scores


def _with_pieces(number: int, pieces: dict[int, tuple[int, ...]]) -> Iterator[int]:
    """Yield what a token is built from, pieces first, and the token."""
    for piece in pieces.get(number, ()):
        yield from _with_pieces(piece, pieces)
    yield number


def tokenizer_after(cut: VocabularyCut, source: Any) -> Any:
    """Return the tokenizer of the result, with the special tokens of the source."""
    small = Tokenizer.from_str(json.dumps(cut.tokenizer.without(cut.new_ids)))
    return PreTrainedTokenizerFast(tokenizer_object=small, **source.special_tokens_map)


def main() -> None:
    """Measure what the results file lacks, row by row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prose", type=Path, default=Path("../shared/data/prose.txt"), help="stories")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/vocabulary.json"))
    parser.add_argument("--ways", nargs="*", default=["dense", "default", *ORDERS, *WAYS], help="only these")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = kinds_of_text(options.prose)
    texts = {
        kind: [found[kind][start : start + PIECE] for start in range(0, LENGTH, PIECE)] for kind in SCORED
    }
    bench = Bench(ModelSession.named("smollm2-135m", Hardware()), texts)
    described = {
        "model": "SmolLM2-135M-Instruct, dequantised from Q4_1",
        "machine": device_name(torch.device("cpu")),
        "dtype": str(bench.session.dtype).removeprefix("torch."),
        "versions": versions("prunepolicy", "torch", "transformers", "tokenizers"),
        "texts": f"the first {LENGTH} characters of each, in pieces of {PIECE}",
        "kinds": list(SCORED),
        "calibration": "64 texts of 128 tokens that the model writes (varied)",
    }
    results = Results(options.json, ("way", "keep", "seed"), described)
    for way, keep in dict.fromkeys((way, keep) for way in options.ways for keep in KEEPS):
        place = {"way": way, "keep": keep if way != "dense" else 1.0, "seed": 0}
        if place not in results:
            results.add(bench.row(way, float(place["keep"])))


if __name__ == "__main__":
    main()
