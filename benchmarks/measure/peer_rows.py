"""Rows of other pruning tools, run in an environment of their own, for the comparison of policies."""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from scoring import Results, Row, Scorer

from prunepolicy.policy.load import load_policy
from prunepolicy.pruning.cost import cost_of
from prunepolicy.pruning.plan import Budget
from prunepolicy.pruning.session.model_session import ModelSession
from prunepolicy.pruning.session.opened_model import Hardware
from prunepolicy.pruning.statistics.stats import Stats

SCRIPT = Path(__file__).parent / "peers.py"
SEEDS = {"torch-pruning": 1, "efficient-pruners": 3}
"""How often each tool is repeated; the first draws nothing."""


def peer_rows(
    session: ModelSession,
    scorer: Scorer,
    results: Results,
    budgets: Sequence[Budget],
    options: argparse.Namespace,
) -> None:
    """Let every tool prune to the widths that uniform budgets give here, and score what it wrote."""
    for tool, seeds in SEEDS.items():
        for seed in range(min(seeds, options.seeds)):
            places = [place_of(tool, budget, seed) for budget in budgets]
            wanted = [
                b for b, place in zip(budgets, places, strict=True) if b.uniform and place not in results
            ]
            try:
                for row in measured(tool, seed, wanted, (session, scorer, options.peers_python)):
                    results.add(row)
            except subprocess.CalledProcessError as error:
                print(f"skipped: {tool}, seed {seed}: {error.stderr[-500:]}", flush=True)


def place_of(tool: str, budget: Budget, seed: int) -> Row:
    """Return the columns that tell a row apart."""
    return {
        "block": "selection", "model": "smollm2-135m", "method": tool, "group": "other tool",
        "of": budget.of, "keep": budget.keep, "uniform": budget.uniform, "seed": seed,
    }  # fmt: skip


def measured(
    tool: str, seed: int, budgets: Sequence[Budget], setting: tuple[ModelSession, Scorer, Path]
) -> Iterator[Row]:
    """Yield one row per budget, each from a folder that plain transformers loads."""
    session, scorer, python = setting
    widths = {budget: width_at(session, budget) for budget in budgets}
    if not widths:
        return
    with tempfile.TemporaryDirectory(prefix="peers-") as out:
        command = [python, SCRIPT, tool, "--model", session.checkpoint.folder, "--out", out]
        asked = ["--seed", seed, "--widths", *sorted(set(widths.values()))]
        subprocess.run([*map(str, [*command, *asked])], check=True, stderr=subprocess.PIPE, text=True)
        for budget, width in widths.items():
            folder = Path(out) / str(width)
            pruned = ModelSession.named(str(folder), Hardware())
            facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
            facts["params"] = cost_of(pruned.checkpoint.graph).params
            names = ("prose",) if seed else ("prose", "code")
            yield place_of(tool, budget, seed) | facts | scorer.nll(pruned.model, session.tokenizer, names)


def width_at(session: ModelSession, budget: Budget) -> int:
    """Return the width of every feed-forward block that meets a uniform budget."""
    graph = session.checkpoint.graph
    plan = load_policy("random").plan(graph, Stats(), budget)
    return len(plan.kept(graph.of_kind("ffn")[0]))
