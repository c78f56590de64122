"""The adapter of a family that no file describes; what it offers was derived and tried."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from itertools import groupby, pairwise
from typing import Any, Self

from torch import Tensor

from prunepolicy.pruning.adapters.base import Config, Shapes, Vocabulary
from prunepolicy.pruning.adapters.derived.described import Described
from prunepolicy.pruning.adapters.derived.groups import groups_of
from prunepolicy.pruning.adapters.derived.heads import QUERY_HEADS, Heads, hidden_size
from prunepolicy.pruning.adapters.derived.layers import fewer_layers
from prunepolicy.pruning.adapters.derived.network import Network, completed, loader_of, network, task_of
from prunepolicy.pruning.adapters.derived.offer import Findings, Offer
from prunepolicy.pruning.adapters.derived.paths import joined, number, restated
from prunepolicy.pruning.adapters.derived.prices import Prices
from prunepolicy.pruning.adapters.derived.settings_by_name import HEADS, KV_HEADS
from prunepolicy.pruning.adapters.transformer import TransformerAdapter
from prunepolicy.pruning.errors import BadCheckpointError
from prunepolicy.pruning.plan import Plan
from prunepolicy.pruning.units import UnitGraph, UnitGroup

STAGES = ("kv_head", "query_head", "expert", "ffn", "layer", "vocabulary")
"""Kinds of unit in the order in which a layer's signals pass them."""

WHOLE = ("layer", "vocabulary")
"""Kinds that signals don't pass one behind the other."""


class DerivedAdapter(TransformerAdapter):
    """Offers the units of which a configuration states the numbers.

    Args:
        config: of the checkpoint.
        findings: what of it passed the trial.
    """

    def __init__(self, config: Config, findings: Findings) -> None:
        self.model_types = (str(config.get("model_type")),)
        self.findings = findings
        self.auto_class = loader_of(config)
        self.network = network(completed(config), self.auto_class)
        self.task = task_of(self.network, self.auto_class)

    def for_config(self, config: Config) -> Self:
        """Return this adapter, which was made for one configuration."""
        return self

    @property
    def family(self) -> str:
        """What reports call the family."""
        return "derived"

    def units(self, config: Config, shapes: Shapes) -> UnitGraph:
        """Build the unit graph of what passed the trial.

        Raises:
            BadCheckpointError: when the configuration implies other tensors than `shapes`.
        """
        described = Described(completed(config), self.auto_class)
        found = [group for offer in self.findings.offers for group in groups_of(offer, described)]
        if self.task == "causal" and not any(group.kind == "kv_head" for group in found):
            found = [with_cache(group, described) if group.kind == "layer" else group for group in found]
        groups = in_order(within_experts(distinct(found)))
        check_shapes(groups, described.network, shapes)
        prices = Prices(described, groups)
        specs = {name: prices.spec(name, shape) for name, shape in shapes.items()}
        divides = any(offer.divides for offer in self.findings.offers)
        hidden = hidden_size(described.config, joined(described.part, "")) if divides else 0
        return UnitGraph(self.family, specs, groups, edges_between(groups), hidden)

    def edit_config(self, config: Config, graph: UnitGraph, plan: Plan) -> Config:
        """Return a copy of `config` that states the numbers that stay, each at its path."""
        whole = completed(config)
        changes: dict[str, Any] = {}
        for offer in self.findings.offers:
            changes |= _changes(offer, whole, graph, plan, self.auto_class)
        return _without_aliases(restated(config, changes), changes, self.network.settings)

    def ties(self, config: Config) -> bool:
        """Return whether token embedding and head are one matrix."""
        return bool(getattr(self.network.model, "all_tied_weights_keys", None))

    def vocabulary(self, shapes: Shapes) -> Vocabulary:
        """Return which tensors have a row per token."""
        built = self.network
        tied = getattr(built.model, "all_tied_weights_keys", None) or {}
        # Some checkpoints store a tied head, too.
        again = (name for name, other in tied.items() if other == built.running.get(built.embedding or ""))
        tables = (built.embedding, built.head or next(again, None))
        embedding, head = (name if name in shapes else None for name in tables)
        return Vocabulary(embedding, head, self.task == "causal")

    def tokens(self, config: Config) -> int:
        """Return how many tokens the network that reads text knows."""
        return int(self.network.settings.get_text_config().vocab_size)

    def reads(self, tokens: Tensor) -> dict[str, Tensor]:
        """Return the inputs with which the model reads tokens; a decoder reads what its encoder does."""
        encodes = self.network.settings.is_encoder_decoder
        return {"input_ids": tokens} | ({"decoder_input_ids": tokens} if encodes else {})

    def shapes(self, config: Config) -> dict[str, tuple[int, ...]]:
        """Return the checkpoint's tensor names and shapes, built without weights."""
        return dict(network(completed(config), self.auto_class).stored)

    def stored_names(self, config: Config) -> dict[str, str]:
        """Return the checkpoint's names of the running model's tensors; those it stacks have none."""
        found = network(completed(config), self.auto_class)
        return {running: stored for stored, running in found.running.items()}

    def tiny(self) -> Config:
        """Refuse: a derived adapter knows one configuration, which need not be tiny."""
        raise NotImplementedError(f"{self.model_types[0]} is derived from its configuration")


def with_cache(layers: UnitGroup, found: Described) -> UnitGroup:
    """Return the group of layers with what one keeps in the KV-cache, where its heads can't go."""
    heads, kv_heads, size = (
        next((n for key in keys if (n := number(found.config, joined(found.part, key)))), 0)
        for keys in (HEADS, KV_HEADS, ("head_dim",))
    )
    size = size or hidden_size(found.config, joined(found.part, "")) // max(heads, 1)
    return replace(layers, cache=2 * (kv_heads or heads) * size)


def within_experts(groups: list[UnitGroup]) -> list[UnitGroup]:
    """Return groups, those of which the channels of one expert go with it, where experts can go."""
    layers = {group.layer: group.name for group in groups if group.kind == "expert"}
    return [
        replace(group, within=(layers[group.layer], group.gate.expert))
        if group.gate is not None and group.gate.expert is not None and group.layer in layers
        else group
        for group in groups
    ]


def in_order(groups: list[UnitGroup]) -> tuple[UnitGroup, ...]:
    """Return groups in the order in which signals pass them, layers and tokens themselves last."""
    last = math.inf
    return tuple(
        sorted(
            groups,
            key=lambda group: (
                last if group.kind in WHOLE else -1 if group.layer is None else group.layer,
                STAGES.index(group.kind),
            ),
        )
    )


def edges_between(groups: tuple[UnitGroup, ...]) -> tuple[tuple[int, int], ...]:
    """Return pairs of writers and readers: groups of a stage work side by side on the same input."""
    inner = [(position, group) for position, group in enumerate(groups) if group.kind not in WHOLE]
    stages = groupby(inner, lambda item: (item[1].layer, item[1].kind))
    numbers = [[position for position, _ in stage] for _, stage in stages]
    return tuple((i, j) for before, after in pairwise(numbers) for i in before for j in after)


def distinct(groups: list[UnitGroup]) -> list[UnitGroup]:
    """Return groups whose names differ: those that share one get that of the module they are gated at."""
    seen = Counter(group.name for group in groups)
    return [
        replace(group, name=f"{group.name}.{group.gate.module.rpartition('.')[0].rpartition('.')[2]}")
        if seen[group.name] > 1 and group.gate is not None
        else group
        for group in groups
    ]


def check_shapes(groups: tuple[UnitGroup, ...], built: Network, shapes: Shapes) -> None:
    """Raise `BadCheckpointError` where stored tensors aren't those that the configuration implies."""
    for group in groups:
        for part in group.slices:
            implied, found = built.stored[part.tensor], shapes.get(part.tensor)
            if found != implied:
                raise BadCheckpointError(
                    f"config.json implies {part.tensor!r} of shape {list(implied)}, "
                    + (f"but it is stored as {list(found)}." if found else "which the checkpoint lacks.")
                )


def _changes(offer: Offer, config: Config, graph: UnitGraph, plan: Plan, auto_class: str) -> dict[str, Any]:
    """Return what an offer's numbers are after a plan, by path; nothing where they stay."""
    if offer.kind == "layer":
        return fewer_layers(offer.tie, config, graph, plan, auto_class) if plan.dropped_layers(graph) else {}
    count = _left(graph, plan, offer.tie)
    if offer.kind in ("ffn", "expert", "vocabulary"):
        return {} if count is None else {offer.tie: count}
    heads = Heads(offer, config)
    of_each = _left(graph, plan, joined(offer.tie.rpartition(".")[0], QUERY_HEADS))
    return (
        {} if count is None and of_each is None else heads.stated(count or heads.kv, of_each or heads.per_kv)
    )


def _without_aliases(config: Config, changes: Iterable[str], settings: Any) -> Config:
    """Drop from `config`, in place, other names of what changed: the library would believe either."""
    for path in changes:
        part, _, key = path.rpartition(".")
        aliases = (getattr(settings, part) if part else settings).attribute_map
        for name in (name for name, meant in aliases.items() if meant == key):
            (config[part] if part else config).pop(name, None)
    return config


def _left(graph: UnitGraph, plan: Plan, tie: str) -> int | None:
    """Return how many units of a tie stay; None where all of them do."""
    groups = graph.ties.get(tie, ())
    counts = {len(plan.kept(group)) for group in plan.staying(graph, groups)}
    return max(counts) if counts and counts != {groups[0].size} else None
