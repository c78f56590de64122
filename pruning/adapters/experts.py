"""Mixtures of experts: stored as separate tensors per expert, run as stacked ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from prunepolicy.pruning.adapters.base import Config, Shapes, require
from prunepolicy.pruning.adapters.blocks import Attention, Ffn, Layer, attention_groups, ffn_group, ffn_slices
from prunepolicy.pruning.adapters.transformer import TransformerAdapter
from prunepolicy.pruning.units import Gate, Slice, UnitGraph, UnitGroup

GROUPED_WIDTH = 8
"""Grouped matrix products, with which stacked experts run, want rows of whole 16 bytes."""


@dataclass(frozen=True)
class Experts:
    """Names of a block of experts, relative to its layer.

    Attributes:
        router: the projection that scores the experts.
        prefix: what precedes an expert's number.
        ffn: one expert's projections, relative to the expert.
        count_keys: configuration keys of the number of experts; which of them a checkpoint has
            depends on the version that saved it.
        running: the block in the running model, which has `gate` and `experts`.
        shared: an expert that every token passes.
    """

    router: str
    prefix: str
    ffn: Ffn
    count_keys: tuple[str, ...]
    running: str = "mlp."
    shared: Ffn | None = None


class MixtureAdapter(TransformerAdapter):
    """A stack of layers in which a router sends every token to a few feed-forward experts.

    Attributes:
        experts: their names.
        ffn: the feed-forward block of layers without experts, where the family has such layers.
    """

    attention = Attention()
    experts: Experts

    def units(self, config: Config, shapes: Shapes) -> UnitGraph:
        """Build the unit graph; every token pays for the experts it is sent to."""
        graph = super().units(config, shapes)
        chosen = require(config, "num_experts_per_tok")
        routers = {group.prefix: group.name for group in graph.of_kind("expert")}
        specs = dict(graph.tensors)
        for name, spec in graph.tensors.items():
            before, marker, _ = name.partition(self.experts.prefix)
            if router := routers.get(before + marker):
                specs[name] = replace(spec, flops=spec.flops * chosen, average_over=router)
        return replace(graph, tensors=specs)

    def layer_stages(self, layer: Layer) -> Iterator[list[UnitGroup]]:
        """Yield heads, then the router, then the channels of all experts."""
        for group in attention_groups(self.attention, layer):
            yield [group]
        if f"{layer.prefix}{self.experts.router}.weight" in layer.shapes:
            router = self.router_group(layer)
            yield [router]
            channels = [self.channels_group(layer, router, expert) for expert in range(router.size)]
            shared = self.experts.shared
            if shared is not None and f"{layer.prefix}{shared.columns}.weight" in layer.shapes:
                channels.append(ffn_group(shared, layer, "shared_expert"))
            yield channels
        elif self.ffn is not None:
            yield [ffn_group(self.ffn, layer)]

    def router_group(self, layer: Layer) -> UnitGroup:
        """Return the group of the experts of one layer, which own their tensors and a router row."""
        keys = self.experts.count_keys
        count_key = next((key for key in keys if key in layer.config), keys[0])
        return UnitGroup(
            f"{layer.name}.experts",
            "expert",
            require(layer.config, count_key),
            count_key,
            (Slice(f"{layer.prefix}{self.experts.router}.weight", 0),),
            prefix=layer.prefix + self.experts.prefix,
            gate=Gate(
                f"{layer.running}{self.experts.running}gate",
                "router",
                also=(f"{layer.running}{self.experts.running}experts",),
            ),
            layer=layer.index,
            floor=require(layer.config, "num_experts_per_tok"),
        )

    def channels_group(self, layer: Layer, router: UnitGroup, expert: int) -> UnitGroup:
        """Return the group of one expert's channels."""
        slices = tuple(ffn_slices(self.experts.ffn, f"{router.prefix}{expert}.", layer.shapes))
        columns = slices[-1]
        return UnitGroup(
            f"{router.name}.{expert}.ffn",
            "ffn",
            layer.shapes[columns.tensor][columns.axis],
            self.experts.ffn.size_key,
            slices,
            gate=Gate(f"{layer.running}{self.experts.running}experts", "fused_experts", expert),
            layer=layer.index,
            within=(router.name, expert),
            multiple_of=GROUPED_WIDTH,
        )
