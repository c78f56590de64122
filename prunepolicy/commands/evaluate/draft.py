"""`prunepolicy eval DIR --as-draft-of MODEL`: what a pruned model saves as the draft of its dense model.

Speculative decoding (Leviathan et al., "Fast Inference from Transformers via Speculative Decoding") as
transformers does it: the draft proposes tokens, one pass of the model accepts those that it would have
written, and adds one of its own. Greedy decoding, so that the text is the model's own whatever the draft is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from prunepolicy.pruning.checkpoint.context import context_of
from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.io.console import Console
from prunepolicy.pruning.io.machine import versions
from prunepolicy.pruning.measure.intervals import Interval, mean_interval
from prunepolicy.pruning.measure.latency import now, threads
from prunepolicy.pruning.measure.speedup import Speedup, speedup
from prunepolicy.pruning.session.opened_model import Hardware, OpenedModel
from prunepolicy.pruning.statistics.probe import Probe, probe_inputs

WRITTEN = "varied"
"""The source of the prompts, where the user names no text: what the model itself writes."""


@dataclass(frozen=True)
class DraftRequest:
    """What to measure.

    Attributes:
        prompts: how many; each is answered in both ways, in turn.
        length: tokens of a prompt.
        new: tokens of an answer.
        text: file that prompts are taken from; None takes text that the model writes.
        threads: of the processor; None leaves torch's choice.
    """

    prompts: int = 8
    length: int = 64
    new: int = 64
    text: Path | None = None
    threads: int | None = None
    seed: int = 0


@dataclass
class Counts:
    """What both models did while answers were written with a draft.

    Attributes:
        passes: of the model; the first reads the prompt and the first proposals together.
        proposed: tokens that the draft wrote.
        written: tokens of the answers.
    """

    passes: int = 0
    proposed: int = 0
    written: int = 0

    @property
    def accepted(self) -> int:
        """Tokens that came from the draft: every pass adds one of the model's own."""
        return self.written - self.passes


@dataclass(frozen=True)
class DraftReport:
    """Greedy answers of a model with and without a draft, timed in turn.

    Attributes:
        acceptance: share of the proposed tokens that the model accepted.
        per_pass: tokens that one pass of the model came to.
        agreement: share of the prompts with the same answer in both ways; numbers of lower precision may
            decide a tie otherwise.
        speedup: of decoding with the draft against decoding without.
        interval: of the acceptance, over prompts.
    """

    draft: str
    model: str
    prompts: int
    acceptance: float
    interval: Interval
    per_pass: float
    agreement: float
    speedup: Speedup
    settings: dict[str, object] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """What follows for somebody who serves the model."""
        gain = f"{self.speedup.ratio:.2f} times as fast ({self.speedup.written})"
        if self.speedup.verdict == "faster":
            return f"As a draft it pays: answers come {gain}."
        if self.speedup.verdict == "slower":
            return f"Don't use it as a draft: answers come {gain}, so slower than without."
        return f"As a draft it shows no gain: {gain}."

    def to_json(self) -> str:
        """Return the report as JSON text."""
        return json.dumps(asdict(self) | {"verdict": self.verdict}, indent=1) + "\n"

    def render(self, console: Console) -> None:
        """Print acceptance, speed and what follows."""
        console.print(
            f"{self.model} accepts {self.acceptance:.1%} of the tokens that {self.draft} proposes (95 %: "
            f"{self.interval.written(3)}); {self.per_pass:.2f} tokens a pass of the model.",
            soft_wrap=True,
            markup=False,
        )
        console.print(self.verdict, soft_wrap=True, markup=False)
        listing = ", ".join(f"{name} {value}" for name, value in self.settings.items())
        console.print(listing, style="dim", markup=False)


def draft_bench(
    draft: str, model: str, request: DraftRequest | None = None, hardware: Hardware | None = None
) -> DraftReport:
    """Let `model` answer prompts with `draft` proposing tokens, and without, in turn.

    Raises:
        UsageError: when one of them writes no text, they have different tokens, or a prompt and its answer
            are longer than what they read.
    """
    request, hardware = request or DraftRequest(), hardware or Hardware()
    large, small = OpenedModel.named(model, hardware), OpenedModel.named(draft, hardware)
    check_fit(large, small)
    longest = min(context_of(opened.model) for opened in (large, small))
    if request.length + request.new > longest:
        raise UsageError(f"A prompt and its answer must not exceed the {longest} tokens that both read.")
    prompts = prompts_of(large, request)
    with threads(request.threads) as count:
        pairs = [
            answers(large.model, small.model, prompt[None].to(large.device), request.new, place)
            for place, prompt in enumerate((prompts[0], *prompts))
        ][1:]  # The first answers warm both models up.
    counted = [pair.counts for pair in pairs]
    shares = [(one.accepted, max(1, one.proposed)) for one in counted]
    return DraftReport(
        draft,
        model,
        len(prompts),
        sum(accepted for accepted, _ in shares) / sum(proposed for _, proposed in shares),
        mean_interval(*zip(*shares, strict=True)),
        sum(one.written for one in counted) / sum(one.passes for one in counted),
        sum(pair.same for pair in pairs) / len(pairs),
        speedup([pair.plain for pair in pairs], [pair.assisted for pair in pairs], request.seed),
        {
            **hardware.described(),
            **{"threads": count, "prompt": request.length, "new": request.new},
            **versions("prunepolicy", "torch", "transformers"),
        },
    )


def check_fit(large: OpenedModel, small: OpenedModel) -> None:
    """Raise `UsageError` unless both write text of the same tokens."""
    for opened in (large, small):
        if opened.checkpoint.adapter.task != "causal":
            raise UsageError(f"A draft needs models that write text; {opened.name} doesn't.")
    tokens = [opened.model.get_input_embeddings().num_embeddings for opened in (large, small)]  # type: ignore[operator]
    if tokens[0] != tokens[1]:
        raise UsageError(
            f"{small.name} knows {tokens[1]:,} tokens and {large.name} {tokens[0]:,}; a draft has to "
            "write the model's own tokens."
        )


def prompts_of(opened: OpenedModel, request: DraftRequest) -> Tensor:
    """Return the prompts, shape (prompts, length)."""
    source = WRITTEN if request.text is None else str(request.text)
    probe = Probe(source, request.prompts, request.length, request.seed)
    inputs = probe_inputs(
        probe,
        opened.model,
        opened.checkpoint.adapter,
        opened.tokenizer_if_any,
        opened.checkpoint.fingerprint,
    )
    return inputs["input_ids"]


@dataclass(frozen=True)
class Pair:
    """One prompt answered in both ways: seconds, whether the answers are equal, and what was counted."""

    plain: float
    assisted: float
    same: bool
    counts: Counts


def answers(large: nn.Module, small: nn.Module, prompt: Tensor, new: int, turn: int) -> Pair:
    """Answer a prompt without and with a draft; every second turn begins with the other one."""
    counts, seconds, texts = Counts(), [0.0, 0.0], [prompt, prompt]
    for way in (0, 1) if turn % 2 == 0 else (1, 0):
        with counted(large, small, counts) if way else nullcontext():
            began = now(prompt.device)
            texts[way] = _greedy(large, prompt, new, small if way else None)
            seconds[way] = now(prompt.device) - began
    counts.written = texts[1].shape[1] - prompt.shape[1]
    return Pair(seconds[0], seconds[1], torch.equal(*texts), counts)


@torch.inference_mode()
def _greedy(model: Any, prompt: Tensor, new: int, draft: nn.Module | None) -> Tensor:
    written: Tensor = model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        do_sample=False,
        max_new_tokens=new,
        min_new_tokens=new,
        pad_token_id=0,
        **({} if draft is None else {"assistant_model": draft}),
    )
    return written


@contextmanager
def counted(large: nn.Module, small: nn.Module, counts: Counts) -> Iterator[None]:
    """Count passes of both models while the context lasts."""

    def of_model(*passed: object) -> None:
        counts.passes += 1

    def of_draft(*passed: object) -> None:
        counts.proposed += 1

    handles = [large.register_forward_hook(of_model), small.register_forward_hook(of_draft)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
