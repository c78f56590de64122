"""What is a text worth to a choice of channels, and how much of it does a choice need?

A kind of text that nothing was fitted to: n tokens are shown, the 1,024 that follow the longest showing
are scored. Equal widths, nothing repaired. Scorers are fitted to texts that the model wrote itself. With
another seed, other tokens of the text are shown where the longest showing leaves room, another two thirds of
the written texts are fitted to, and the model goes on otherwise; the first shows the beginning and fits all.
What gradients have trained is read from a policy's folder, the same for all seeds. With --repaired, the
default's repair follows, calibrated on text of all kinds, the shown tokens and what the model goes on with
after them, also where the choice is one for any text; `ahead_text` is `ahead` without the last.
Cells are written one by one, and a run that was stopped continues.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import cast

import torch
from domain_texts import kinds_of_text
from scoring import Results, Row
from torch import Tensor

from prunepolicy.agents.for_text.ahead import continuations, seen_by
from prunepolicy.agents.for_text.known import GENERIC, Dividing, Texts
from prunepolicy.commands.prune.job import PruneSettings, open_session
from prunepolicy.policy.base import Instruments
from prunepolicy.policy.budgeting import spend, task_for
from prunepolicy.policy.kinds.text import Text
from prunepolicy.policy.load import load_policy, load_policy_folder
from prunepolicy.policy.planning import plan_for
from prunepolicy.policy.text_scores import TextScorer, text_scorers
from prunepolicy.policy.text_scores.registry import apart
from prunepolicy.pruning.checkpoint.cut import Edits
from prunepolicy.pruning.checkpoint.tokens import start_of_text, token_ids
from prunepolicy.pruning.io.machine import device_name, versions
from prunepolicy.pruning.measure.perplexity import window_losses
from prunepolicy.pruning.plan import Budget, Plan
from prunepolicy.pruning.repair import RepairContext, repairs
from prunepolicy.pruning.repair.edited import edited
from prunepolicy.pruning.session.model_session import ModelSession
from prunepolicy.pruning.statistics.text_energy import text_energy
from prunepolicy.pruning.statistics.written_texts import Writing

KEEPS = (0.7, 0.5)
SHOWN = (128, 512, 2048, 32)
SCORED = 1024
KEY = ("kind", "scorer", "n", "keep", "seed")
DENSE, DEFAULT = "dense", "default"
CONTROL = "generic_offsets"
"""The trained factors on text of all kinds: what of their gain is a better choice whatever the text."""
WITHOUT_TEXT = ("generic", CONTROL, DEFAULT)
FIRST = ("blend", "ahead", "offsets", "low_rank", "plain")
TRAINED = "offsets"
"""Is no scorer that statistics fit."""
REPAIR, ROW = "reconstruction", 128
"""The default's repair, and tokens of a row of what it is calibrated on."""
REPAIRED = ("ahead", "generic", "blend", "offsets")
SHOWN_ALONE = "ahead_text"
"""The choice of `ahead`, repaired on what is shown and nothing that the model goes on with."""
STRIDE = 512
"""Tokens between what two seeds are shown."""


@dataclass
class Bench:
    """The model, the kinds of text, and the scorers fitted so far by seed.

    Attributes:
        trained: folder of the policy whose scorer gradients have trained.
        repaired: whether the default's repair follows a choice.
    """

    session: ModelSession
    documents: dict[str, Tensor]
    writing: Writing
    trained: Path | None = None
    repaired: bool = False
    fitted: dict[tuple[str, int], TextScorer] = field(default_factory=dict)
    known: dict[int, Texts] = field(default_factory=dict)

    def row(self, cell: Row) -> Row:
        """Return the cell with its mean negative log-likelihood, nats per token."""
        model, graph = self.session.model, self.session.checkpoint.graph
        tokens = self.documents[cell["kind"]][-SCORED:]
        start = start_of_text(model, self.session.tokenizer)
        plan = self.plan(cell)
        with edited(model, graph, plan, self.edits(plan, cell) if self.repaired and plan.keep else Edits()):
            return cell | {"nll": window_losses(model, tokens, bos=start).score.nll}

    def edits(self, plan: Plan, cell: Row) -> Edits:
        """Return what the repair changes; where no text was shown, it is the same for all kinds."""
        if cell["n"]:
            return self.repair(plan, cell)
        return self.session.once((cell["scorer"], cell["seed"]), partial(self.repair, plan, cell))

    def repair(self, plan: Plan, cell: Row) -> Edits:
        """Repair on what the cell shows and on text of all kinds."""
        inputs, shown = dict(self.session.probe(replace(GENERIC, seed=cell["seed"]))), self.shown(cell)
        parts = [inputs["input_ids"], shown.reshape(cell["n"] // ROW, ROW)]
        if cell["n"] and cell["scorer"] != SHOWN_ALONE:
            parts.append(continuations(self.session, shown, cell["seed"])[:, 1 : 1 + ROW])
        inputs["input_ids"] = torch.cat(parts)
        context = RepairContext(self.session.checkpoint, self.session.model, plan, inputs)
        return repairs[REPAIR](context)

    def shown(self, cell: Row) -> Tensor:
        """Return the tokens of the text that a cell shows, shape (n,)."""
        first = min(STRIDE * cell["seed"], max(SHOWN) - cell["n"])
        return self.documents[cell["kind"]][first : first + cell["n"]]

    def plan(self, cell: Row) -> Plan:
        """Return what the cell's scorer keeps."""
        budget = Budget(cell["keep"], "ffn")
        if cell["scorer"] == DENSE:
            return Plan({}, budget, DENSE)
        if cell["scorer"] == DEFAULT:
            policy = load_policy(DEFAULT)
            return plan_for(self.session, policy, budget, replace(policy.probe, seed=cell["seed"]))
        model, graph = self.session.model, self.session.checkpoint.graph
        shown = self.shown(cell | {"n": max(cell["n"], 1)})
        name = {CONTROL: "generic", SHOWN_ALONE: "ahead"}.get(cell["scorer"], cell["scorer"])
        scorer, texts = self.scorer(name, cell["seed"]), self.texts(cell["seed"])
        few = text_energy(model, graph, shown[None])
        scores = scorer.scores(seen_by(scorer, self.session, few, shown, cell["seed"]), texts.norms)
        if cell["scorer"] == CONTROL:
            offsets = apart(self.scorer(TRAINED, cell["seed"]).numbers["offsets"], scores)
            scores = {name: values * offsets[name].exp() for name, values in scores.items()}
        task = task_for(graph, scores, budget, Instruments(), comparable=False)
        return Plan(spend(task), budget, cell["scorer"])

    def scorer(self, name: str, seed: int) -> TextScorer:
        """Return a scorer fitted to a seed's texts, or trained."""
        if (name, seed) not in self.fitted:
            if name == TRAINED and self.trained is not None:
                scorer = cast(Text, load_policy_folder(self.trained)).scorer
            else:
                scorer = text_scorers[name]()
                scorer.fit(self.texts(seed).all)
            small = {key: value.tolist() for key, value in scorer.numbers.items() if value.numel() <= 32}
            shapes = {key: tuple(value.shape) for key, value in scorer.numbers.items()}
            print(name, small, shapes, flush=True)
            self.fitted[name, seed] = scorer
        return self.fitted[name, seed]

    def texts(self, seed: int) -> Texts:
        """Return what is known of the texts that a seed fits to."""
        if seed not in self.known:
            texts = Texts.of(self.session, self.writing, Dividing())
            drawn = torch.randperm(len(texts.texts), generator=torch.Generator().manual_seed(seed))
            part = drawn[: 2 * len(drawn) // 3] if seed else drawn
            self.known[seed] = replace(texts, texts=tuple(texts.texts[row] for row in sorted(part.tolist())))
        return self.known[seed]


def cells(kinds: list[str], seeds: int, trained: bool) -> list[Row]:
    """Return all cells, the most telling first."""
    dense = [{"kind": kind, "scorer": DENSE, "n": 0, "keep": 1.0, "seed": 0} for kind in kinds]
    readers = [*FIRST, *(name for name in text_scorers if name not in (*FIRST, *WITHOUT_TEXT))]
    readers = [name for name in readers if trained or name != TRAINED]
    without = [name for name in WITHOUT_TEXT if trained or name != CONTROL]
    ways = [*((name, 0) for name in without), *product(readers, SHOWN)]
    pruned = [
        {"kind": kind, "scorer": scorer, "n": n, "keep": keep, "seed": seed}
        for seed, keep, (scorer, n), kind in product(range(seeds), KEEPS, ways, kinds)
    ]
    return [*dense, *sorted(pruned, key=_tier)]


def repaired_cells(kinds: list[str], seeds: int, trained: bool) -> list[Row]:
    """Return the cells that are repaired: the choice for any text without the text, and all with it."""
    dense = [{"kind": kind, "scorer": DENSE, "n": 0, "keep": 1.0, "seed": 0} for kind in kinds]
    scorers = [name for name in REPAIRED if trained or name != TRAINED]
    ways = [("generic", 0), *((name, n) for n in (512, ROW) for name in (*scorers, SHOWN_ALONE))]
    return dense + [
        {"kind": kind, "scorer": scorer, "n": n, "keep": KEEPS[0], "seed": seed}
        for seed, (scorer, n), kind in product(range(seeds), ways, kinds)
    ]


def _tier(cell: Row) -> tuple[bool, bool, int]:
    """Return how far a cell is from what is asked first."""
    first = cell["scorer"] in (*FIRST, "generic", CONTROL) and cell["n"] in (0, *SHOWN[:2])
    return not first, cell["keep"] != KEEPS[0], int(cell["seed"])


def documents(session: ModelSession, prose: Path | None) -> dict[str, Tensor]:
    """Return the tokens of every kind of text that is long enough."""
    needed = max(SHOWN) + SCORED
    found = {
        kind: token_ids(session.model, session.tokenizer, text)[:needed]
        for kind, text in kinds_of_text(prose).items()
    }
    return {kind: tokens for kind, tokens in found.items() if len(tokens) == needed}


def main() -> None:
    """Measure what is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prose", type=Path, help="stories, for two more kinds of text")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--texts", type=int, default=156, help="that the model writes")
    parser.add_argument("--length", type=int, default=256, help="tokens of each")
    parser.add_argument(
        "--trained", type=Path, help="folder of the policy that configs/train/text_offsets.yaml made"
    )
    parser.add_argument("--repaired", action="store_true", help="after the default's repair")
    parser.add_argument("--json", type=Path, help="by default benchmarks/results/for_text[_repaired].json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    session = open_session("smollm2-135m", PruneSettings())
    writing = Writing(options.texts, options.length)
    bench = Bench(session, documents(session, options.prose), writing, options.trained, options.repaired)
    name, to_measure = ("for_text_repaired", repaired_cells) if options.repaired else ("for_text", cells)
    described = {
        "model": "SmolLM2-135M-Instruct, dequantised from Q4_1",
        "machine": device_name(torch.device("cpu")),
        "threads": torch.get_num_threads(),
        "dtype": str(session.dtype).removeprefix("torch."),
        "versions": versions("prunepolicy", "torch", "transformers"),
        "texts": f"{SCORED} tokens of each of {len(bench.documents)} kinds, windows of 512",
        "written": f"{writing.texts} texts of {writing.length} tokens",
    }
    results = Results(options.json or Path(f"benchmarks/results/{name}.json"), KEY, described)
    for cell in to_measure(list(bench.documents), options.seeds, options.trained is not None):
        if cell not in results:
            results.add(bench.row(cell))


if __name__ == "__main__":
    main()
