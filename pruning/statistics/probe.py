"""Calibration data: text sampled from the model, its start token, or the user's text."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from prunepolicy.pruning.adapters import ModelAdapter
from prunepolicy.pruning.checkpoint.context import context_of
from prunepolicy.pruning.checkpoint.tokens import check_known, token_ids
from prunepolicy.pruning.errors import PrunePolicyError, UsageError
from prunepolicy.pruning.io.text_file import read_text
from prunepolicy.pruning.statistics.writing import continued, written_once
from prunepolicy.pruning.vocabulary.languages import scripts_of

WRITTEN = ("self", "varied")
"""Sources that the model writes itself; with `+` and the path of a text file, its text to equal parts."""
WITHOUT_FILE = (*WRITTEN, "start")
"""Sources that need no text of the user's."""

READ_BATCH = 8
Inputs = Mapping[str, Tensor]
Tick = Callable[[int], None]
"""Called with the number of samples, or of tokens written, just done."""


@dataclass(frozen=True)
class Probe:
    """Which calibration data a model's statistics are collected on.

    Attributes:
        source: `self` (text the model samples from its start token at temperature 1), `varied` (every
            second text starts with a random token instead, which leads to more kinds of text), `start`
            (the start token alone), the path of a text file, or `self+PATH` or `varied+PATH` for both.
            Models that don't write text are calibrated on seeded noise.
        samples: number of sequences (or images), of either part where there are two.
        length: tokens per sequence.
        seed: of the sampling.
        languages: in which the model will be used, as in `en,de`: tokens of other scripts are worth nothing;
            empty for all. What the model writes and reads doesn't depend on it.

    Raises:
        UsageError: for too few samples, or an unknown language.
    """

    source: str = "self"
    samples: int = 64
    length: int = 128
    seed: int = 0
    languages: str = ""

    def __post_init__(self) -> None:
        if self.samples < 1 or self.length < 2:
            raise UsageError("Calibration data needs at least one sample of at least two tokens.")
        _ = self.scripts

    @property
    def scripts(self) -> frozenset[str]:
        """The scripts of the languages; empty for all."""
        return scripts_of(self.languages) if self.languages else frozenset()

    @property
    def written(self) -> str | None:
        """The source of what the model writes itself, if it writes any of it."""
        if self.source in WRITTEN:
            return self.source
        return next((name for name in WRITTEN if self.source.startswith(f"{name}+")), None)

    @property
    def file(self) -> Path | None:
        """The user's text in it, if there is one."""
        if self.source in WITHOUT_FILE:
            return None
        return Path(self.source.removeprefix(f"{self.written}+") if self.written else self.source)


def probe_inputs(
    probe: Probe,
    model: nn.Module,
    adapter: ModelAdapter,
    tokenizer: Any,
    fingerprint: str,
    tick: Tick = lambda done: None,
) -> dict[str, Tensor]:
    """Return the model's keyword inputs for `probe`; self-written text is cached by fingerprint.

    No sequence is longer than the model's context. `tick` hears of tokens that the model writes.

    Raises:
        PrunePolicyError: when a probe text is missing or too short.
    """
    if adapter.task == "vision":
        return {"pixel_values": _noise_images(probe, model)}
    probe = replace(probe, length=min(probe.length, context_of(model)))
    if probe.written and probe.file:
        parts = (replace(probe, source=source) for source in (probe.written, str(probe.file)))
        found = [probe_inputs(part, model, adapter, tokenizer, fingerprint, tick) for part in parts]
        return adapter.reads(torch.cat([inputs["input_ids"] for inputs in found]))
    if adapter.task == "encoder" and probe.source in WITHOUT_FILE:
        return adapter.reads(_noise_tokens(probe, model))
    if probe.source == "start":
        return {"input_ids": torch.full((1, 1), start_token(model, tokenizer))}
    if probe.source in WRITTEN:
        return {"input_ids": _cached_writing(probe, model, tokenizer, fingerprint, tick)}
    return adapter.reads(text_windows(Path(probe.source), model, tokenizer, probe))


def start_token(model: nn.Module, tokenizer: Any) -> int:
    """Return the id of the token with which the model starts a text."""
    config: Any = model.config.get_text_config()  # type: ignore[operator, union-attr]
    candidates = (
        getattr(tokenizer, "bos_token_id", None),
        getattr(config, "bos_token_id", None),
        getattr(tokenizer, "eos_token_id", None),
        getattr(config, "eos_token_id", None),
    )
    start = next((int(token) for token in candidates if isinstance(token, int)), 0)
    if tokenizer is not None:
        check_known(model, tokenizer, [start])
    return start


def write_text(model: nn.Module, start: int, probe: Probe, tick: Tick = lambda done: None) -> Tensor:
    """Sample (samples, length) tokens from the model's own distribution, temperature 1.

    End-of-text tokens don't stop a sequence: the model goes on with its next document.
    """
    generator = torch.Generator().manual_seed(probe.seed)
    beginnings = list(_first_tokens(model, start, probe))
    return continued(model, beginnings, probe.length, generator, tick=tick)


def _first_tokens(model: nn.Module, start: int, probe: Probe) -> Tensor:
    """Return what texts start with, shape (samples, 1)."""
    first = torch.full((probe.samples, 1), start)
    if probe.source == "varied":
        embeddings: Any = model.get_input_embeddings()  # type: ignore[operator]
        generator = torch.Generator().manual_seed(probe.seed)
        drawn = torch.randint(embeddings.num_embeddings, first[1::2].shape, generator=generator)
        first[1::2] = drawn
    return first


def text_windows(file: Path, model: nn.Module, tokenizer: Any, probe: Probe) -> Tensor:
    """Return evenly spaced windows of a text file, shape (samples, length)."""
    if tokenizer is None:
        raise PrunePolicyError(
            f"The model has no tokenizer to read {file} with; put its tokenizer.json there."
        )
    text = read_text(file, "calibration text")
    tokens = token_ids(model, tokenizer, text)
    windows = len(tokens) // probe.length
    if windows == 0:
        raise PrunePolicyError(
            f"The calibration text {file} has {len(tokens)} tokens; at least {probe.length} are needed."
        )
    count = min(probe.samples, windows)
    starts = torch.arange(count) * (windows // count) * probe.length
    return tokens[starts[:, None] + torch.arange(probe.length)]


def batches_of(inputs: Inputs) -> Iterator[dict[str, Tensor]]:
    """Yield slices of a few samples."""
    count = len(next(iter(inputs.values())))
    for first in range(0, count, READ_BATCH):
        yield {name: tensor[first : first + READ_BATCH] for name, tensor in inputs.items()}


def read_inputs(model: nn.Module, inputs: Inputs, tick: Tick = lambda done: None) -> int:
    """Run the model over all inputs for what its hooks see, and return the number of passes.

    Nobody reads the logits, so they are computed for one token only.
    """
    passes = 0
    for batch in batches_of(inputs):
        read_whole(model, batch)
        passes += 1
        tick(len(next(iter(batch.values()))))
    return passes


@torch.no_grad()
def read_whole(model: nn.Module, inputs: Mapping[str, Any]) -> Any:
    """Run the model over all inputs in one batch, for hooks that have to see them together."""
    accepts = inspect.signature(model.forward).parameters
    return model(**inputs, **({"logits_to_keep": 1} if "logits_to_keep" in accepts else {}))


def _cached_writing(probe: Probe, model: nn.Module, tokenizer: Any, fingerprint: str, tick: Tick) -> Tensor:
    dtype, start = str(next(model.parameters()).dtype), start_token(model, tokenizer)
    sampling = {name: value for name, value in asdict(probe).items() if name != "languages"}
    key = [fingerprint, sampling, dtype, start] if fingerprint else None
    return written_once(key, lambda: write_text(model, start, probe, tick))


def _noise_tokens(probe: Probe, model: nn.Module) -> Tensor:
    generator = torch.Generator().manual_seed(probe.seed)
    config: Any = model.config.get_text_config()  # type: ignore[operator, union-attr]
    return torch.randint(0, int(config.vocab_size), (probe.samples, probe.length), generator=generator)


def _noise_images(probe: Probe, model: nn.Module) -> Tensor:
    generator = torch.Generator().manual_seed(probe.seed)
    config: Any = model.config
    side = int(getattr(config, "image_size", 224))
    channels = int(getattr(config, "num_channels", 3))
    return torch.randn(probe.samples, channels, side, side, generator=generator)
