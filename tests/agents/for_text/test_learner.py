"""Policies that read text: fitted to domains that a tiny model wrote, judged on others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transformers

from prunepolicy.agents.for_text.learner import TextLearner
from prunepolicy.agents.for_text.recipe import ForTextRecipe
from prunepolicy.agents.for_text.report import TextReport
from prunepolicy.agents.training.train import train
from prunepolicy.policy.kinds.text import Text
from prunepolicy.policy.load import load_policy
from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.plan import Budget
from prunepolicy.pruning.statistics.stats import Stats

Make = Callable[..., Checkpoint]
FITTED = ("generic", "plain", "blend", "low_rank")


@pytest.fixture
def checkpoint(tiny_checkpoint: Make, byte_tokenizer: transformers.PreTrainedTokenizerFast) -> Checkpoint:
    made = tiny_checkpoint("llama", vocab_size=258, num_hidden_layers=2)
    byte_tokenizer.save_pretrained(made.folder)
    return made


def recipe(checkpoint: Checkpoint, **changes: Any) -> ForTextRecipe:
    return ForTextRecipe.model_validate(
        {
            "algorithm": "text",
            "policy": {"kind": "text", "samples": 4, "length": 12},
            "models": [str(checkpoint.folder)],
            "writing": {"texts": 12, "length": 24, "kinds": ["random", "python", "story"]},
            "domains": {"shown": [4, 12], "domains": 4, "directions": 2},
            "fitting": {"scorers": FITTED},
            "budgets": {"keep": [0.5]},
            "evaluation": {"texts": 2},
            "checkpoint_every": 1,
            "dtype": "float32",
            **changes,
        }
    )


def test_a_run_keeps_the_scorer_that_validation_domains_choose_with_its_card_and_picture(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    report = train(recipe(checkpoint), tmp_path / "run")
    assert isinstance(report, TextReport)
    assert report.steps == len(FITTED)
    assert FITTED[report.best_step - 1] == report.scorer
    rivals = [name for name in FITTED if name != report.scorer]
    assert set(report.scores) == {"run", *rivals}
    assert all(set(scores) == {"n = 4, keep 0.5", "n = 12, keep 0.5"} for scores in report.scores.values())
    assert f"`{report.scorer}`" in (tmp_path / "run/best/README.md").read_text()
    assert (tmp_path / "run/over_tokens.png").stat().st_size > 1000
    assert TextReport.load(tmp_path / "run") == report
    policy = load_policy(tmp_path / "run")
    assert isinstance(policy, Text)
    assert policy.config.network == checkpoint.fingerprint


def test_a_killed_run_ends_with_the_same_bytes(
    checkpoint: Checkpoint, tmp_path: Path, interrupt_at: Callable[..., None]
) -> None:
    train(recipe(checkpoint), tmp_path / "a" / "run")
    interrupt_at(TextLearner, "step", 3)
    with pytest.raises(KeyboardInterrupt):
        train(recipe(checkpoint), tmp_path / "b" / "run")
    train(recipe(checkpoint), tmp_path / "b" / "run", resume=True)
    for file in ("best/policy.json", "last/policy.json", "best/card.json"):
        assert (tmp_path / "a/run" / file).read_bytes() == (tmp_path / "b/run" / file).read_bytes()


def test_what_was_learned_on_one_network_is_refused_for_another(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    train(recipe(checkpoint, fitting={"scorers": ["generic"]}), tmp_path / "run")
    policy = load_policy(tmp_path / "run")
    with pytest.raises(UsageError, match="another network"):
        policy.plan(checkpoint.graph, Stats(fingerprint="other"), Budget(0.5, "ffn"))


def test_recipes_that_leave_nothing_to_judge_on_or_name_no_scorer_are_refused(checkpoint: Checkpoint) -> None:
    for changes, sentence in (
        ({"writing": {"texts": 12, "length": 12}}, "something of a text is left"),
        ({"fitting": {"scorers": ["blent"]}}, "Did you mean 'blend'"),
        ({"writing": {"texts": 12, "length": 24, "kinds": ["pyhton"]}}, "Did you mean 'python'"),
    ):
        with pytest.raises(UsageError, match=sentence):
            TextLearner.check(recipe(checkpoint, **changes))
