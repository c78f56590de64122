from __future__ import annotations

from pathlib import Path

import pytest
import transformers

from prunepolicy.agents.thinking.lm.policy_model import PolicyModel
from prunepolicy.agents.thinking.lm.prompting import ELLIPSIS, Prompting, PromptRecipe
from prunepolicy.agents.thinking.lm.tokens import TAGS, reasoning_tokenizer
from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.session.opened_model import Hardware

TEXT = "a1b2?\n<think>\n...\n12+3=15\n</think><answer>15</answer> é€"


@pytest.mark.parametrize("merges", [0, 12])
def test_any_text_survives_the_tokenizer_and_tags_survive_decoding(merges: int) -> None:
    tokenizer = reasoning_tokenizer(["carry the carry and wait, wait"] * 5, merges)
    assert len(tokenizer) == 262 + merges
    ids = tokenizer(TEXT)["input_ids"]
    assert tokenizer.decode(ids) == TEXT
    assert all(tag in tokenizer.decode(ids, skip_special_tokens=True) for tag in TAGS)
    assert not set(TAGS) & set(tokenizer.all_special_tokens)
    assert tokenizer.tokenize("1207") == ["1", "2", "0", "7"]


def test_the_student_is_an_ordinary_hugging_face_folder_that_can_be_pruned(
    policy_model: PolicyModel, tmp_path: Path
) -> None:
    policy_model.save(tmp_path / "tiny")
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "tiny")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "tiny")
    assert loaded.config.eos_token_id == tokenizer.eos_token_id == policy_model.end
    assert tokenizer.tokenize(TEXT) == policy_model.tokenizer.tokenize(TEXT)
    assert Checkpoint.open(tmp_path / "tiny").graph.of_kind("ffn")
    again = PolicyModel.named(str(tmp_path / "tiny"), PromptRecipe(), Hardware("cpu", "float32"))
    assert again.prompting.ids("a1b2?") == policy_model.prompting.ids("a1b2?")
    assert all(parameter.requires_grad for parameter in again.model.parameters())


@pytest.mark.parametrize("template", ["<think>\n", "<think>", ""])
def test_the_prompt_ends_with_the_prefix_once_whatever_the_template_opens(template: str) -> None:
    tokenizer = reasoning_tokenizer()
    tokenizer.chat_template = "{{ messages[0]['content'] + '\\n' }}" + template
    prompting = Prompting(tokenizer, PromptRecipe(instruction="Be brief."))
    assert prompting.render("a1?") == f"a1? Be brief.\n{ELLIPSIS}"
    assert prompting.ids("a1?")[-len(prompting.prefix) :] == prompting.prefix
    assert prompting.closing == tokenizer.convert_tokens_to_ids(["</think>"])


def test_a_prefix_that_cannot_be_told_apart_is_refused() -> None:
    tokenizer = reasoning_tokenizer(["zz"] * 9, 1)
    tokenizer.chat_template = "{{ messages[0]['content'] }}"
    with pytest.raises(UsageError, match="merges the prompt's prefix 'zz'"):
        Prompting(tokenizer, PromptRecipe(prefix="zz")).ids("z")
