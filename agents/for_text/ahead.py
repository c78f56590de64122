"""What a text scorer wants to see of a text beside its statistic: what the model goes on with."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from prunepolicy.policy.text_scores import TextScorer
from prunepolicy.policy.text_scores.registry import apart, flat
from prunepolicy.pruning.session.model_session import ModelSession
from prunepolicy.pruning.statistics.probe import start_token
from prunepolicy.pruning.statistics.text_ahead import TO_WRITE, energy_ahead, lead_ins
from prunepolicy.pruning.statistics.text_energy import TextEnergy
from prunepolicy.pruning.statistics.writing import written_once


def seen_by(
    scorer: TextScorer, session: ModelSession, few: TextEnergy, tokens: Tensor, seed: int = 0
) -> TextEnergy:
    """Return a text's statistic with what the model goes on with, where the scorer looks ahead.

    What was once written is kept between runs, as its statistic.

    Args:
        few: the statistic of `tokens`, shape (length,).
        seed: of the sampling.
    """
    if not scorer.looks_ahead:
        return few
    model, graph = session.model, session.checkpoint.graph
    beginnings = lead_ins(tokens.cpu(), start_token(model, session.tokenizer_if_any))
    key = ["ahead", session.checkpoint.fingerprint, str(session.dtype), beginnings.tolist(), seed]
    with session.progress.step("go on with the text", TO_WRITE) as tick:

        def write() -> Tensor:
            generator = torch.Generator().manual_seed(seed)
            return flat(energy_ahead(model, graph, beginnings, generator, tick).energy)

        energies = written_once(key, write)
        if not tick.done:
            tick.remark = "reused"
    return replace(few, ahead=TextEnergy(TO_WRITE, apart(energies, few.energy)))
