"""A dense model with edits in place, and the same model afterwards."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.checkpoint.cut import Edits
from prunepolicy.pruning.plan import Budget, Plan
from prunepolicy.pruning.repair.edited import edited
from prunepolicy.pruning.statistics.gates import masked

Make = Callable[..., Checkpoint]
TOKENS = torch.arange(24).reshape(2, 12)
DOWN = "model.layers.0.mlp.down_proj.weight"
PLAN = Plan({"layers.0.ffn": (0, 2, 5)}, Budget(0.5), "test")


@pytest.fixture
def checkpoint(tiny_checkpoint: Make) -> Checkpoint:
    return tiny_checkpoint("llama")


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(TOKENS).logits  # type: ignore[no-any-return]


def test_without_edits_it_is_the_mask(checkpoint: Checkpoint) -> None:
    model = checkpoint.adapter.load(checkpoint.folder, torch.float32)
    with masked(model, checkpoint.graph, PLAN):
        expected = logits(model)
    with edited(model, checkpoint.graph, PLAN, Edits()):
        assert torch.equal(logits(model), expected)


def test_values_of_kept_entries_go_to_their_places(checkpoint: Checkpoint) -> None:
    model = checkpoint.adapter.load(checkpoint.folder, torch.float32)
    before, old = logits(model), model.get_parameter(DOWN)
    new = torch.randn(32, 3)
    with edited(model, checkpoint.graph, PLAN, Edits({DOWN: new})):
        assert torch.equal(model.get_parameter(DOWN)[:, [0, 2, 5]], new)
        assert torch.equal(model.get_parameter(DOWN)[:, 1], old[:, 1])
        assert not torch.equal(logits(model), before)
    assert model.get_parameter(DOWN) is old
    assert torch.equal(logits(model), before)


def test_a_bias_that_the_model_lacks_acts_and_goes_again(checkpoint: Checkpoint) -> None:
    model = checkpoint.adapter.load(checkpoint.folder, torch.float32)
    name = DOWN.replace("weight", "bias")
    with edited(model, checkpoint.graph, PLAN, Edits({name: torch.ones(32)})):
        assert torch.equal(model.get_parameter(name), torch.ones(32))
    assert model.get_submodule(name.rpartition(".")[0]).bias is None


def test_an_error_inside_puts_everything_back(checkpoint: Checkpoint) -> None:
    model = checkpoint.adapter.load(checkpoint.folder, torch.float32)
    before = logits(model)
    with (
        pytest.raises(ZeroDivisionError),
        edited(model, checkpoint.graph, PLAN, Edits({DOWN: torch.ones(32, 3)})),
    ):
        raise ZeroDivisionError
    assert torch.equal(logits(model), before)
