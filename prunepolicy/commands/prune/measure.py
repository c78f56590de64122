"""Measure a model before and after pruning: perplexity, prefill and decode latency, sample generations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from prunepolicy.commands.report.report import Facts
from prunepolicy.pruning.checkpoint.context import context_of
from prunepolicy.pruning.checkpoint.loading import load_model, load_tokenizer
from prunepolicy.pruning.checkpoint.tokens import start_of_text, token_ids
from prunepolicy.pruning.cost import Cost
from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.io.text_file import read_text
from prunepolicy.pruning.measure.intervals import Interval
from prunepolicy.pruning.measure.latency import ModelTime, interleaved, time_model
from prunepolicy.pruning.measure.perplexity import (
    WINDOW,
    Fidelity,
    TextScore,
    WindowLosses,
    fidelity,
    piece_losses,
    window_losses,
)
from prunepolicy.pruning.measure.replies import DecodingSettings, chats, reply_to
from prunepolicy.pruning.measure.speedup import Speedup, speedup, spread
from prunepolicy.pruning.plan import Plan
from prunepolicy.pruning.session.model_session import ModelSession
from prunepolicy.pruning.statistics.gates import masked
from prunepolicy.pruning.statistics.probe import Probe
from prunepolicy.pruning.units import VOCABULARY

PROMPTS = ("The capital of France is", "Once upon a time, there was a", "To make a good cup of tea,")
"""For models that continue a text."""
QUESTIONS = (
    "What is the capital of France?",
    "Tell me a short story about a lighthouse.",
    "How do I make a good cup of tea?",
)
"""For models with a chat template."""
WRITTEN = DecodingSettings(tokens=48)
"""How both models answer: greedily, so that the same texts come every time."""
OWN_TEXT = Probe(samples=16, length=256, seed=1_000_003)
"""Evaluation text when the user gives none: sampled from the dense model, with a seed of its own."""
NOISE = Probe(samples=16, length=128, seed=1_000_003)
PROMPT_TOKENS, DECODED = 128, 8
FEWEST, MOST, SECONDS = 7, 40, 20.0
"""Timed rounds: as many as fit into this time, within these limits."""


@dataclass(frozen=True)
class ScoredText:
    """A text, and how well a model predicts it, window by window.

    Attributes:
        windows: its tokens, piece by piece.
    """

    name: str
    losses: Callable[[nn.Module], WindowLosses]
    windows: Sequence[Tensor]

    def pieces(self, tokenizer: Any) -> list[str]:
        """Return what the windows say."""
        plain = partial(tokenizer.decode, clean_up_tokenization_spaces=False)
        return [plain(window) for window in self.windows if len(window) > 1]

    def score(self, model: nn.Module) -> TextScore:
        """Return how well a model predicts the whole text."""
        return self.losses(model).score


@dataclass(frozen=True)
class Behaviour:
    """What one model does; empty where nothing was measured."""

    score: TextScore | None = None
    latency: dict[str, float] = field(default_factory=dict)
    samples: tuple[str, ...] = ()
    accuracy: float | None = None

    def facts(self, cost: Cost) -> Facts:
        """Return this behaviour together with the network's cost."""
        return Facts(cost, self.score, self.latency, self.samples, self.accuracy)


@dataclass(frozen=True)
class Measurements:
    """What was measured on both models, and what couldn't be.

    Attributes:
        text: name of the text that both were scored on.
        speedups: name of a workload to how many times faster the pruned model is.
        fidelity: how close the outputs stay, for models that don't write text.
        images: name of the images that both were tested on, where they were.
        change: interval of the change in accuracy, or in log-perplexity per token where no images were.
        prompts: what both models' samples answer.
    """

    before: Behaviour = field(default_factory=Behaviour)
    after: Behaviour = field(default_factory=Behaviour)
    text: str = ""
    speedups: dict[str, Speedup] = field(default_factory=dict)
    fidelity: Fidelity | None = None
    warnings: tuple[str, ...] = ()
    images: str = ""
    change: Interval | None = None
    prompts: tuple[str, ...] = ()


def measure(session: ModelSession, folder: Path, text: ScoredText | None, plan: Plan) -> Measurements:
    """Measure the dense model and the one that `plan` has left in `folder`, in turn, on the same inputs."""
    if not session.fits(session.dtype, copies=2):
        return Measurements(warnings=("Both models don't fit into memory; nothing was measured.",))
    pruned = load_model(folder, session.checkpoint.adapter, session.dtype, session.device, True)
    models = (session.model, pruned)
    if text is None:
        return _compare_outputs(session, models, plan)
    tokenizers = (session.tokenizer_if_any, load_tokenizer(folder) if VOCABULARY in plan.keep else None)
    with session.progress.step("measure perplexity"):
        losses = _losses(session, pruned, text, tokenizers[1])
    with session.progress.step("measure latency, dense and pruned in turn"):
        times = _times(session, models)
    prompts, texts = _samples(session, pruned, tokenizers[1] or tokenizers[0])
    medians = [{name: spread(series).median for name, series in of_one.items()} for of_one in times]
    before, after = (
        Behaviour(*seen) for seen in zip((each.score for each in losses), medians, texts, strict=True)
    )
    speedups = {name: speedup(times[0][name], times[1][name]) for name in times[0]}
    change = losses[1].change_from(losses[0])
    return Measurements(before, after, text.name, speedups, change=change, prompts=prompts)


def _losses(
    session: ModelSession, pruned: nn.Module, text: ScoredText, tokenizer: Any
) -> tuple[WindowLosses, WindowLosses]:
    """Return what both models lose on a text; each reads it by its own tokenizer where `tokenizer` is new."""
    if tokenizer is None:
        return session.once(("losses", text.name), lambda: text.losses(session.model)), text.losses(pruned)
    pieces = text.pieces(session.tokenizer)
    dense = session.once(
        ("pieces", text.name), lambda: piece_losses(session.model, session.tokenizer, pieces)
    )
    return dense, piece_losses(pruned, tokenizer, pieces)


def _compare_outputs(session: ModelSession, models: tuple[nn.Module, ...], plan: Plan) -> Measurements:
    """Compare models that don't write text: their outputs and their speed, on noise."""
    tokens = {name: kept for name, kept in plan.keep.items() if name == VOCABULARY}
    inputs = {
        name: ids % len(tokens[VOCABULARY]) if tokens else ids for name, ids in session.probe(NOISE).items()
    }
    one = {name: tensor[:1] for name, tensor in inputs.items()}
    with (
        session.progress.step("compare outputs, dense and pruned"),
        torch.no_grad(),
        masked(session.model, session.checkpoint.graph, replace(plan, keep=tokens)),
    ):
        closeness = fidelity(*(model(**inputs) for model in models))
    with session.progress.step("measure latency, dense and pruned in turn"):
        runs = [partial(time_model, model, one, 0) for model in models]
        series = [[time.prefill for time in times] for times in _in_turn(runs)]
    workload = (
        "Forward pass (one image)"
        if session.checkpoint.adapter.task == "vision"
        else "Forward pass (one text)"
    )
    before, after = (Behaviour(latency={workload: spread(times).median}) for times in series)
    gain = speedup(series[0], series[1])
    return Measurements(before, after, "seeded noise", {workload: gain}, closeness)


def choose_text(session: ModelSession, file: Path | None) -> ScoredText | None:
    """Return what models are scored on: a file, or text that the dense model writes.

    None for models that don't write text.

    Raises:
        UsageError: when the file can't be read, or has nothing to predict.
    """
    checkpoint = session.checkpoint
    if checkpoint.adapter.task != "causal":
        return None
    if file is not None:
        tokens = token_ids(session.model, session.tokenizer, read_text(file))
        if len(tokens) < 2:
            raise UsageError(f"The text {file} has {len(tokens)} tokens; there is nothing to predict in it.")
        start = start_of_text(session.model, session.tokenizer)
        pieces = tokens.split(min(WINDOW, context_of(session.model)) - 1)
        return ScoredText(file.name, lambda model: window_losses(model, tokens, bos=start), pieces)
    ids = own_text(session)
    tokens, window, first = ids[:, 1:].flatten(), ids.shape[1], int(ids[0, 0])
    return ScoredText(
        "text sampled from the dense model",
        lambda model: window_losses(model, tokens, window, bos=first),
        list(ids[:, 1:]),
    )


def own_text(session: ModelSession) -> Tensor:
    """Return evaluation text sampled from the dense model, shape (samples, length), with start tokens."""
    return session.once(OWN_TEXT, lambda: session.written("sample evaluation text", OWN_TEXT))["input_ids"]


def _times(session: ModelSession, models: tuple[nn.Module, ...]) -> list[dict[str, list[float]]]:
    """Return, per model, the seconds of every workload's repeats."""
    networks: tuple[Any, ...] = models
    vocabulary = min(session.checkpoint.adapter.tokens(network.config.to_dict()) for network in networks)
    length = min(PROMPT_TOKENS, context_of(session.model) - DECODED)
    generator = torch.Generator().manual_seed(0)
    prompt = torch.randint(0, vocabulary, (1, length), generator=generator).to(session.device)
    runs = [partial(time_model, model, {"input_ids": prompt}, DECODED) for model in models]
    return [
        {
            f"Prefill ({length} tokens)": [time.prefill for time in times],
            "Decode (per token)": [time.decode or 0.0 for time in times],
        }
        for times in _in_turn(runs)
    ]


def _in_turn(runs: Sequence[Callable[[], ModelTime]]) -> list[list[ModelTime]]:
    """Time all runs in turn, for as many rounds as fit into the time, whatever the results are."""
    once = sum(t.prefill + DECODED * (t.decode or 0.0) for times in interleaved(runs, 1) for t in times)
    return interleaved(runs, min(MOST, max(FEWEST, int(SECONDS / once))))


def _samples(
    session: ModelSession, pruned: nn.Module, tokenizer: Any
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return prompts, and what either model answers; nothing without a tokenizer to read them.

    Args:
        tokenizer: of the pruned model.
    """
    if tokenizer is None:
        return (), [(), ()]
    prompts = QUESTIONS if chats(tokenizer) else PROMPTS

    def written(model: nn.Module, tokenizer: Any) -> tuple[str, ...]:
        return tuple(reply_to(model, tokenizer, prompt, WRITTEN).text for prompt in prompts)

    with session.progress.step("sample generations"):
        before = session.once("samples", lambda: written(session.model, session.tokenizer))
        return prompts, [before, written(pruned, tokenizer)]
