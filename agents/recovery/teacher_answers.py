"""What the dense model predicts on the batches a student learns from: computed once, cached on disk."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from prunepolicy.agents.recovery.task import logits_of
from prunepolicy.agents.recovery.top_k import TopK
from prunepolicy.pruning.io.cache import cache_folder, recalled, remember, trim
from prunepolicy.pruning.io.safetensors_file import read_header, safetensors_bytes, tensor_bytes
from prunepolicy.pruning.session.opened_model import OpenedModel

MOST_CACHED = 4 << 30
"""Bytes of answers that stay on disk; those used longest ago go first."""


@dataclass(frozen=True)
class TeacherAnswers:
    """Answers of the dense model.

    A batch always holds the same windows, so that an answer that was cached and one that is computed again
    have the same bytes.

    Attributes:
        k: tokens per position.
    """

    teacher: OpenedModel
    k: int

    def __call__(self, windows: Tensor) -> TopK:
        """Return the answers on one batch, shape (windows, length), on the model's device."""
        name = hashlib.sha256(self._key.encode() + tensor_bytes(windows)).hexdigest()[:32]
        file = cache_folder() / "answers" / f"{name}.safetensors"
        found = recalled(file, lambda file: self._read(file, windows))
        if found is None:
            found = self.computed(windows)
            remember(file, safetensors_bytes({"tokens": found.tokens, "log_probs": found.log_probs}))
        return TopK(found.tokens.to(self.teacher.device), found.log_probs.to(self.teacher.device))

    def finish(self) -> None:
        """Keep the cache within its bound."""
        trim(cache_folder() / "answers", MOST_CACHED)

    @torch.no_grad()
    def computed(self, windows: Tensor) -> TopK:
        """Return the answers on one batch, whatever the cache holds."""
        model = self.teacher.model.eval()
        return TopK.of(logits_of(model(input_ids=windows.to(self.teacher.device), use_cache=False)), self.k)

    @property
    def _key(self) -> str:
        teacher = self.teacher
        return f"{teacher.checkpoint.fingerprint} {teacher.dtype} {teacher.device.type} {self.k}"

    def _read(self, file: Path, windows: Tensor) -> TopK:
        """Return cached answers; raise `ValueError` when they are damaged."""
        tensors = {entry.name: entry.read() for entry in read_header(file)}
        found = TopK(tensors["tokens"], tensors["log_probs"])
        embedding: Any = self.teacher.model.get_input_embeddings()  # type: ignore[operator]
        known = (found.tokens >= 0) & (found.tokens < len(embedding.weight))
        if found.tokens.shape[:2] != windows.shape or found.log_probs.shape != found.tokens.shape:
            raise ValueError("answers to something else")
        if not known.all() or not found.log_probs.isfinite().all():
            raise ValueError("no tokens and probabilities")
        return found
