"""What channels write together: which go first when some of them cancel each other."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from prunepolicy.policy.text_scores import KnownText, KnownTexts, text_scorers
from prunepolicy.policy.text_scores.interplay import expected, removal_order
from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.checkpoint.loading import load_model
from prunepolicy.pruning.statistics.text_energy import TextEnergy, outgoing_norms, text_energy, text_products


def test_a_pair_that_cancels_out_goes_before_a_smaller_channel() -> None:
    products = torch.tensor([[4.0, -3.9, 0.0], [-3.9, 4.0, 0.0], [0.0, 0.0, 3.0]])
    assert removal_order(products).tolist() == [1, 2, 0]
    apart = torch.diag(torch.tensor([4.0, 3.0, 2.0]))
    assert removal_order(apart).tolist() == [2, 1, 0]


def test_the_order_makes_the_least_error_that_single_steps_can() -> None:
    written = torch.randn(40, 12)
    products = written @ written.T
    order = removal_order(products)
    gone = torch.zeros(40)
    for step in range(40):
        rises = products.diagonal() + 2 * products @ gone
        assert int(rises.masked_fill(gone.bool(), torch.inf).argmin()) == int((order == step).nonzero())
        gone[order == step] = 1


def test_few_tokens_are_not_believed_about_correlations() -> None:
    products = torch.tensor([[4.0, -3.9], [-3.9, 4.0]])
    sizes = torch.tensor([2.0, 3.0])
    assert torch.equal(expected(sizes, products, 0.0), torch.diag(sizes.square()))
    assert expected(sizes, products, 1.0)[0, 1] == pytest.approx(-3.9 / 4 * 6)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_products_are_those_of_what_channels_write(
    family: str, tiny_checkpoint: Callable[..., Checkpoint]
) -> None:
    checkpoint = tiny_checkpoint(family)
    model = load_model(checkpoint.folder, checkpoint.adapter, torch.float32, torch.device("cpu"))
    tokens = torch.arange(24)[None] % 48
    read, alone = (each(model, checkpoint.graph, tokens) for each in (text_products, text_energy))
    for group in checkpoint.graph.of_kind("ffn"):
        assert torch.allclose(read.energy[group.name], alone.energy[group.name], rtol=1e-4)
        products = read.products[group.name]
        assert products.shape == (group.size, group.size)
        written = read.energy[group.name] * outgoing_norms(model, checkpoint.graph)[group.name].square()
        assert torch.allclose(products.diagonal(), written, rtol=1e-4)
        assert torch.linalg.eigvalsh(products.double()).min() > -1e-6
    halves = [text_products(model, checkpoint.graph, tokens) for _ in range(2)]
    pooled = TextEnergy.pooled(halves)
    assert pooled.tokens == 48
    assert all(torch.allclose(pooled.products[name], read.products[name]) for name in read.products)
    assert not TextEnergy.pooled([alone, read]).products


@pytest.mark.parametrize("name", ["blend", "low_rank"])
def test_correlations_decide_between_channels_that_write_as_much(name: str) -> None:
    shape = {"ffn": torch.ones(3)}
    texts = [KnownText(label, (TextEnergy(8, shape),), TextEnergy(64, shape)) for label in range(3)]
    known = KnownTexts(TextEnergy(512, shape), shape, texts)
    scorer = text_scorers[f"{name}_together"]()
    scorer.fit(known)
    products = torch.tensor([[1.0, 0.0, -0.9], [0.0, 1.0, 0.0], [-0.9, 0.0, 1.0]])
    found = scorer.scores(TextEnergy(4096, shape, {"ffn": products}), known.norms)["ffn"]
    assert int(found.argmax()) == 1
    alone = scorer.scores(TextEnergy(4096, shape), known.norms)["ffn"]
    assert alone.unique().numel() == 1
