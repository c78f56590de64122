"""Two ways through a metanetwork's layers with the same numbers: whole blocks, and messages edge by edge."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm
from torch.utils.checkpoint import checkpoint

from prunepolicy.metanet.weight_graph.bundles import Bundle

LEAST_VARIANCE = 1e-5
"""Below it, a deviation counts as zero and has no gradient, as torch-geometric has it."""

Bundles = Sequence[Bundle]
Encode = Callable[[Bundle], Tensor]
"""From a bundle to the first states of its edges, shape (groups, rows, columns, hidden)."""
Decode = Callable[[Bundle, Tensor], Tensor]
"""From a bundle and the last states of its edges to what is asked of them."""


class Path(Protocol):
    """How states go through the layers."""

    def __call__(
        self, layers: nn.ModuleList, nodes: Tensor, bundles: Bundles, encode: Encode, decode: Decode
    ) -> tuple[Tensor, list[Tensor]]:
        """Return the last states of nodes, and what `decode` makes of each bundle with weights."""


class EndpointProjections(NamedTuple):
    """What nodes contribute to messages and edges in one round, each of shape (nodes, hidden)."""

    say: Tensor
    hear: Tensor
    start: Tensor
    end: Tensor


class MessageStats(NamedTuple):
    """What a bundle tells nodes: sum, sum of squares, largest and smallest of `number` products.

    Attributes:
        nodes: who hears it, shape (told,); the others have shape (told, hidden).
    """

    nodes: Tensor
    number: int
    total: Tensor
    squares: Tensor
    largest: Tensor
    smallest: Tensor


def by_blocks(
    layers: nn.ModuleList, nodes: Tensor, bundles: Bundles, encode: Encode, decode: Decode
) -> tuple[Tensor, list[Tensor]]:
    """Keep the states of all edges; every layer is computed again on the way back."""
    states = [_again(encode, bundle) for bundle in bundles]

    def one_round(layer: nn.Module, nodes: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        ends = _ends(layer, nodes)
        heard = [_heard(*pair, ends.say) for pair in zip(bundles, states, strict=True)]
        changed = [_changed(*pair, ends) for pair in zip(bundles, states, strict=True)]
        return _told(layer, nodes, ends.hear, heard), *changed

    for layer in layers:
        nodes, *states = _again(one_round, layer, nodes, *states)
    pairs = [(bundle, state) for bundle, state in zip(bundles, states, strict=True) if bundle.links is None]
    return nodes, [_again(decode, *pair) for pair in pairs]


def by_streamed_blocks(
    layers: nn.ModuleList, nodes: Tensor, bundles: Bundles, encode: Encode, decode: Decode
) -> tuple[Tensor, list[Tensor]]:
    """Keep no states of edges: layers only multiply them by what nodes say, so that is done again."""
    rounds: list[EndpointProjections] = []

    def states_of(bundle: Bundle, rounds: Sequence[EndpointProjections]) -> Tensor:
        states = encode(bundle)
        for ends in rounds:
            states = _changed(bundle, states, ends)
        return states

    def listen(
        bundle: Bundle, before: Sequence[EndpointProjections], say: Tensor
    ) -> tuple[MessageStats, MessageStats]:
        return _heard(bundle, states_of(bundle, before), say)

    for layer in layers:
        ends = _ends(layer, nodes)
        heard = [_again(listen, bundle, tuple(rounds), ends.say) for bundle in bundles]
        nodes = _told(layer, nodes, ends.hear, heard)
        rounds.append(ends)
    weighted = [bundle for bundle in bundles if bundle.links is None]
    return nodes, [_again(lambda b: decode(b, states_of(b, rounds)), bundle) for bundle in weighted]


def by_messages(
    layers: nn.ModuleList, nodes: Tensor, bundles: Bundles, encode: Encode, decode: Decode
) -> tuple[Tensor, list[Tensor]]:
    """Let the layers themselves send a message along every edge; edges come in the order of their targets."""
    edges = torch.cat([_edges(bundle) for bundle in bundles], dim=1)
    order = edges[1].argsort(stable=True)
    states = torch.cat([encode(bundle).flatten(0, 2) for bundle in bundles])[order]
    for layer in layers:
        nodes, states = layer(nodes, edges[:, order], states)
    parts = states[order.argsort()].split([_edges(bundle).shape[1] for bundle in bundles])
    pairs = [(bundle, part) for bundle, part in zip(bundles, parts, strict=True) if bundle.links is None]
    return nodes, [decode(bundle, part.view(*bundle.shape, -1)) for bundle, part in pairs]


paths: dict[str, Path] = {
    "blocks": by_blocks,
    "streamed_blocks": by_streamed_blocks,
    "messages": by_messages,
}


def _again(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function whose inner results are computed again for the gradient, instead of being kept."""
    if not torch.is_grad_enabled():
        return function(*arguments)
    return checkpoint(function, *arguments, use_reentrant=False, preserve_rng_state=False)


def _ends(layer: Any, nodes: Tensor) -> EndpointProjections:
    normed = layer_norm(nodes, nodes.shape[-1:])
    return EndpointProjections(layer.say(normed), layer.hear(normed), layer.start(normed), layer.end(normed))


def _heard(bundle: Bundle, states: Tensor, say: Tensor) -> tuple[MessageStats, MessageStats]:
    """Return what goes along a bundle's edges to their targets, and against them to their sources."""
    said, answered = states * say[bundle.sources][:, None], states * say[bundle.targets][:, :, None]
    return _reduced(said, 2, bundle.targets), _reduced(answered, 1, bundle.sources)


def _reduced(products: Tensor, axis: int, nodes: Tensor) -> MessageStats:
    parts = (products.sum(axis), products.square().sum(axis), products.amax(axis), products.amin(axis))
    return MessageStats(nodes.flatten(), products.shape[axis], *(part.flatten(0, 1) for part in parts))


def _changed(bundle: Bundle, states: Tensor, ends: EndpointProjections) -> Tensor:
    """Return the states of edges after both directions have changed them; their signs cancel."""
    start, end = ends.start, ends.end
    along = start[bundle.sources][:, None] * end[bundle.targets][:, :, None]
    against = start[bundle.targets][:, :, None] * end[bundle.sources][:, None]
    return states * (1 + along + against)


def _told(
    layer: Any, nodes: Tensor, hear: Tensor, heard: Sequence[tuple[MessageStats, MessageStats]]
) -> Tensor:
    """Return nodes after they have heard both directions."""
    forwards, backwards = zip(*heard, strict=True)
    there = layer.mix(_aggregated(forwards, hear))
    back = layer.mix(_aggregated(backwards, layer.sign * hear))
    return nodes + there + back  # type: ignore[no-any-return]


def _aggregated(parts: Sequence[MessageStats], asked: Tensor) -> Tensor:
    """Return mean, deviation, largest and smallest message of every node, shape (nodes, 4 x hidden).

    A message is a product of `asked`, which all messages to a node share, and what was summed up.
    """
    nodes = torch.cat([part.nodes for part in parts])
    empty = torch.zeros_like(asked)
    counts = torch.cat([part.total.new_full((len(part.nodes),), part.number) for part in parts])
    number = asked.new_zeros(len(asked)).index_add(0, nodes, counts).clamp(min=1)[:, None]
    mean = empty.index_add(0, nodes, torch.cat([part.total for part in parts])) / number
    square = empty.index_add(0, nodes, torch.cat([part.squares for part in parts])) / number
    places = nodes[:, None].expand(-1, asked.shape[1])
    largest = empty.scatter_reduce(
        0, places, torch.cat([p.largest for p in parts]), "amax", include_self=False
    )
    smallest = empty.scatter_reduce(
        0, places, torch.cat([p.smallest for p in parts]), "amin", include_self=False
    )
    variance = (asked.square() * (square - mean.square())).clamp(min=LEAST_VARIANCE)
    deviation = variance.sqrt().masked_fill(variance <= LEAST_VARIANCE, 0.0)
    turned = asked < 0
    highest, lowest = torch.where(turned, smallest, largest), torch.where(turned, largest, smallest)
    return torch.cat([asked * mean, deviation, asked * highest, asked * lowest], dim=1)


def _edges(bundle: Bundle) -> Tensor:
    """Return a bundle's edges as pairs of nodes, shape (2, edges)."""
    sources = bundle.sources[:, None].expand(bundle.shape)
    targets = bundle.targets[:, :, None].expand(bundle.shape)
    return torch.stack([sources.flatten(), targets.flatten()])
