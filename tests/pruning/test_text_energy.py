"""The statistic of a text against direct computations on the running model."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.statistics.activations import activation_stats
from prunepolicy.pruning.statistics.text_energy import TextEnergy, outgoing_norms, text_energy, texts_energy

Make = Callable[..., Checkpoint]


@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen2_moe"])
def test_the_root_of_energy_times_norm_is_what_the_criterion_activation_scores(
    family: str, tiny_checkpoint: Make
) -> None:
    checkpoint = tiny_checkpoint(family)
    model, graph = checkpoint.adapter.load(checkpoint.folder, torch.float32), checkpoint.graph
    tokens = torch.randint(3, 64, (1, 12))
    stats = activation_stats(model, graph, graph.groups, {"input_ids": tokens})
    text, norms = text_energy(model, graph, tokens), outgoing_norms(model, graph)
    assert text.tokens == 12
    assert list(text.energy) == [group.name for group in graph.of_kind("ffn")]
    for name, energy in text.energy.items():
        assert energy.dtype == torch.float32
        torch.testing.assert_close(energy.sqrt() * norms[name], stats.get("output", name))


def test_norms_are_those_of_the_columns_wherever_they_come_from(tiny_checkpoint: Make) -> None:
    checkpoint = tiny_checkpoint("llama")
    model, graph = checkpoint.adapter.load(checkpoint.folder, torch.float32), checkpoint.graph
    stats = activation_stats(model, graph, graph.groups, {"input_ids": torch.randint(3, 64, (2, 9))})
    weight = model.get_parameter("model.layers.1.mlp.down_proj.weight")
    for norms in (outgoing_norms(model, graph), outgoing_norms(stats, graph)):
        torch.testing.assert_close(norms["layers.1.ffn"], weight.detach().norm(dim=0))


def test_pooled_texts_are_those_read_together(tiny_checkpoint: Make) -> None:
    checkpoint = tiny_checkpoint("llama")
    model, graph = checkpoint.adapter.load(checkpoint.folder, torch.float32), checkpoint.graph
    tokens = torch.randint(3, 64, (3, 10))
    together = texts_energy(model, graph, tokens)
    pooled = TextEnergy.pooled(
        [texts_energy(model, graph, tokens[:1]), texts_energy(model, graph, tokens[1:])]
    )
    assert pooled.tokens == together.tokens == 30
    for name, energy in together.energy.items():
        torch.testing.assert_close(pooled.energy[name], energy)
