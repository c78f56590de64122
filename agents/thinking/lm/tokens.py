"""A tokenizer from nothing: bytes, single digits, the tags of reasoning, and as many merges as asked for."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import AddedToken as Tag
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

THINK, CLOSE, ANSWER, ANSWERED = "<think>", "</think>", "<answer>", "</answer>"
PAD, END = "<pad>", "<eos>"
TAGS = (THINK, CLOSE, ANSWER, ANSWERED)
TEMPLATE = "{% for message in messages %}{{ message['content'] }}\n{% endfor %}"

BEGIN, USER, ASSISTANT = "<|begin|>", "<|user|>", "<|assistant|>"
R1_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ '<|user|>' + message['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|><think>\n' }}{% endif %}"
)
"""As DeepSeek-R1's distilled models have it: the template begins the text, and opens the thought."""


def r1_layout(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """Return the tokenizer with turns and a beginning as R1's, which it adds to any text by itself."""
    tokenizer.add_special_tokens({"bos_token": BEGIN, "additional_special_tokens": [USER, ASSISTANT]})
    begin = [(BEGIN, tokenizer.bos_token_id)]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(f"{BEGIN} $A", None, begin)
    tokenizer.chat_template = R1_TEMPLATE
    return tokenizer


def reasoning_tokenizer(texts: Iterable[str] = (), merges: int = 0) -> PreTrainedTokenizerFast:
    """Return a tokenizer that knows every text.

    The tags are ordinary entries of the vocabulary, not special ones, so that decoding keeps them; digits
    are never merged.

    Args:
        texts: what to learn merges from.
        merges: entries beyond single bytes; 0 reads letter by letter.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\n|\.+|[^\s\w.]"), "isolated"),
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    size = 2 + len(alphabet) + merges
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=[PAD, END], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens([Tag(tag, special=False, normalized=False) for tag in TAGS])
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=PAD)
    made.padding_side = "left"
    made.chat_template = TEMPLATE
    return made
