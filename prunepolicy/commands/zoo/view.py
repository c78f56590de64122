"""What the zoo commands found, for people and for programs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from prunepolicy.agents.learned_pruning.policy_card import PolicyCard
from prunepolicy.agents.learned_pruning.policy_card_text import policy_card
from prunepolicy.commands.zoo.rescore import Rescore
from prunepolicy.policy.zoo.pull import is_here
from prunepolicy.policy.zoo.push import Parcel
from prunepolicy.policy.zoo.settings import pinned
from prunepolicy.policy.zoo.verify import Finding
from prunepolicy.policy.zoo.zoo_handle import Zoo
from prunepolicy.pruning.io.console import Console


def as_json(data: Any) -> str:
    """Return data as JSON text."""
    return json.dumps(data, indent=1) + "\n"


@dataclass(frozen=True)
class Listed:
    """The policies of a zoo.

    Attributes:
        here: full names of those that can be used without network.
    """

    zoo: Zoo
    here: tuple[str, ...]

    @classmethod
    def of(cls, zoo: Zoo) -> Listed:
        """Look which policies of a zoo are here."""
        return cls(zoo, tuple(name for name in zoo.index.policies if is_here(zoo, name)))

    def to_json(self) -> str:
        """Return the list as JSON text."""
        entries = {
            name: {**entry.model_dump(mode="json"), "size": entry.size, "here": name in self.here}
            for name, entry in self.zoo.index.policies.items()
        }
        serial = self.zoo.index.serial
        return as_json({"source": self.zoo.source.spelling, "serial": serial, "policies": entries})

    def render(self, console: Console) -> None:
        """Print one row per policy."""
        spelling, policies = self.zoo.source.spelling, self.zoo.index.policies
        if not policies:
            console.print(f"The zoo at {spelling} is empty.")
            return
        grid = Table(title=f"The zoo at {spelling}", title_justify="left")
        for heading in ("name", "kind", "version", "bytes", "licence", "origin", "installed"):
            grid.add_column(heading, justify="right" if heading == "bytes" else "left", overflow="fold")
        for name, entry in policies.items():
            here = "yes" if name in self.here else "no"
            cells = (name, entry.kind, entry.version, f"{entry.size:,}", entry.licence, entry.source, here)
            grid.add_row(*cells)
        console.print(grid)


@dataclass(frozen=True)
class Shown:
    """What is known about one policy."""

    zoo: Zoo
    name: str
    card: PolicyCard

    def to_json(self) -> str:
        """Return listing and card as JSON text."""
        entry = self.zoo.index.policies[self.name].model_dump(mode="json")
        return as_json({"name": self.name, "listing": entry, "card": self.card.model_dump(mode="json")})

    def render(self, console: Console) -> None:
        """Print the listing in lines, and the card."""
        entry, place = self.zoo.index.policies[self.name], self.zoo.source.spelling
        console.print(
            f"{self.name} {entry.version} from {place}: {entry.kind}, {entry.size:,} bytes, "
            f"{entry.licence}; {entry.source}.\n",
            soft_wrap=True,
        )
        prefix = "" if self.zoo.source.in_place else "zoo:"
        text = policy_card(self.card, f"{prefix}{self.name}").rstrip()
        console.print(text, soft_wrap=True)


@dataclass(frozen=True)
class VerifiedPolicy:
    """What checking policies found.

    Attributes:
        rescore: the measurement of a card's number, None where it wasn't asked for.
    """

    source: str
    findings: tuple[Finding, ...]
    rescore: Rescore | None = None

    @property
    def good(self) -> bool:
        """Whether nothing is wrong."""
        confirmed = self.rescore is None or self.rescore.agrees
        return confirmed and all(finding.state != "bad" for finding in self.findings)

    def to_json(self) -> str:
        """Return the findings as JSON text."""
        found = {f.name: {"state": f.state, "sentence": f.sentence} for f in self.findings}
        measured = None
        if self.rescore is not None:
            fields = vars(self.rescore)
            measured = {**fields, "tolerance": self.rescore.tolerance, "agrees": self.rescore.agrees}
        return as_json({"source": self.source, "good": self.good, "policies": found, "rescore": measured})

    def render(self, console: Console) -> None:
        """Print a line per policy, and one for the measurement."""
        for finding in self.findings:
            line = f"{finding.name}: {finding.state}. {finding.sentence}"
            console.print(line, soft_wrap=True)
        if self.rescore is not None:
            console.print(self.rescore.sentence, soft_wrap=True)
        if not self.findings:
            console.print(f"The zoo at {self.source} is empty.")


@dataclass(frozen=True)
class Pushed:
    """What was sent, or would be.

    Attributes:
        place: where it is now; None for a dry run.
        keys: public halves of those that signed it.
    """

    parcel: Parcel
    destination: str
    place: str | None
    keys: tuple[str, ...] = ()

    def to_json(self) -> str:
        """Return everything as JSON text."""
        entry = self.parcel.entry.model_dump(mode="json")
        sent = {"name": self.parcel.name, "to": self.destination, "place": self.place, "entry": entry}
        return as_json({**sent, "sent": self.place is not None, "public_keys": self.keys})

    def render(self, console: Console) -> None:
        """Print the files and what became of them."""
        entry, name = self.parcel.entry, self.parcel.name
        verb = "Would send" if self.place is None else "Sent"
        lines = [f"{verb} {name} {entry.version} ({entry.licence}; {entry.source}) to {self.destination}:"]
        lines += [f"  {name}/{file}  {r.size:,} bytes  {r.sha256}" for file, r in entry.files.items()]
        lines.append("  index.signed, with the policy added and signed again")
        if self.place is not None:
            lines.append(f"Use it with PRUNEPOLICY_ZOO={self.place} and --policy zoo:{name}.")
        strangers = [key for key in self.keys if key not in pinned()]
        if strangers:
            lines.append(f"Its readers must trust you: PRUNEPOLICY_ZOO_KEYS={','.join(strangers)}")
        console.print("\n".join(lines), soft_wrap=True)
