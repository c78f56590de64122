"""What a model goes on with after a text, against the model's own distribution."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.statistics.text_ahead import BEFORE, LENGTH, PLACES, energy_ahead, lead_ins
from prunepolicy.pruning.statistics.text_energy import texts_energy
from prunepolicy.pruning.statistics.writing import goes_on

Make = Callable[..., Checkpoint]


def test_the_model_reads_evenly_spaced_pieces_of_the_text_up_to_its_end() -> None:
    tokens = torch.arange(500)
    rows = lead_ins(tokens, start=7)
    assert rows.shape == (PLACES, 1 + BEFORE)
    assert (rows[:, 0] == 7).all()
    assert rows[0, 1:].tolist() == list(range(BEFORE))
    assert rows[-1, -1] == 499
    assert lead_ins(tokens[:40], start=7).shape == (PLACES, 41)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_what_is_drawn_follows_the_models_distribution_and_the_seed(
    family: str, tiny_checkpoint: Make
) -> None:
    checkpoint = tiny_checkpoint(family)
    model = checkpoint.adapter.load(checkpoint.folder, torch.float32)
    rows = torch.randint(3, 64, (1, 6)).repeat(2000, 1)
    drawn = goes_on(model, rows, 1, torch.Generator().manual_seed(0))
    assert torch.equal(drawn[:, :6], rows)
    with torch.no_grad():
        chances = model(input_ids=rows[:1]).logits[0, -1].softmax(-1)
    shares = torch.bincount(drawn[:, 6], minlength=len(chances)) / len(drawn)
    assert float((shares - chances).abs().max()) < 0.05
    again = goes_on(model, rows, 1, torch.Generator().manual_seed(0))
    assert torch.equal(drawn, again)


def test_the_statistic_is_of_the_written_tokens_alone_as_read_after_the_text(tiny_checkpoint: Make) -> None:
    checkpoint = tiny_checkpoint("llama")
    model, graph = checkpoint.adapter.load(checkpoint.folder, torch.float32), checkpoint.graph
    beginnings = lead_ins(torch.randint(3, 64, (20,)), start=1)
    rows = goes_on(model, beginnings, LENGTH, torch.Generator().manual_seed(3))
    ahead = energy_ahead(model, graph, rows)
    read, whole = texts_energy(model, graph, beginnings), texts_energy(model, graph, rows)
    assert ahead.tokens == PLACES * LENGTH
    for name, energy in ahead.energy.items():
        both = (read.tokens * read.energy[name] + ahead.tokens * energy) / (read.tokens + ahead.tokens)
        torch.testing.assert_close(both, whole.energy[name], rtol=1e-4, atol=1e-6)
