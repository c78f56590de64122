"""What scores the channels for a text, by the name that a user gives it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from prunepolicy.policy.adaptive.selection import Chooser
from prunepolicy.policy.kinds.text import Text
from prunepolicy.policy.load import load_policy
from prunepolicy.policy.text_scores import TextScorer, text_scorers
from prunepolicy.policy.text_scores.blend import UNTUNED
from prunepolicy.policy.text_scores.registry import flat
from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.statistics.probe import Probe, probe_inputs
from prunepolicy.pruning.statistics.text_energy import outgoing_norms, texts_energy
from prunepolicy.pruning.statistics.writing import written_once

BUILT_IN = ("plain", "blend", "generic")
"""Scorers that need no texts but those that the model writes from its start token and from random ones."""
GENERIC = Probe("varied")


@dataclass(frozen=True)
class Running:
    """A model that is running, and the checkpoint that it comes from.

    Attributes:
        probe: the text that is taken for text of all kinds.
    """

    checkpoint: Checkpoint
    model: nn.Module
    tokenizer: Any
    probe: Probe = GENERIC

    def generic(self) -> Tensor:
        """Return the energies on the model's own varied text, group after group; kept between runs."""
        found, dtype = self.checkpoint, str(next(self.model.parameters()).dtype)

        def read() -> Tensor:
            inputs = probe_inputs(self.probe, self.model, found.adapter, self.tokenizer, found.fingerprint)
            return flat(texts_energy(self.model, found.graph, inputs["input_ids"]).energy)

        return written_once(["generic energies", found.fingerprint, dtype, asdict(self.probe)], read)


def chooser_named(policy: str | Path, running: Running) -> Chooser:
    """Return what a policy's name or folder means for a model.

    Raises:
        UsageError: when there is no such policy, it doesn't read text, or knows another model's channels.
    """
    built_in = isinstance(policy, str) and policy in BUILT_IN
    scorer = _built_in(str(policy), running) if built_in else _saved(policy, running.checkpoint)
    norms = outgoing_norms(running.model, running.checkpoint.graph)
    return lambda few: scorer.scores(few, norms)


def _built_in(name: str, running: Running) -> TextScorer:
    scorer = text_scorers[name]()
    if name != "plain":
        scorer.numbers = {"generic": running.generic(), "weight": torch.tensor([UNTUNED])}
    return scorer


def _saved(source: str | Path, checkpoint: Checkpoint) -> TextScorer:
    policy = load_policy(source)
    if not isinstance(policy, Text):
        raise UsageError(
            f"The policy {policy.name!r} doesn't read text; {', '.join(BUILT_IN)} and those of kind text do."
        )
    if policy.config.network not in ("", checkpoint.fingerprint):
        raise UsageError(f"The policy {policy.name!r} knows the channels of another network than this one.")
    return policy.scorer
