"""What is counted of experts is what the router and the experts really did."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.plan import Budget, Plan
from prunepolicy.pruning.statistics.activations import activation_stats
from prunepolicy.pruning.statistics.expert_use import CONFIDENT

Make = Callable[..., Checkpoint]
NAME = "layers.1.experts"


@pytest.mark.parametrize("family", ["mixtral", "qwen2_moe"])
def test_use_is_what_router_and_experts_did(family: str, tiny_checkpoint: Make) -> None:
    checkpoint = tiny_checkpoint(family, **({"mlp_only_layers": []} if family == "qwen2_moe" else {}))
    model = checkpoint.adapter.load(checkpoint.folder, torch.float32)
    block = model.get_submodule("model.layers.1.mlp")
    router, experts = block.get_submodule("gate"), block.get_submodule("experts")
    tokens, calls = torch.randint(64, (10, 12)), list[tuple[Tensor, ...]]()
    with torch.no_grad(), experts.register_forward_pre_hook(lambda _, inputs: calls.append(inputs)):
        model(tokens)
    hidden, chosen, weights = calls[0]
    hidden = hidden.reshape(-1, hidden.shape[-1])
    logits = F.linear(hidden, router.get_parameter("weight")).gather(1, chosen)
    sure = (logits.softmax(-1) >= CONFIDENT) * logits
    graph = checkpoint.graph
    stats = activation_stats(model, graph, graph.groups, {"input_ids": tokens})
    for expert in range(graph[NAME].size):
        sent = (chosen == expert).any(1)
        share = (weights * (chosen == expert)).sum(1)
        gate, up = F.linear(hidden[sent], experts.get_parameter("gate_up_proj")[expert]).chunk(2, -1)
        written = F.linear(F.silu(gate) * up, experts.get_parameter("down_proj")[expert]).norm(dim=1)
        expected = {
            "routed": sent.float().mean(),
            "output": share.mean(),
            "sure_logit": (sure * (chosen == expert)).sum(1).mean(),
            "written": written.mean() if sent.any() else torch.zeros(()),
            "weighted_output": (written * share[sent]).mean() if sent.any() else torch.zeros(()),
        }
        for statistic, value in expected.items():
            found = stats.get(statistic, NAME)[expert]
            torch.testing.assert_close(found, value.detach(), rtol=1e-4, atol=1e-6)


def test_experts_alone_are_watched_as_all_units_are(tiny_checkpoint: Make) -> None:
    checkpoint = tiny_checkpoint("mixtral")
    model = checkpoint.adapter.load(checkpoint.folder, torch.float32)
    graph, inputs = checkpoint.graph, {"input_ids": torch.randint(64, (4, 9))}
    alone = activation_stats(model, graph, graph.of_kind("expert"), inputs)
    among = activation_stats(model, graph, graph.groups, inputs)
    torch.testing.assert_close(alone.get("weighted_output", NAME), among.get("weighted_output", NAME))
    assert "forward" not in vars(model.get_submodule("model.layers.1.mlp.experts"))


def test_experts_that_a_plan_removes_are_not_used(tiny_checkpoint: Make) -> None:
    checkpoint = tiny_checkpoint("mixtral")
    model = checkpoint.adapter.load(checkpoint.folder, torch.float32)
    graph, inputs = checkpoint.graph, {"input_ids": torch.randint(64, (4, 9))}
    plan = Plan({NAME: (0, 2, 3)}, Budget(0.75, "experts"), "test")
    routed = activation_stats(model, graph, graph.of_kind("expert"), inputs, plan).get("routed", NAME)
    assert routed[1] == 0
    assert float(routed.sum()) == pytest.approx(2.0)
