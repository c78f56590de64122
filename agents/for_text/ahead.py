"""What the model goes on with after places in a text: for its statistic, and to calibrate a repair on."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from prunepolicy.policy.text_scores import TextScorer
from prunepolicy.pruning.io.atomic import write_text
from prunepolicy.pruning.io.cache import cache_folder, made_once
from prunepolicy.pruning.session.model_session import ModelSession
from prunepolicy.pruning.statistics.probe import start_token
from prunepolicy.pruning.statistics.text_ahead import LENGTH, TO_WRITE, energy_ahead, lead_ins
from prunepolicy.pruning.statistics.text_energy import TextEnergy
from prunepolicy.pruning.statistics.writing import goes_on, written_once

FILE = "calibration.txt"


def seen_by(
    scorer: TextScorer, session: ModelSession, few: TextEnergy, tokens: Tensor, seed: int = 0
) -> TextEnergy:
    """Return a text's statistic with what the model goes on with, where the scorer looks ahead.

    Args:
        few: the statistic of `tokens`, shape (length,).
        seed: of the sampling.
    """
    if not scorer.looks_ahead:
        return few
    rows = continuations(session, tokens, seed)
    return replace(few, ahead=energy_ahead(session.model, session.checkpoint.graph, rows))


def continuations(session: ModelSession, tokens: Tensor, seed: int = 0) -> Tensor:
    """Return pieces of a text, each with what the model goes on with; kept between runs.

    Args:
        tokens: of the text, shape (length,).
        seed: of the sampling.

    Returns:
        Shape (places, tokens): the start token, the piece, and `LENGTH` tokens of the model's.
    """
    place = ("continuations", tuple(tokens.tolist()), seed)
    return session.once(place, lambda: _continued(session, tokens, seed))


def _continued(session: ModelSession, tokens: Tensor, seed: int) -> Tensor:
    beginnings = lead_ins(tokens.cpu(), start_token(session.model, session.tokenizer_if_any))
    key = ["continuations", session.checkpoint.fingerprint, str(session.dtype), beginnings.tolist(), seed]
    with session.progress.step("go on with the text", TO_WRITE) as tick:

        def write() -> Tensor:
            return goes_on(session.model, beginnings, LENGTH, torch.Generator().manual_seed(seed), tick)

        rows = written_once(key, write)
        if not tick.done:
            tick.remark = "reused"
    return rows


def calibration_file(session: ModelSession, tokens: Tensor, seed: int = 0) -> Path:
    """Return a file with a text and what the model goes on with; once written, it is cached."""
    rows = continuations(session, tokens, seed)
    texts = [session.tokenizer.decode(row, skip_special_tokens=True) for row in (tokens, *rows)]
    name = hashlib.sha256(json.dumps([session.checkpoint.fingerprint, texts]).encode()).hexdigest()[:32]
    folder = made_once(
        name, lambda folder: write_text(folder / FILE, "\n\n".join(texts) + "\n"), cache_folder() / "examples"
    )
    return folder / FILE
