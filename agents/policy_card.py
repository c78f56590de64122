"""The README.md of a learned policy: what it learned from, and how it compares."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import yaml

from prunepolicy.agents.card import CARD, table
from prunepolicy.agents.train_report import TrainReport
from prunepolicy.pruning.atomic import write_text


def write_policy_card(report: TrainReport, folder: Path) -> None:
    """Write the card into a policy's folder."""
    write_text(folder / CARD, policy_card(report))


def policy_card(report: TrainReport) -> str:
    """Return the card as Markdown; its first line says whether the policy is worth using."""
    sections = (_verdict(report), _learned(report), _scores(report), _evidence(report), _use(report))
    return "\n\n".join(filter(None, sections)) + "\n"


def _verdict(report: TrainReport) -> str:
    return f"**{report.verdict}**\n\n# {report.policy}"


def _learned(report: TrainReport) -> str:
    recipe, kind = report.recipe, report.recipe["policy"].get("kind")
    held_out = _listed(recipe["held_out"]) or "none: the training models judged, on text of another seed"
    lines = (
        f"- Kind: `{kind}`, learned with `{recipe['algorithm']}`, seed {recipe['seed']}.",
        f"- Training models: {_listed(recipe['models'])}.",
        f"- Held-out models: {held_out}.",
        f"- {report.steps} learning steps; the policy of step {report.best_step} scored best.",
    )
    return "## What it learned from\n\n" + "\n".join(lines)


def _scores(report: TrainReport) -> str:
    recipe = report.recipe["evaluation"]
    source = f"`{recipe['text']}`" if recipe["text"] else "text the dense model writes itself"
    amount = f"up to {4 * recipe['samples']} windows of {recipe['length']} tokens"
    return (
        "## How it compares\n\n"
        "Excess log-perplexity over the dense model in nats per token, right after the cut and without "
        f"repair, on {source} ({amount}), which had no part in choosing the best step. Lower is better. "
        "One seed; a difference of a hundredth is noise.\n\n" + table(report.columns, report.rows())
    )


def _evidence(report: TrainReport) -> str:
    if not report.evidence:
        return ""
    rows = [(name.replace("_", " "), f"{value:.4g}") for name, value in report.evidence.items()]
    return "## What was measured about the learning\n\n" + table(("what", "value"), rows)


def _use(report: TrainReport) -> str:
    recipe = yaml.safe_dump(report.recipe, sort_keys=False)
    return (
        "## Use and repeat\n\n```sh\nprune-with-policy MODEL --policy path/to/this/folder --keep 0.8 "
        f"--out smaller/\n```\n\nLearned by `prunepolicy train` from this recipe:\n\n```yaml\n{recipe}```"
    )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
