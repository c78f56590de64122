"""What every message-passing layer must hold."""

from __future__ import annotations

import pytest
import torch

from prunepolicy.metanet.group_network.layers import layers

WIDTH = 6


@pytest.mark.parametrize("name", layers)
def test_nodes_may_come_in_any_order(name: str) -> None:
    layer, nodes, features = layers[name](WIDTH, 2), torch.randn(5, WIDTH), torch.randn(4, 2)
    edges = torch.tensor([[0, 1, 2, 4], [1, 2, 0, 3]])
    order = torch.randperm(5)
    place = order.argsort()
    moved = layer(nodes[order], place[edges], features)
    torch.testing.assert_close(moved, layer(nodes, edges, features)[order])


@pytest.mark.parametrize("name", layers)
def test_messages_go_along_edges_only_and_directions_differ(name: str) -> None:
    layer, nodes, forwards = layers[name](WIDTH, 2), torch.randn(3, WIDTH), torch.tensor([[1.0, 0.0]])
    edge = torch.tensor([[0], [1]])
    heard = layer(nodes, edge, forwards)
    louder = layer(nodes + torch.tensor([3.0, 0.0, 0.0])[:, None], edge, forwards)
    assert not torch.equal(heard[1], louder[1])
    assert torch.equal(heard[2], louder[2])
    assert not torch.equal(heard[1], layer(nodes, edge, 1 - forwards)[1])


@pytest.mark.parametrize("name", layers)
def test_a_network_without_edges_is_read_too(name: str) -> None:
    nodes = torch.randn(2, WIDTH)
    silent = layers[name](WIDTH, 2)(nodes, torch.zeros(2, 0, dtype=torch.long), torch.zeros(0, 2))
    assert silent.shape == nodes.shape
    assert torch.isfinite(silent).all()
