"""A network prepared for choices that follow a text: what kinds of text make its channels carry."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from prunepolicy.pruning.adapters import adapter_for
from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.statistics.text_energy import TINY, TextEnergy
from prunepolicy.pruning.units import Keep, UnitGraph, UnitGroup

GROUP_FEATURES = (
    "depth",
    "shown: share in the lower half",
    "shown: share in the lower quarter",
    "generic: share in the lower half",
    "generic: share in the lower quarter",
    "shown: share in the generic lower half",
    "mean log ratio to generic",
    "spread of the log ratio",
)
LARGEST = 8.0
"""Largest absolute feature."""
GENERIC_TOKENS = 256.0
"""Tokens that the generic statistic counts for where nothing else is decided."""


@dataclass(frozen=True)
class TextDomain:
    """One kind of text.

    Attributes:
        name: of the kind.
        shown: statistics of its first tokens, ascending numbers of them.
        rest: statistic of other tokens of the same kind.
    """

    name: str
    shown: tuple[TextEnergy, ...]
    rest: TextEnergy


@dataclass(frozen=True)
class TextCase:
    """One network and the kinds of text that it may have to serve.

    Attributes:
        name: of the network.
        graph: its units.
        generic: statistic of text of all kinds.
        norms: FFN group name to the norms of the down projection's columns.
        domains: kinds of text.
        measure: from the index of a domain and a keep choice to the divergence from the dense network's
            predictions, in nats per token, on tokens that were never shown; None takes the share of the
            squared outputs that goes, which costs microseconds.
    """

    name: str
    graph: UnitGraph
    generic: TextEnergy
    norms: Mapping[str, Tensor]
    domains: Sequence[TextDomain]
    measure: Callable[[int, Keep], float] | None = None

    def __post_init__(self) -> None:
        if not self.groups:
            raise UsageError(f"{self.name} has no feed-forward blocks whose channels could follow a text.")
        if not self.domains:
            raise UsageError(f"{self.name} knows no kinds of text.")

    @cached_property
    def groups(self) -> tuple[UnitGroup, ...]:
        """The feed-forward blocks."""
        return self.graph.of_kind("ffn")

    def written(self, energy: TextEnergy) -> dict[str, Tensor]:
        """Return the mean square of what every channel adds to its layer's output."""
        return {g.name: energy.energy[g.name] * self.norms[g.name].square() for g in self.groups}

    def features(self, few: TextEnergy) -> Tensor:
        """Return what is seen of a text beside the generic one, shape (groups, len(GROUP_FEATURES))."""
        shown, generic = self.written(few), self.written(self.generic)
        last = max(1, len(self.groups) - 1)
        rows = [
            [place / last, *_compared(shown[group.name], generic[group.name])]
            for place, group in enumerate(self.groups)
        ]
        return torch.tensor(rows).clamp(-LARGEST, LARGEST)

    def divergence(self, domain: int, keep: Keep) -> float:
        """Return what the keep choice costs on tokens of the domain that weren't shown."""
        if self.measure is not None:
            return self.measure(domain, keep)
        written = self.written(self.domains[domain].rest)
        stays = [
            float(written[name][list(units)].sum() / written[name].sum()) for name, units in keep.items()
        ]
        return max(0.0, 1 - sum(stays) / len(stays))

    def choice(self, few: TextEnergy, shares: Sequence[float], trusts: Sequence[float]) -> Keep:
        """Return the channels that stay: those that write most by blended statistics.

        Args:
            shares: of every group that stays, from 0 to 1.
            trusts: factor on the tokens that the shown statistic counts for, one per group.
        """
        keep = {}
        for group, share, trust in zip(self.groups, shares, trusts, strict=True):
            own, generic = few.energy[group.name], self.generic.energy[group.name]
            blended = few.tokens * trust * own + GENERIC_TOKENS * generic
            scores = blended.sqrt() * self.norms[group.name]
            count = max(group.floor, round(share * group.size) // group.multiple_of * group.multiple_of)
            kept = scores.argsort(descending=True, stable=True)[:count]
            keep[group.name] = tuple(sorted(kept.tolist()))
        return keep


def _compared(shown: Tensor, generic: Tensor) -> list[float]:
    """Return the features of one group that need its units."""
    ascending = generic.argsort(stable=True)
    ratio = (shown.clamp(min=TINY) / generic.clamp(min=TINY)).log()
    return [
        *_lower(shown.sort().values),
        *_lower(generic[ascending]),
        _lower(shown[ascending])[0],
        float(ratio.mean()),
        float(ratio.std(correction=0)),
    ]


def _lower(ordered: Tensor) -> tuple[float, float]:
    """Return the shares of the whole that the first half and the first quarter hold."""
    whole, size = float(ordered.sum().clamp(min=TINY)), len(ordered)
    return float(ordered[: size // 2].sum()) / whole, float(ordered[: size // 4].sum()) / whole


def invented_text_case(
    seed: int = 0, widths: int = 32, layers: int = 3, domains: int = 4, longest: int = 4096
) -> TextCase:
    """Return a small network and kinds of text with random statistics, to try an environment on."""
    if min(widths, layers, domains, longest) < 1:
        raise UsageError(
            f"There are channels, layers, kinds and tokens; got {widths}, {layers}, {domains}, {longest}."
        )
    adapter = adapter_for({"model_type": "llama"})
    config = {**adapter.tiny(), "intermediate_size": widths, "num_hidden_layers": layers}
    graph = adapter.units(config, adapter.shapes(config))
    generator = torch.Generator().manual_seed(seed)
    groups = graph.of_kind("ffn")
    usual = {group.name: torch.randn(group.size, generator=generator) for group in groups}
    norms = {group.name: torch.rand(group.size, generator=generator) + 0.5 for group in groups}
    found = [_invented_domain(f"kind {n}", usual, longest, generator) for n in range(domains)]
    generic = TextEnergy(8192, {name: logs.exp() for name, logs in usual.items()})
    return TextCase(f"invented-{seed}", graph, generic, norms, found)


def _invented_domain(
    name: str, usual: Mapping[str, Tensor], longest: int, generator: torch.Generator
) -> TextDomain:
    own = {group: logs + torch.randn(len(logs), generator=generator) for group, logs in usual.items()}

    def seen(tokens: int) -> TextEnergy:
        noise = (64 / tokens) ** 0.5
        drawn = {g: logs + noise * torch.randn(len(logs), generator=generator) for g, logs in own.items()}
        return TextEnergy(tokens, {group: logs.exp() for group, logs in drawn.items()})

    return TextDomain(name, tuple(seen(tokens) for tokens in lengths(longest)), seen(8192))


def lengths(longest: int, shortest: int = 32) -> list[int]:
    """Return how many tokens are shown: doublings of `shortest` up to `longest`, which may be less."""
    found = [min(shortest, longest)]
    while found[-1] * 2 <= longest:
        found.append(found[-1] * 2)
    return found
