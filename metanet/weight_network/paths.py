"""Ways through a metanetwork's layers with the same result: on whole blocks, and message by message.

On blocks nothing of an edge's size is gathered or kept, which is what makes whole networks fit into memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm
from torch.utils.checkpoint import checkpoint

from prunepolicy.metanet.weight_network.weight_graph.bundles import Bundle

LEAST_VARIANCE = 1e-5
"""Below it, a deviation counts as zero and has no gradient, as torch-geometric has it."""

Bundles = Sequence[Bundle]
Encode = Callable[[Bundle], Tensor]
"""From a bundle to the first states of its edges, shape (groups, rows, columns, hidden)."""
Decode = Callable[[Bundle, Tensor], Tensor]
"""From a bundle and the last states of its edges to their output."""


class Path(Protocol):
    """How states go through the layers."""

    def __call__(
        self, layers: nn.ModuleList, nodes: Tensor, bundles: Bundles, encode: Encode, decode: Decode
    ) -> tuple[Tensor, list[Tensor]]:
        """Return the last states of nodes, and what `decode` makes of each bundle with weights."""


class EndpointProjections(NamedTuple):
    """Projections of node states for one round, each of shape (nodes, hidden).

    Attributes:
        send: factor of messages that a node sends.
        receive: factor of messages that it receives.
        start: factor of the update of edges that start at it.
        end: factor of the update of edges that end at it.
    """

    send: Tensor
    receive: Tensor
    start: Tensor
    end: Tensor


class MessageStats(NamedTuple):
    """Sum, sum of squares, maximum and minimum over `number` messages of a bundle to each node.

    The factor that the receiving node shares among its messages is left out: `_aggregate` multiplies by it.

    Attributes:
        nodes: the receiving ones, shape (receivers,); the others have shape (receivers, hidden).
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
    """Keep the states of all edges; every layer is computed again in the backward pass."""
    states = [_checkpointed(encode, bundle) for bundle in bundles]

    def one_round(layer: nn.Module, nodes: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        ends = _project(layer, nodes)
        stats = [_message_stats(*pair, ends.send) for pair in zip(bundles, states, strict=True)]
        changed = [_update_edges(*pair, ends) for pair in zip(bundles, states, strict=True)]
        return _update_nodes(layer, nodes, ends.receive, stats), *changed

    for layer in layers:
        nodes, *states = _checkpointed(one_round, layer, nodes, *states)
    pairs = [(bundle, state) for bundle, state in zip(bundles, states, strict=True) if bundle.links is None]
    return nodes, [_checkpointed(decode, *pair) for pair in pairs]


def by_streamed_blocks(
    layers: nn.ModuleList, nodes: Tensor, bundles: Bundles, encode: Encode, decode: Decode
) -> tuple[Tensor, list[Tensor]]:
    """Keep no states of edges: layers only multiply them by projections of nodes, so that is done again."""
    rounds: list[EndpointProjections] = []

    def states_of(bundle: Bundle, rounds: Sequence[EndpointProjections]) -> Tensor:
        states = encode(bundle)
        for ends in rounds:
            states = _update_edges(bundle, states, ends)
        return states

    def messages(
        bundle: Bundle, before: Sequence[EndpointProjections], send: Tensor
    ) -> tuple[MessageStats, MessageStats]:
        return _message_stats(bundle, states_of(bundle, before), send)

    for layer in layers:
        ends = _project(layer, nodes)
        stats = [_checkpointed(messages, bundle, tuple(rounds), ends.send) for bundle in bundles]
        nodes = _update_nodes(layer, nodes, ends.receive, stats)
        rounds.append(ends)
    weighted = [bundle for bundle in bundles if bundle.links is None]
    return nodes, [_checkpointed(lambda b: decode(b, states_of(b, rounds)), bundle) for bundle in weighted]


def by_messages(
    layers: nn.ModuleList, nodes: Tensor, bundles: Bundles, encode: Encode, decode: Decode
) -> tuple[Tensor, list[Tensor]]:
    """Let the layers send a message along every edge, as published; edges are sorted by their targets."""
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


def _checkpointed(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function with gradient checkpointing: the backward pass computes its activations again."""
    if not torch.is_grad_enabled():
        return function(*arguments)
    return checkpoint(function, *arguments, use_reentrant=False, preserve_rng_state=False)


def _project(layer: Any, nodes: Tensor) -> EndpointProjections:
    # The layer's attributes are the names of weights in saved policies: `say` sends, `hear` receives.
    normed = layer_norm(nodes, nodes.shape[-1:])
    return EndpointProjections(layer.say(normed), layer.hear(normed), layer.start(normed), layer.end(normed))


def _message_stats(bundle: Bundle, states: Tensor, send: Tensor) -> tuple[MessageStats, MessageStats]:
    """Return statistics of messages along a bundle's edges to targets, and against them to sources."""
    along, against = states * send[bundle.sources][:, None], states * send[bundle.targets][:, :, None]
    return _statistics(along, 2, bundle.targets), _statistics(against, 1, bundle.sources)


def _statistics(messages: Tensor, axis: int, nodes: Tensor) -> MessageStats:
    parts = (messages.sum(axis), messages.square().sum(axis), messages.amax(axis), messages.amin(axis))
    return MessageStats(nodes.flatten(), messages.shape[axis], *(part.flatten(0, 1) for part in parts))


def _update_edges(bundle: Bundle, states: Tensor, ends: EndpointProjections) -> Tensor:
    """Return the states of edges after the updates of both directions."""
    # Against its edges a layer reads `sign * states` and returns `sign * change`: 1 or -1, squared.
    start, end = ends.start, ends.end
    along = start[bundle.sources][:, None] * end[bundle.targets][:, :, None]
    against = start[bundle.targets][:, :, None] * end[bundle.sources][:, None]
    return states * (1 + along + against)


def _update_nodes(
    layer: Any, nodes: Tensor, receive: Tensor, stats: Sequence[tuple[MessageStats, MessageStats]]
) -> Tensor:
    """Return the states of nodes after the messages of both directions."""
    forwards, backwards = zip(*stats, strict=True)
    # The sign of backward edge states is a factor that all messages to a node share, too.
    along = layer.mix(_aggregate(forwards, receive))
    against = layer.mix(_aggregate(backwards, layer.sign * receive))
    return nodes + along + against  # type: ignore[no-any-return]


def _aggregate(parts: Sequence[MessageStats], receive: Tensor) -> Tensor:
    """Return mean, deviation, maximum and minimum of every node's messages, shape (nodes, 4 x hidden).

    Source: the aggregators of Corso et al., "Principal Neighbourhood Aggregation for Graph Nets", section 2.
    """
    # A message is m = r s, with the receiver's factor r shared by all messages to it, so that all four follow
    # from statistics of s: mean(m) = r mean(s), var(m) = r^2 (mean(s^2) - mean(s)^2), and max(m) is r max(s),
    # or r min(s) where r is negative. Only s, without r, is ever formed.
    nodes = torch.cat([part.nodes for part in parts])
    empty = torch.zeros_like(receive)
    counts = torch.cat([part.total.new_full((len(part.nodes),), part.number) for part in parts])
    number = receive.new_zeros(len(receive)).index_add(0, nodes, counts).clamp(min=1)[:, None]
    mean = empty.index_add(0, nodes, torch.cat([part.total for part in parts])) / number
    square = empty.index_add(0, nodes, torch.cat([part.squares for part in parts])) / number
    places = nodes[:, None].expand(-1, receive.shape[1])
    largest = empty.scatter_reduce(
        0, places, torch.cat([p.largest for p in parts]), "amax", include_self=False
    )
    smallest = empty.scatter_reduce(
        0, places, torch.cat([p.smallest for p in parts]), "amin", include_self=False
    )
    # Clamped before the root, whose gradient is infinite at 0, where all of a node's messages are equal.
    variance = (receive.square() * (square - mean.square())).clamp(min=LEAST_VARIANCE)
    deviation = variance.sqrt().masked_fill(variance <= LEAST_VARIANCE, 0.0)
    negative = receive < 0
    highest, lowest = torch.where(negative, smallest, largest), torch.where(negative, largest, smallest)
    return torch.cat([receive * mean, deviation, receive * highest, receive * lowest], dim=1)


def _edges(bundle: Bundle) -> Tensor:
    """Return a bundle's edges as pairs of nodes, shape (2, edges)."""
    sources = bundle.sources[:, None].expand(bundle.shape)
    targets = bundle.targets[:, :, None].expand(bundle.shape)
    return torch.stack([sources.flatten(), targets.flatten()])
