"""Offsets: trained by gradients through a tiny network, from the scorer that they start as."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from prunepolicy.agents.for_text.offsets_learner import TextOffsets, TextOffsetsRecipe
from prunepolicy.agents.for_text.report import TextReport
from prunepolicy.agents.learned_pruning.policy_card_text import command_of
from prunepolicy.agents.training.train import train
from prunepolicy.policy.kinds.text import Text
from prunepolicy.policy.load import load_policy_folder
from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint

Make = Callable[..., Checkpoint]


@pytest.fixture
def checkpoint(tiny_checkpoint: Make, byte_tokenizer: transformers.PreTrainedTokenizerFast) -> Checkpoint:
    made = tiny_checkpoint("llama", vocab_size=258, num_hidden_layers=2)
    byte_tokenizer.save_pretrained(made.folder)
    return made


def recipe(checkpoint: Checkpoint, **changes: Any) -> TextOffsetsRecipe:
    return TextOffsetsRecipe.model_validate(
        {
            "algorithm": "text_offsets",
            "policy": {"kind": "text", "samples": 4, "length": 12},
            "models": [str(checkpoint.folder)],
            "writing": {"texts": 12, "length": 24, "kinds": ["random", "python", "story"]},
            "domains": {"shown": [4, 12], "domains": 4, "directions": 2},
            "fitting": {"scorers": ["ahead"]},
            "training": {"batch_size": 2, "learning_rate": 0.1, "ema_decay": 0.0},
            "budgets": {"keep": [0.5]},
            "evaluation": {"texts": 1, "every": 4},
            "max_steps": 8,
            "checkpoint_every": 4,
            "dtype": "float32",
            **changes,
        }
    )


def test_training_starts_as_ahead_and_lowers_the_divergence_that_its_choices_cause(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses: list[dict[str, float]] = []
    step = TextOffsets.step

    def watched(learner: TextOffsets) -> dict[str, float]:
        if not losses:
            assert learner.lost("offsets") == learner.lost("ahead")
        losses.append(step(learner))
        return losses[-1]

    monkeypatch.setattr(TextOffsets, "step", watched)
    training = {"batch_size": 12, "learning_rate": 0.02, "temperature": 1.0, "ema_decay": 0.0}
    changes = {"training": training, "max_steps": 12, "evaluation": {"texts": 1, "every": 12}}
    report = train(recipe(checkpoint, **changes), tmp_path / "run")
    assert isinstance(report, TextReport)
    assert report.scorer == "offsets"
    assert set(report.scores) == {"run", "ahead"}
    assert report.columns[0] == "tokens shown, budget"
    use = command_of(report.card, "run", report.evaluated_model)
    assert use.startswith(f"prune-with-policy {checkpoint.folder} --policy ")
    assert use.endswith(" --for examples.txt --keep 0.5 --of ffn --out smaller/")
    assert min(loss["loss"] for loss in losses[5:]) < 0.9 * min(loss["loss"] for loss in losses[:4])


def test_a_killed_run_ends_with_the_same_bytes(
    checkpoint: Checkpoint, tmp_path: Path, interrupt_at: Callable[..., None]
) -> None:
    train(recipe(checkpoint), tmp_path / "a" / "run")
    interrupt_at(TextOffsets, "step", 6)
    with pytest.raises(KeyboardInterrupt):
        train(recipe(checkpoint), tmp_path / "b" / "run")
    train(recipe(checkpoint), tmp_path / "b" / "run", resume=True)
    one, other = (load_policy_folder(tmp_path / place / "run/last") for place in "ab")
    assert isinstance(one, Text)
    assert isinstance(other, Text)
    assert one.scorer.numbers["offsets"].abs().max() > 0
    assert torch.equal(one.scorer.numbers["offsets"], other.scorer.numbers["offsets"])
