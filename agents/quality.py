"""Run a model before and after: how well it predicts, how fast it runs, what it writes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from prunepolicy.agents.report import Facts
from prunepolicy.agents.subject import Subject
from prunepolicy.pruning.cost import Cost
from prunepolicy.pruning.errors import PrunePolicyError
from prunepolicy.pruning.latency import interleaved, time_model
from prunepolicy.pruning.loading import load_model
from prunepolicy.pruning.perplexity import TextScore, perplexity, score_text
from prunepolicy.pruning.probe import Probe, probe_inputs
from prunepolicy.pruning.speedup import spread

PROMPTS = ("The capital of France is", "Once upon a time, there was a", "To make a good cup of tea,")
NEW_TOKENS = 24
OWN_TEXT = Probe(samples=16, length=256, seed=1_000_003)
"""Text to score when the user gives none: written by the dense model, with a seed no probe uses."""
PROMPT_TOKENS, DECODED, REPEATS = 128, 16, 5

Scorer = Callable[[nn.Module], TextScore]


@dataclass(frozen=True)
class Behaviour:
    """What one model does; empty where nothing was measured."""

    score: TextScore | None = None
    latency: dict[str, float] = field(default_factory=dict)
    samples: tuple[str, ...] = ()

    def facts(self, cost: Cost) -> Facts:
        """Return this behaviour together with the network's cost."""
        return Facts(cost, self.score, self.latency, self.samples)


@dataclass(frozen=True)
class Measurements:
    """What was measured on both models, and what couldn't be.

    Attributes:
        text: name of the text that both were scored on.
    """

    before: Behaviour = field(default_factory=Behaviour)
    after: Behaviour = field(default_factory=Behaviour)
    text: str = ""
    warnings: tuple[str, ...] = ()


def measure(subject: Subject, folder: Path, text: Path | None) -> Measurements:
    """Measure the dense model and the pruned one in `folder`, in turn, on the same inputs."""
    if not subject.fits(copies=2):
        return Measurements(warnings=("Both models don't fit into memory; nothing was measured.",))
    adapter = subject.checkpoint.adapter
    pruned = load_model(folder, adapter, subject.dtype, subject.device, trust_remote_code=True)
    models = (subject.model, pruned)
    if adapter.task != "causal":
        return Measurements(warnings=("Quality is measured for models that write text only.",))
    with subject.steps.step("measure quality"):
        name, score = text_scorer(subject, text)
        scores = [score(model) for model in models]
    with subject.steps.step("measure speed"):
        times = _latency(subject, models)
    with subject.steps.step("write samples"):
        texts = [_samples(model, subject.tokenizer) for model in models]
    before, after = (Behaviour(*seen) for seen in zip(scores, times, texts, strict=True))
    return Measurements(before, after, name)


def text_scorer(subject: Subject, text: Path | None) -> tuple[str, Scorer]:
    """Return the text's name and a function that scores a model on it.

    Raises:
        PrunePolicyError: when the text can't be read.
    """
    if text is not None:
        try:
            content = text.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise PrunePolicyError(f"Can't read the text {text}: {error}.") from error
        return text.name, lambda model: score_text(model, subject.tokenizer, content)
    checkpoint = subject.checkpoint
    ids = probe_inputs(
        OWN_TEXT, subject.model, checkpoint.adapter, subject.tokenizer, checkpoint.fingerprint
    )["input_ids"].to(subject.device)
    tokens, window, start = ids[:, 1:].flatten(), ids.shape[1], int(ids[0, 0])
    return "text written by the dense model", lambda model: perplexity(model, tokens, window, bos=start)


def _latency(subject: Subject, models: tuple[nn.Module, ...]) -> list[dict[str, float]]:
    vocabulary = int(subject.checkpoint.config["vocab_size"])
    generator = torch.Generator().manual_seed(0)
    prompt = torch.randint(0, vocabulary, (1, PROMPT_TOKENS), generator=generator).to(subject.device)
    runs = [partial(time_model, model, {"input_ids": prompt}, DECODED) for model in models]
    return [
        {
            f"Reading {PROMPT_TOKENS} tokens": spread([time.prefill for time in times]).median,
            "Writing one token": spread([time.decode or 0.0 for time in times]).median,
        }
        for times in interleaved(runs, REPEATS)
    ]


def _samples(model: nn.Module, tokenizer: Any) -> tuple[str, ...]:
    return tuple(_continue(model, tokenizer, prompt) for prompt in PROMPTS)


def _continue(model: Any, tokenizer: Any, prompt: str) -> str:
    """Continue a prompt greedily; the same text every time."""
    device = next(model.parameters()).device
    tokens: Tensor = tokenizer(prompt, return_tensors="pt")["input_ids"].to(device)
    written = model.generate(
        tokens,
        attention_mask=torch.ones_like(tokens),
        max_new_tokens=NEW_TOKENS,
        do_sample=False,
        pad_token_id=tokenizer.pad_token_id or 0,
    )
    return str(tokenizer.decode(written[0], skip_special_tokens=True))
