from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from prunepolicy.pruning.convnets import networks as convnets

BENCHMARKS = Path(__file__).parents[1] / "benchmarks" / "measure"


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import published_graph

    yield published_graph
    sys.modules.pop("published_graph")


def test_the_restated_graph_has_the_published_size(published: Any) -> None:
    graph = published.PublishedGraph(convnets.build({"arch": "resnet56"}))
    assert (sum(graph.sizes), graph.edges) == (2045, 140_720)


def test_it_is_read_and_written_without_loss(published: Any) -> None:
    model = convnets.build({"arch": "resnet20"})
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand_like(tensor))
    weights = {name: t.detach() for name, t in (*model.named_parameters(), *model.named_buffers())}
    graph = published.PublishedGraph(model)
    nodes, kernels = graph.node_features(weights), list(graph.edge_features(weights))
    doubled = graph.written(weights, nodes, kernels)
    for name, tensor in weights.items():
        changes = name.endswith(("weight", "bias"))
        assert torch.equal(doubled[name], 2 * tensor if changes else tensor), name


def test_both_paths_and_ways_back_agree(published: Any) -> None:
    model = convnets.build({"arch": "resnet8"}).double()
    weights = {name: t.detach() for name, t in (*model.named_parameters(), *model.named_buffers())}
    torch.set_default_dtype(torch.float64)
    try:
        graph, outcomes = published.PublishedGraph(model), []
        for path in ("messages", "blocks"):
            torch.manual_seed(1)
            metanetwork = published.PublishedMetanetwork(graph, path, layers=2, hidden=4)
            sum(t.square().sum() for t in metanetwork(weights).values() if t.is_floating_point()).backward()
            outcomes.append([parameter.grad for parameter in metanetwork.parameters()])
    finally:
        torch.set_default_dtype(torch.float32)
    for one, other in zip(*outcomes, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10)
