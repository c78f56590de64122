"""What a model answers, token by token: in its chat template where it has one, else as a continuation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from prunepolicy.pruning.checkpoint.context import context_of
from prunepolicy.pruning.checkpoint.decoding import memory_of
from prunepolicy.pruning.checkpoint.tokens import check_known, token_ids
from prunepolicy.pruning.errors import BadCheckpointError, UsageError
from prunepolicy.pruning.measure.latency import now, time_prefill

UNFINISHED = "\ufffd"
"""What letters whose last bytes are still missing decode to."""


@dataclass(frozen=True)
class DecodingSettings:
    """How tokens are chosen.

    Attributes:
        tokens: at most so many are written.
        temperature: 0 for the most probable token each time.
        seed: of the generator, where the temperature isn't 0.
    """

    tokens: int = 128
    temperature: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.tokens < 1:
            raise UsageError(f"An answer has at least one token; got {self.tokens}.")
        if not 0 <= self.temperature < float("inf"):
            raise UsageError(f"A temperature is 0 or more; got {self.temperature:g}.")


@dataclass(frozen=True)
class Reply:
    """An answer as far as it is written.

    Attributes:
        tokens: how many it has, without the one that ends it.
        seconds: that all tokens but the first took; reading the prompt isn't among them.
    """

    text: str = ""
    tokens: int = 0
    seconds: float = 0.0

    @property
    def rate(self) -> float | None:
        """Tokens per second of decoding; None where nothing was decoded after the first token."""
        return (self.tokens - 1) / self.seconds if self.tokens > 1 and self.seconds else None


def chats(tokenizer: Any) -> bool:
    """Return whether a model expects prompts in a chat template."""
    return bool(getattr(tokenizer, "chat_template", None))


def prompt_ids(model: nn.Module, tokenizer: Any, prompt: str) -> Tensor:
    """Return a prompt's tokens as the model expects them, shape (length,).

    Raises:
        BadCheckpointError: when the chat template fails.
        UsageError: when nothing is left to read.
    """
    if chats(tokenizer):
        ids = token_ids(model, tokenizer, _worded(tokenizer, prompt))
    else:
        ids = torch.tensor(tokenizer(prompt)["input_ids"], dtype=torch.long)
        check_known(model, tokenizer, ids.tolist())
    if not len(ids):
        raise UsageError("The prompt is empty, and the model has no token to start a text with.")
    return ids


def _worded(tokenizer: Any, prompt: str) -> str:
    turns = [{"role": "user", "content": prompt}]
    try:
        return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))
    except Exception as error:  # Templates are the folder's, so they can raise anything.
        from prunepolicy.pruning.io.transformers_loading import first_line

        raise BadCheckpointError(f"The model's chat template fails: {first_line(error)}") from error


@torch.inference_mode()
def replies(model: nn.Module, tokenizer: Any, prompt: str, how: DecodingSettings) -> Iterator[Reply]:
    """Yield the answer to a prompt after every token; the last one is the whole.

    Raises:
        UsageError: when the prompt leaves no room in the model's context.
    """
    device = next(model.parameters()).device
    tokens = prompt_ids(model, tokenizer, prompt).to(device)[None]
    read, room = tokens.shape[1], context_of(model) - tokens.shape[1]
    if room < 1:
        raise UsageError(f"The prompt has {read} tokens; the model reads {context_of(model)} at once.")
    generator = torch.Generator(device).manual_seed(how.seed)
    ends, seconds = _ends(model, tokenizer), 0.0
    _, outputs = time_prefill(model, {"input_ids": tokens})
    for number in range(min(how.tokens, room)):
        chosen = _chosen(outputs.logits[0, -1], how.temperature, generator)
        if int(chosen) in ends:
            return
        tokens = torch.cat([tokens, chosen.view(1, 1)], dim=1)
        text = tokenizer.decode(tokens[0, read:], skip_special_tokens=True)
        yield Reply(text.rstrip(UNFINISHED), number + 1, seconds)
        began, memory = now(device), memory_of(outputs)
        outputs = model(input_ids=tokens[:, -1:] if memory else tokens, use_cache=True, **memory)
        seconds += now(device) - began


def _chosen(logits: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
    if not temperature:
        return logits.argmax()
    return torch.multinomial((logits.float() / temperature).softmax(-1), 1, generator=generator)


def _ends(model: Any, tokenizer: Any) -> set[int]:
    """Return the tokens that end an answer."""
    named = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    listed = named if isinstance(named, list) else [named]
    return {int(token) for token in (*listed, tokenizer.eos_token_id) if token is not None}


def reply_to(model: nn.Module, tokenizer: Any, prompt: str, how: DecodingSettings) -> Reply:
    """Return the whole answer."""
    *_, last = (Reply(), *replies(model, tokenizer, prompt, how))
    return last
