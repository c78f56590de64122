"""The small models that policies learn on: their text is always the same, they learn, their folders open."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from prunepolicy.policy.load import load_policy
from prunepolicy.pruning.adapters import adapter_for
from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.plan import Budget
from prunepolicy.pruning.statistics.stats import Stats, weight_stats

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks" / "measure"))

import package_prose
import small_models
from small_models import Schedule, Small, Workshop, full_config, train

SCHEDULE = Schedule(length=32, batch=4)
LLAMA = small_models.sized("llama", 32, 2, 48, (2, 2))
DOCSTRING = '''"""A heading
=========

The parts of a sentence stay together, even those in ``markup`` or named :class:`~some.where.Thing`.

>>> print("an example")
an example

x : int

Words that are spoken in this docstring come from nowhere else at all.
"""
raise RuntimeError("This module was run.")
'''


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path / "models", SCHEDULE, ("rich",))


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package that can be found, with one documented module."""
    folder = tmp_path / "library" / "documented"
    folder.mkdir(parents=True)
    folder.joinpath("__init__.py").write_text(DOCSTRING)
    monkeypatch.syspath_prepend(str(folder.parent))
    return folder


def test_docstrings_become_plain_sentences_without_running_the_module(package: Path) -> None:
    (document,) = package_prose.documents(["documented"])
    assert document.split("\n\n") == [
        "The parts of a sentence stay together, even those in markup or named some.where.Thing.",
        "Words that are spoken in this docstring come from nowhere else at all.",
    ]


def test_what_was_said_before_and_evaluation_texts_are_left_out(package: Path) -> None:
    package.joinpath("argparse.py").write_text(
        '"""This file is what other benchmarks score their models on."""'
    )
    package.joinpath("other.py").write_text(
        DOCSTRING.replace("x : int", "The second file has one more sentence here.")
    )
    first, second = package_prose.documents(["documented"])
    assert "Words that are spoken" in first
    assert second == "The second file has one more sentence here."


def test_every_twentieth_document_is_kept_out() -> None:
    learn, measure = package_prose.split([str(number) for number in range(1, 43)])
    assert measure == ["20", "40"]
    assert len(learn) == 40
    assert not set(learn) & set(measure)


def test_text_and_tokenizer_are_the_same_every_time(workshop: Workshop) -> None:
    again = Workshop(workshop.folder, SCHEDULE, workshop.packages)
    assert workshop.texts == again.texts
    assert workshop.tokenizer.backend_tokenizer.to_str() == again.tokenizer.backend_tokenizer.to_str()
    assert torch.equal(workshop.stream, again.stream)
    assert len(workshop.tokenizer) <= package_prose.VOCABULARY
    sentence = workshop.texts[0][0]
    assert workshop.tokenizer.decode(workshop.tokenizer(sentence)["input_ids"]) == sentence


def test_the_learning_rate_rises_then_falls_to_nothing() -> None:
    rates = [Schedule(warmup=0.1).rate(step, 100) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[10] == 1
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[100] == pytest.approx(0)


def test_training_lowers_the_loss_and_repeats_itself(workshop: Workshop) -> None:
    config = full_config(LLAMA, workshop.tokenizer, SCHEDULE)
    losses = []
    for _ in range(2):
        torch.manual_seed(0)
        losses.append(
            train(adapter_for(config).build(config), workshop.stream, 20, SCHEDULE, lambda done: None)
        )
    assert losses[0] == losses[1]
    assert sum(losses[0][-5:]) < sum(losses[0][:5]) - 1


def test_a_finished_folder_opens_plans_and_is_kept(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = Small("tiny", LLAMA, 2)
    facts = workshop.make(small)
    checkpoint = Checkpoint.open(workshop.folder / "tiny")
    stats = Stats(seed=0).merged(weight_stats(checkpoint, checkpoint.graph.groups))
    plan = load_policy("magnitude").plan(checkpoint.graph, stats, Budget(0.5, "ffn"))
    assert {len(plan.kept(block)) for block in checkpoint.graph.of_kind("ffn")} == {24}
    assert (
        AutoTokenizer.from_pretrained(workshop.folder / "tiny").bos_token_id
        == checkpoint.config["bos_token_id"]
    )
    assert facts["validation_perplexity"] > 1
    assert workshop.folder.joinpath("validation.txt").read_text() == "\n\n".join(workshop.texts[1]) + "\n"

    monkeypatch.setattr(small_models, "train", None)
    assert workshop.make(small) == facts


@pytest.mark.parametrize("small", small_models.MODELS, ids=lambda small: small.name)
def test_every_model_has_channels_to_prune_and_the_size_it_is_named_for(small: Small) -> None:
    class Tokenizer:
        pad_token_id, bos_token_id, eos_token_id = 0, 1, 2

        def __len__(self) -> int:
            return package_prose.VOCABULARY

    config = full_config(small.config, Tokenizer(), Schedule())
    adapter = adapter_for(config)
    graph = adapter.units(config, adapter.shapes(config))
    blocks = graph.of_kind("ffn")
    assert blocks
    assert all(block.gate is not None and block.size >= 256 for block in blocks)
    millions = sum(parameter.numel() for parameter in adapter.build_on_meta(config).parameters()) / 1e6
    assert millions == pytest.approx(float(small.name.split("-")[1].removesuffix("m")), rel=0.35)
