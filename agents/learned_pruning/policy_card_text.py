"""The README.md of a learned policy: what it learned from, how it compares, where it fails."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from prunepolicy.agents.learned_pruning.policy_card import CardScores, PolicyCard, write_card_data
from prunepolicy.agents.runtime.markdown import table
from prunepolicy.agents.training.recipe import SMOKE_SENTENCE
from prunepolicy.agents.training.recipe_file import current_recipe
from prunepolicy.policy.hub_card import CARD
from prunepolicy.pruning.io.atomic import write_text

HERE = "path/to/this/folder"
ROUTER = "router"
TEXT = "text"
"""The kind that stands before a server and prunes nothing."""


def write_policy_card(card: PolicyCard, folder: Path, source: str = HERE, head: str = "") -> None:
    """Write the card into a policy's folder, as data and as text.

    Args:
        source: what `--policy` takes to find the policy.
        head: what stands before the text, for the hub.
    """
    write_card_data(card, folder)
    write_text(folder / CARD, head + policy_card(card, source))


def policy_card(card: PolicyCard, source: str = HERE) -> str:
    """Return the card as Markdown; its first line says whether the policy is worth using."""
    sections = (
        f"**{SMOKE_SENTENCE}**" if card.recipe.get("smoke") else "",
        f"**{card.verdict}**",
        f"```sh\n{command_of(card, source)}\n```" if card.word == "loses" and card.kind != ROUTER else "",
        f"# {card.name}",
        _origin(card),
        _scores(card),
        _failures(card),
        _evidence(card),
        _use(card, source),
    )
    return "\n\n".join(filter(None, sections)) + "\n"


def _origin(card: PolicyCard) -> str:
    held_out = _listed(card.held_out) or "none: evaluated on the training models, with text of another seed"
    lines = [
        f"- Kind: `{card.kind}`, learned with `{card.recipe['algorithm']}`, {_seeds(card)}.",
        f"- Training models: {_listed(card.models)}.",
        f"- Held-out models: {held_out}.",
    ]
    if card.steps:
        lines.append(
            f"- {card.steps} training steps; the policy of step {card.best_step} had the best validation "
            "score."
        )
    if card.cpu_seconds is not None:
        lines.append(
            f"- CPU time of training and evaluation, all seeds: {card.cpu_seconds / 60:,.1f} minutes."
        )
    return "## What it learned from\n\n" + "\n".join(lines)


def _seeds(card: PolicyCard) -> str:
    if len(card.seeds) == 1:
        return f"seed {card.chosen_seed}"
    return (
        f"seeds {', '.join(map(str, card.seeds))}; this is the policy of seed {card.chosen_seed}, chosen by "
        "the score that also chose its best step, not by the scores below"
    )


def _scores(card: PolicyCard) -> str:
    several = f"Medians over {len(card.seeds)} seeds, with the range where it varies."
    seeds = several if len(card.seeds) > 1 else "One seed; a difference of a hundredth is noise."
    parts = [
        "## How it compares",
        f"{card.measure or _perplexity(card)} Lower is better. {seeds}",
        table(*_comparison(card)),
        agreement(card),
        _witness(card),
    ]
    return "\n\n".join(filter(None, parts))


def _perplexity(card: PolicyCard) -> str:
    how = card.recipe["evaluation"]
    source = f"`{how['text']}`" if how["text"] else "text sampled from the dense model"
    amount = f"up to {4 * how['samples']} windows of {how['length']} tokens"
    return (
        "Excess log-perplexity over the dense model in nats per token, right after the cut and without "
        f"repair, on {source} ({amount}), which had no part in choosing the best step."
    )


def _comparison(card: PolicyCard) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return headings, the best policy first, and one row per model and budget, means last."""
    by_name = {card.name: card.learned, **card.heuristics}
    ranked = dict(sorted(by_name.items(), key=lambda item: item[1].mean.median))
    if len(card.seeds) > 1:
        ranked[f"{card.name}, seed {card.chosen_seed} (this one)"] = CardScores.of([card.chosen])
    places = [(place, *(str(s.cells[place]) for s in ranked.values())) for place in card.learned.cells]
    return ("model, budget", *ranked), [*places, ("mean", *(str(s.mean) for s in ranked.values()))]


def agreement(card: PolicyCard) -> str:
    """Say whether all seeds put the policy on the same side of every heuristic; nothing for one seed."""
    count = len(card.seeds)
    if count == 1 or not card.leads:
        return ""
    split = {name: leads for name, leads in card.leads.items() if 0 < leads < count}
    if not split:
        return f"All {count} seeds agree on which heuristics are better than this policy and which are worse."
    listing = ", ".join(f"{name} (better than it in {leads} of {count})" for name, leads in split.items())
    return f"The seeds disagree on how this policy compares with {listing}."


def _witness(card: PolicyCard) -> str:
    if card.witness is None:
        return ""
    return (
        f"To be measured again anywhere (`prunepolicy zoo verify NAME --rescore`): {card.witness.where}, "
        f"{card.witness.score:.4f} nats per token."
    )


def _failures(card: PolicyCard) -> str:
    if not card.heuristics:
        return ""
    lines = [
        f"- {case.where}: {case.score:.4f}, while {case.heuristic} reaches {case.heuristic_score:.4f}."
        for case in card.failures
    ]
    nowhere = "At no model and budget above was a heuristic better. Nothing else was tried."
    return "## Where it fails\n\n" + ("\n".join(lines) or nowhere)


def _evidence(card: PolicyCard) -> str:
    if not card.evidence:
        return ""
    rows = [(name.replace("_", " "), f"{value:.4g}") for name, value in card.evidence.items()]
    return "## What was measured about the learning\n\n" + table(("what", "value"), rows)


def options_for(recipe: Mapping[str, Any]) -> str:
    """Return the options with which a policy of a recipe prunes what the recipe is about."""
    kind, budgets = recipe["policy"].get("kind"), recipe.get("budgets") or {}
    if kind == TEXT:
        return f"--for examples.txt {_budget_options({**budgets, 'of': 'ffn'})}"
    if kind != "metanet":  # Earlier versions wrote one kind of budget without a list.
        return _budget_options(budgets if isinstance(budgets, Mapping) else budgets[0])
    pipeline = current_recipe(recipe, "the card's recipe")["pipeline"]
    options = f"--keep 0.5 --of {pipeline['cut']['of']}"
    if "source" not in recipe["data"]:
        return options
    shrink, before = pipeline["settle"]["group_sparsity"], pipeline["adapt"]["epochs"]
    if shrink or pipeline["initial_speedup"] > 1:
        before += pipeline["settle"]["epochs"]
    shrinking = f" --shrink {shrink:g}" if shrink else ""
    return f"{options} --data IMAGES --epochs {before},{pipeline['recover']['epochs']}{shrinking}"


def _budget_options(budget: Mapping[str, Any]) -> str:
    """Return the options that ask for the first budget of a recipe, at a middling size."""
    keeps, of, units = budget.get("keep", (0.8,)), budget.get("of", "params"), budget.get("units", ())
    options = f"--keep {0.8 if 0.8 in keeps else max(keeps):g}"
    options += "" if of == "params" else f" --of {of}"
    options += f" --units {','.join(units)}" if units else ""
    return options if budget.get("uniform", True) else f"{options} --per-layer"


def command_of(card: PolicyCard, source: str, model: str = "MODEL") -> str:
    """Return the command that prunes with a policy, or with the heuristic that it loses to.

    Args:
        source: what `--policy` takes to find the policy.
    """
    chosen = card.best_heuristic if card.word == "loses" else source
    return _pruning(model, str(chosen), card.recipe)


def _pruning(model: str, policy: str, recipe: Mapping[str, Any]) -> str:
    if recipe["policy"].get("kind") == ROUTER:
        return f"prunepolicy think serve {shlex.quote(policy)} --upstream http://HOST:PORT/v1"
    names = f"{shlex.quote(model)} --policy {shlex.quote(policy)}"
    return f"prune-with-policy {names} {options_for(recipe)} --out smaller/"


def _use(card: PolicyCard, source: str) -> str:
    recipe = yaml.safe_dump(card.recipe, sort_keys=False)
    program = "think fit" if card.kind == ROUTER else "train"
    return (
        f"## Use and repeat\n\n```sh\n{_pruning('MODEL', source, card.recipe)}\n```\n\n"
        f"Learned by `prunepolicy {program}` from this recipe:\n\n```yaml\n{recipe}```"
    )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
