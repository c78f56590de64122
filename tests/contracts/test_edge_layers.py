"""What every message-passing layer whose edges have states must hold."""

from __future__ import annotations

import pytest
import torch

from prunepolicy.metanet.weight_network.edge_layers import edge_layers

WIDTH = 6


@pytest.mark.parametrize("name", edge_layers)
def test_nodes_and_edges_may_come_in_any_order(name: str) -> None:
    layer, nodes, states = edge_layers[name](WIDTH), torch.randn(5, WIDTH), torch.randn(4, WIDTH)
    edges = torch.tensor([[0, 1, 2, 4], [1, 2, 0, 3]])
    order, turn = torch.randperm(5), torch.randperm(4)
    moved, moved_states = layer(nodes[order], order.argsort()[edges][:, turn], states[turn])
    expected, expected_states = layer(nodes, edges, states)
    torch.testing.assert_close(moved, expected[order])
    torch.testing.assert_close(moved_states, expected_states[turn])


@pytest.mark.parametrize("name", edge_layers)
def test_both_ends_hear_each_other_and_tell_who_is_who(name: str) -> None:
    layer, states = edge_layers[name](WIDTH), torch.randn(1, WIDTH)
    nodes, louder = torch.randn(3, WIDTH), torch.randn(WIDTH)
    edge = torch.tensor([[0], [1]])
    heard, _ = layer(nodes, edge, states)
    for end, other in ((0, 1), (1, 0)):
        changed = nodes.index_add(0, torch.tensor([end]), louder[None])
        assert not torch.equal(layer(changed, edge, states)[0][other], heard[other])
        assert torch.equal(layer(changed, edge, states)[0][2], heard[2])
    assert not torch.allclose(layer(nodes, edge.flip(0), states)[0][:2], heard[:2])
