"""A vocabulary cut from the command line's functions to a folder that plain transformers reads."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import tokenizers
import torch
import transformers
from tokenizers import decoders, models, pre_tokenizers, trainers

from prunepolicy.commands.prune.job import PruneSettings
from prunepolicy.commands.prune.prune import prune
from prunepolicy.policy.kinds.heuristic import Heuristic, HeuristicConfig
from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.errors import PrunePolicyError, UsageError
from prunepolicy.pruning.plan import Budget

Make = Callable[..., Checkpoint]
ROWS = 384
TEXT = "The cat sat on the mat, and the dog sat on the log; then they all went home to eat. " * 12


@pytest.fixture
def reader(tiny_checkpoint: Make) -> Callable[..., str]:
    """A function that writes a tiny model with a byte-level tokenizer of 300 tokens, and returns its name."""

    def make(model_type: str = "llama", text: str = TEXT, **changes: object) -> str:
        folder = tiny_checkpoint(model_type, vocab_size=ROWS, **changes).folder
        tokenizer = tokenizers.Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        special = ["<pad>", "<s>", "</s>"]
        trainer = trainers.BpeTrainer(
            vocab_size=300, special_tokens=special, initial_alphabet=alphabet, show_progress=False
        )
        tokenizer.train_from_iterator([text], trainer)
        transformers.PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
        ).save_pretrained(folder)
        return str(folder)

    return make


def brief(**changes: object) -> Heuristic:
    settings = {"criterion": "fisher", "token_criterion": "token_cost", "samples": 4, "length": 16}
    return Heuristic(HeuristicConfig.model_validate(settings | changes), "brief")


def test_a_vocabulary_is_cut_with_its_tokenizer_and_proved(
    reader: Callable[..., str], tmp_path: Path
) -> None:
    text, out = tmp_path / "text.txt", tmp_path / "out"
    text.write_text(TEXT)
    settings = PruneSettings(text=text)
    source = reader()
    report = prune(source, out, Budget(0.75, "vocabulary"), brief(), settings)
    assert report.proof is not None
    assert report.proof.ok, report.proof.sentence
    assert report.reached <= 0.75
    assert report.bits_ratio is not None
    assert math.isfinite(report.bits_ratio)
    assert report.perplexity_ratio is None
    assert "bits per byte went from" in report.verdict
    model = transformers.AutoModelForCausalLM.from_pretrained(out)
    small, whole = (transformers.AutoTokenizer.from_pretrained(place) for place in (out, source))
    assert len(small) <= model.config.vocab_size == 288
    odd = "a\x00\x7fé 😀\t\n東 <s>"
    assert small.decode(small(odd)["input_ids"]) == odd == whole.decode(whole(odd)["input_ids"])
    written = model.generate(torch.tensor([small("The cat")["input_ids"]]), max_new_tokens=5, do_sample=False)
    assert small.decode(written[0]).startswith("The cat")


def test_the_users_texts_keep_their_tokens(reader: Callable[..., str], tmp_path: Path) -> None:
    file = tmp_path / "for.txt"
    file.write_text("dog and log. " * 60)
    source, settings = reader(), PruneSettings(examples=str(file), measure=False, verify=False)
    prune(source, tmp_path / "out", Budget(0.72, "vocabulary"), brief(), settings)
    whole, small = (transformers.AutoTokenizer.from_pretrained(p) for p in (source, tmp_path / "out"))
    assert small.tokenize("dog and log.") == whole.tokenize("dog and log.")
    assert len(small.tokenize(TEXT)) > len(whole.tokenize(TEXT))


def test_tokens_of_other_scripts_go_first(reader: Callable[..., str], tmp_path: Path) -> None:
    mixed = "кот и пёс и кот, 100 cats sat on the mat; " * 40
    source, odd = reader(text=mixed), "Ωμέγα 東 \x00 😀 кот"
    settings = PruneSettings(languages="en", measure=False, verify=False)
    budget = Budget(0.73, "vocabulary")
    names = ["ru", "en"]
    for name in names:
        prune(source, tmp_path / name, budget, brief(), replace(settings, languages=name))
    russian, english = (transformers.AutoTokenizer.from_pretrained(tmp_path / name) for name in names)
    whole = transformers.AutoTokenizer.from_pretrained(source)
    assert english.tokenize("cats sat on the mat") == whole.tokenize("cats sat on the mat")
    assert russian.tokenize("кот и пёс") == whole.tokenize("кот и пёс")
    assert len(english.tokenize("кот и пёс")) > len(russian.tokenize("кот и пёс"))
    assert len(russian.tokenize("cats sat on the mat")) > len(english.tokenize("cats sat on the mat"))
    assert english.decode(english(odd)["input_ids"]) == russian.decode(russian(odd)["input_ids"]) == odd


def test_tokens_and_channels_go_together(reader: Callable[..., str], tmp_path: Path) -> None:
    budget = Budget(0.8, units=("ffn", "vocabulary"))
    settings = PruneSettings(measure=False)
    report = prune(reader(), tmp_path / "out", budget, brief(repair="ridge"), settings)
    assert report.proof is not None
    assert report.proof.ok, report.proof.sentence
    assert 0.79 <= report.after.cost.params / report.before.cost.params <= 0.8


def test_encoders_lose_tokens_too(reader: Callable[..., str], tmp_path: Path) -> None:
    report = prune(reader("bert"), tmp_path / "out", Budget(0.75, "vocabulary"), brief(), PruneSettings())
    assert report.proof is not None
    assert report.proof.ok, report.proof.sentence
    assert report.fidelity is not None
    assert report.fidelity.agreement == 1.0


def test_what_cannot_be_done_is_said_before_any_work(reader: Callable[..., str], tmp_path: Path) -> None:
    source, out = reader(), tmp_path / "out"
    tokens = Budget(0.8, "vocabulary")
    with pytest.raises(UsageError, match="--recover"):
        prune(source, out, tokens, brief(), PruneSettings(recover=1))
    with pytest.raises(UsageError, match="'fisher' scores no tokens"):
        prune(source, out, tokens, brief(token_criterion=None))
    with pytest.raises(UsageError, match="--languages chooses tokens"):
        prune(source, out, Budget(0.8), brief(), PruneSettings(languages="en"))
    with pytest.raises(UsageError, match="Unknown language 'xx'"):
        prune(source, out, tokens, brief(), PruneSettings(languages="xx"))
    with pytest.raises(PrunePolicyError, match="can't be"):
        prune(source, out, replace(tokens, keep=0.3), brief())
    Path(source, "tokenizer.json").unlink()
    with pytest.raises(PrunePolicyError, match=r"has no tokenizer\.json"):
        prune(source, out, tokens, brief())
    assert not out.exists()


def test_networks_without_tokens_have_no_vocabulary(tiny_checkpoint: Make, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no vocabulary to prune"):
        prune(str(tiny_checkpoint("vit").folder), tmp_path / "out", Budget(0.8, "vocabulary"), brief())
