"""Which policies there are: those that ship, those that are built in, and those of the runs here."""

from __future__ import annotations

import inspect
import json
import sys
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from prunepolicy.agents.learned_pruning.policy_card import PolicyCard, parsed_card, read_card
from prunepolicy.agents.learned_pruning.policy_card_text import policy_card
from prunepolicy.agents.training.run_folder import BEST
from prunepolicy.policy.base import POLICY_FILE
from prunepolicy.policy.load import built_in_policies, is_place, load_policy
from prunepolicy.policy.zoo.identifiers import find
from prunepolicy.policy.zoo.pull import read_policy
from prunepolicy.policy.zoo.settings import PACKAGE
from prunepolicy.policy.zoo.zoo_handle import Zoo
from prunepolicy.pruning.adapters import adapter_for
from prunepolicy.pruning.criteria import criteria
from prunepolicy.pruning.errors import PrunePolicyError, UsageError, did_you_mean
from prunepolicy.pruning.io.console import Console, harmless
from prunepolicy.pruning.plan import Budget

READ = {
    "weights": "weight norms",
    "rows": "weight rows",
    "scored": "row scores",
    "activations": "activations",
    "gradients": "gate gradients",
    "drops": "loss without each layer",
    "tokens": "how often each token is used",
}


@dataclass(frozen=True)
class BuiltIn:
    """A policy that plans without having learned anything.

    Attributes:
        reads: the statistics it needs at equal widths.
    """

    name: str
    reads: tuple[str, ...]
    about: str


@dataclass(frozen=True)
class Catalogue:
    """All policies that can be named here.

    Attributes:
        shipped: cards by full name.
        built_in: heuristics and searches.
        runs: cards by folder.
        troubles: a sentence for every run without a readable card.
    """

    shipped: dict[str, PolicyCard]
    built_in: tuple[BuiltIn, ...]
    runs: dict[str, PolicyCard]
    troubles: tuple[str, ...]

    @classmethod
    def of(cls, runs: Path) -> Catalogue:
        """Look at what ships and into the run folders under `runs`.

        Raises:
            PrunePolicyError: when a shipped policy was changed.
        """
        zoo = Zoo.open(PACKAGE)
        cards = {name: _shipped_card(zoo, name) for name in zoo.index.policies}
        found, troubles = {}, []
        for best in sorted(file.parent for file in runs.glob(f"*/{BEST}/{POLICY_FILE}")):
            try:
                found[str(best.parent)] = read_card(best)
            except PrunePolicyError as error:
                troubles.append(f"{best.parent} isn't finished or is damaged. {error}")
        return cls(cards, tuple(map(_built_in, built_in_policies())), found, tuple(troubles))

    def to_json(self) -> str:
        """Return everything as JSON text."""
        data = {
            "shipped": {name: card.model_dump(mode="json") for name, card in self.shipped.items()},
            "built_in": {item.name: {"reads": item.reads, "about": item.about} for item in self.built_in},
            "runs": {name: card.model_dump(mode="json") for name, card in self.runs.items()},
            "troubles": self.troubles,
        }
        return json.dumps(data, indent=1) + "\n"

    def render(self, console: Console) -> None:
        """Print a table for each source; sources without policies get a line."""
        _print_cards(console, "Shipped", self.shipped, "No learned policy ships with this version.")
        grid = Table(title="Built in: not trained", title_justify="left")
        for heading in ("name", "statistics", "what it does"):
            grid.add_column(heading, overflow="fold")
        for item in self.built_in:
            grid.add_row(item.name, ", ".join(item.reads) or "nothing", item.about)
        console.print(grid)
        _print_cards(console, "Runs", self.runs, "No finished run under ./runs has a policy for pruning.")
        for sentence in self.troubles:
            console.print(sentence, soft_wrap=True)
        if self.shipped or self.runs:
            console.print(
                "Scores: excess log-perplexity over the dense model, nats per token, or what the card of a "
                "metanetwork reports; lower is better. "
                "Mean over held-out models and budgets, median over seeds.",
            )


def described(name: str, runs: Path, as_json: bool = False) -> str:
    """Return the card of one policy: as Markdown, as JSON, or a line for one that has no card.

    Args:
        name: a built-in policy, a shipped one, a run under `runs`, or the path of a policy's folder.

    Raises:
        UsageError: when there is none of that name.
    """
    places = (Path(name), Path(name) / BEST) if is_place(name) else ()
    for folder in places:
        if (folder / POLICY_FILE).is_file():
            return _described_card(read_card(folder), str(folder), as_json)
    if name in built_in_policies():
        item = _built_in(name)
        line = f"{item.name}: {item.about} Reads {', '.join(item.reads) or 'nothing'}."
        return json.dumps(vars(item), indent=1) if as_json else line
    zoo = Zoo.open(PACKAGE)
    if full_name := find(name, zoo.index.policies):
        return _described_card(_shipped_card(zoo, full_name), full_name, as_json)
    if (runs / name / BEST / POLICY_FILE).is_file():
        return _described_card(read_card(runs / name / BEST), str(runs / name / BEST), as_json)
    known = [*zoo.index.policies, *built_in_policies()]
    raise UsageError(f"There is no policy {name!r}.{did_you_mean(name, known)}")


def _shipped_card(zoo: Zoo, name: str) -> PolicyCard:
    return parsed_card(read_policy(zoo, name).files["card.json"], f"The card of {name}")


def _described_card(card: PolicyCard, source: str, as_json: bool) -> str:
    return card.model_dump_json(indent=1) if as_json else harmless(policy_card(card, source))


def _built_in(name: str) -> BuiltIn:
    adapter = adapter_for({"model_type": "llama"})
    graph = adapter.units(adapter.tiny(), adapter.shapes(adapter.tiny()))
    policy = load_policy(name)
    # Some criteria score kinds of unit that this network has not.
    needs = sorted(criteria[name].needs if name in criteria else policy.needs(graph, Budget(0.8)))
    module = criteria[name].score.__module__ if name in criteria else type(policy).__module__
    about = inspect.getdoc(sys.modules[module]) or ""
    if name not in criteria and policy.kind == "heuristic":
        about = "The best heuristic on held-out text, followed by a repair."
    return BuiltIn(name, tuple(READ[need] for need in needs), about.splitlines()[0])


def _print_cards(console: Console, title: str, cards: dict[str, PolicyCard], none: str) -> None:
    if not cards:
        console.print(none)
        return
    grid = Table(title=title, title_justify="left")
    for heading in ("name", "kind", "trained on", "seeds", "score", "best heuristic", "verdict"):
        grid.add_column(heading, justify="right" if heading in ("seeds", "score") else "left")
    for name, card in cards.items():
        rival = card.best_heuristic
        against = f"{rival} {card.heuristics[rival].mean}" if rival else "none"
        cells = (card.kind, ", ".join(card.models), len(card.seeds), card.learned.mean, against, card.word)
        grid.add_row(*(str(cell) for cell in (name, *cells)))
    console.print(grid)
