"""Heads answer under names of their own; what is compared and watched finds them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers
from torch import Tensor, nn
from transformers.utils import ModelOutput

from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.checkpoint.loading import load_model
from prunepolicy.pruning.errors import UnsupportedModelError
from prunepolicy.pruning.proof.answers import answer_of
from prunepolicy.pruning.statistics.gate_gradients import sample_losses

SCORES = torch.arange(6.0).reshape(2, 3)


class Answering(nn.Module):
    """A model that always answers with the scores, under one name."""

    def __init__(self, name: str, scores: Tensor) -> None:
        super().__init__()
        self.output = ModelOutput({name: scores, "past_key_values": "a cache"})

    def forward(self, **inputs: Tensor) -> ModelOutput:
        return self.output


@pytest.mark.parametrize(
    ("name", "are_logits"),
    [("logits", True), ("prediction_logits", True), ("start_logits", True), ("last_hidden_state", False)],
)
def test_answers_are_found_by_name(name: str, are_logits: bool) -> None:
    found, of_a_head = answer_of(ModelOutput({"aux_loss": torch.zeros(()), name: SCORES}))
    assert found is SCORES
    assert of_a_head == are_logits


def test_a_tensor_is_logits_and_nothing_else_can_be_compared() -> None:
    assert answer_of(SCORES) == (SCORES, True)
    with pytest.raises(UnsupportedModelError, match="answers with waveform, mask"):
        answer_of(ModelOutput(waveform=SCORES, mask=SCORES))


@pytest.mark.parametrize("name", ["logits", "start_logits"])
def test_a_classifier_that_keeps_a_cache_still_has_labels(name: str) -> None:
    scores = SCORES.clone().requires_grad_()
    tokens = torch.ones(2, 5, dtype=torch.long)
    losses = sample_losses(Answering(name, scores), {"input_ids": tokens}, torch.Generator().manual_seed(0))
    chances = -scores.log_softmax(-1)
    assert losses.shape == (2,)
    assert all((chances[i] == losses[i]).any() for i in range(2))


def test_a_score_alone_has_a_gradient_all_the_same() -> None:
    scores = SCORES[:, :1].clone().requires_grad_()
    tokens = torch.ones(2, 5, dtype=torch.long)
    model = Answering("logits", scores)
    sample_losses(model, {"input_ids": tokens}, torch.Generator().manual_seed(0)).sum().backward()
    assert scores.grad is not None
    assert scores.grad.abs().min() > 0


def test_classifiers_without_a_padding_token_read_several_rows(tmp_path: Path) -> None:
    sizes = {"vocab_size": 64, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    config = transformers.LlamaConfig(**sizes, num_attention_heads=2, pad_token_id=None)
    transformers.LlamaForSequenceClassification(config).save_pretrained(tmp_path)
    checkpoint, rows = Checkpoint.open(tmp_path), torch.randint(64, (3, 6))
    model = load_model(tmp_path, checkpoint.adapter, torch.float32, torch.device("cpu"))
    with torch.no_grad():
        together = model(input_ids=rows).logits
        alone = torch.cat([model(input_ids=row).logits for row in rows.split(1)])
    torch.testing.assert_close(together, alone)
