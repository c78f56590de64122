"""Generation with transformers and its cache, batched; the one door for it.

Prompts are padded on the left and read once however many completions they get; rows that have ended leave
the batch. A token is chosen by one uniform number drawn beforehand from the request's own generator, so
that a request gets the same completions in every process that is given the same chunk of requests.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from prunepolicy.agents.thinking.lm.engines.registry import Completions, Engine, Request, Sampling, engines
from prunepolicy.pruning.io.precision import parse_device

CROWDED = 0.8
"""Ended rows leave once the others are fewer than this share of the batch: leaving costs a copy."""


@engines.register
class TransformersEngine(Engine):
    """Runs a model in this process, on whatever device it lies."""

    def __init__(self, model: Any, device: str = "auto") -> None:
        self.model, self.device = model, device

    @classmethod
    def open(cls, model: Any, device: str = "auto") -> Self:
        """Return an engine for the model; it sees every change of its weights."""
        return cls(model, device)

    def __getstate__(self) -> dict[str, Any]:
        """Travel with the weights as they are now, by way of the processor."""
        model = self.model if self.model.device.type == "cpu" else copy.deepcopy(self.model).cpu()
        return {"model": model, "device": self.device}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Arrive on the device that its name means on this machine."""
        self.model, self.device = state["model"].to(parse_device(state["device"])), state["device"]

    @torch.no_grad()
    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Completions:
        """Write all completions of all requests."""
        training = self.model.training
        self.model.eval()
        try:
            batch = _Batch.of(self.model, requests, sampling)
            for step in range(sampling.max_tokens):
                if not batch.advance(step):
                    break
            return batch.completions()
        finally:
            self.model.train(training)


@dataclass
class _Batch:
    """Rows that are being written.

    Attributes:
        rows: which of all rows are still in the batch, (alive,).
        logits: of the next token, (alive, vocabulary).
        mask: what attention sees, (alive, tokens so far).
        answers: rows that are made to answer at once; `thinks`: rows that are kept from it; `halved`: rows
            whose mode a fair coin chose, which their log-probability then says.
    """

    model: Any
    sampling: Sampling
    cache: Any
    logits: Tensor
    mask: Tensor
    uniforms: Tensor
    answers: Tensor
    thinks: Tensor
    halved: Tensor
    rows: Tensor
    tokens: Tensor
    log_probs: Tensor
    lengths: Tensor
    ended: Tensor

    @classmethod
    def of(cls, model: Any, requests: Sequence[Request], sampling: Sampling) -> _Batch:
        """Read every prompt once, and give each of its completions a row."""
        from transformers import DynamicCache

        device = model.device
        ids, mask = left_padded([request.prompt for request in requests], sampling.pad)
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        cache = DynamicCache(config=model.config)
        out = model(
            input_ids=ids.to(device),
            attention_mask=mask.to(device),
            position_ids=positions.to(device),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        counts = torch.tensor([request.count for request in requests])
        owner = torch.arange(len(requests)).repeat_interleave(counts)
        cache.batch_select_indices(owner.to(device))
        number, width = len(owner), sampling.max_tokens
        return cls(
            model,
            sampling,
            cache,
            out.logits[:, -1].float()[owner.to(device)],
            mask[owner].to(device),
            torch.cat([_uniforms(request, width) for request in requests]).to(device),
            torch.cat([torch.arange(r.count) < r.answers for r in requests]).to(device),
            torch.cat([torch.arange(r.count) >= r.count - r.thinks for r in requests]).to(device),
            torch.tensor([r.force == "half" for r in requests])[owner].to(device),
            torch.arange(number, device=device),
            torch.full((number, width), sampling.pad, device=device),
            torch.zeros(number, width, device=device),
            torch.zeros(number, dtype=torch.long, device=device),
            torch.zeros(number, dtype=torch.bool, device=device),
        )

    def advance(self, step: int) -> bool:
        """Write one token into every row that hasn't ended; return whether any is left."""
        chosen, log_probs = self._choose(step)
        writing = ~self.ended[self.rows]
        alive = self.rows[writing]
        self.tokens[alive, step] = chosen[writing]
        self.log_probs[alive, step] = log_probs[writing]
        self.lengths[alive] += 1
        self.ended[alive] = torch.isin(chosen[writing], torch.tensor(self.sampling.end, device=alive.device))
        left = int((~self.ended[alive]).sum())
        if left and step + 1 < self.sampling.max_tokens:
            if left < CROWDED * len(self.rows):
                chosen = self._leave(chosen)
            self._read(chosen)
        return left > 0

    def completions(self) -> Completions:
        """Return what was written, on the CPU."""
        longest = int(self.lengths.max())
        return Completions(
            self.tokens[:, :longest].cpu(),
            self.lengths.cpu(),
            self.log_probs[:, :longest].cpu(),
            self.ended.cpu(),
        )

    def _choose(self, step: int) -> tuple[Tensor, Tensor]:
        """Return the next token of every row, and its log-probability under what it was drawn from."""
        scaled = self.logits / (self.sampling.temperature or 1.0)
        log_probs = scaled.log_softmax(-1)
        closing = self.sampling.closing
        if step == 0:
            opened = log_probs[self.thinks[self.rows]]
            opened[:, closing[0]] = -torch.inf
            log_probs[self.thinks[self.rows]] = opened.log_softmax(-1)
        if self.sampling.temperature:
            chosen = _drawn(log_probs, self.uniforms[self.rows, step])
        else:
            chosen = log_probs.argmax(-1)
        if step < len(closing):
            chosen = torch.where(self.answers[self.rows], closing[step], chosen)
        taken = log_probs.gather(1, chosen[:, None])[:, 0]
        return chosen, self._corrected(taken, step)

    def _corrected(self, taken: Tensor, step: int) -> Tensor:
        """Put a fair coin in the place of the model's own decision where a request decided.

        Source: AdaptThink's importance sampling (arXiv 2505.13417, section 3.2).
        """
        if step:
            return taken
        answers, thinks, halved = self.answers[self.rows], self.thinks[self.rows], self.halved[self.rows]
        coin = torch.tensor(0.5, device=taken.device).log()
        taken = torch.where(answers & halved, coin, taken)
        return torch.where(thinks & halved, taken + coin, taken)

    def _leave(self, chosen: Tensor) -> Tensor:
        """Take ended rows out of the batch, and return the tokens of the others."""
        staying = (~self.ended[self.rows]).nonzero()[:, 0]
        self.cache.batch_select_indices(staying)
        self.rows, self.mask = self.rows[staying], self.mask[staying]
        return chosen[staying]

    def _read(self, chosen: Tensor) -> None:
        """Run the model on the tokens just chosen."""
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(self.mask), 1)], 1)
        positions = self.mask.sum(1, keepdim=True) - 1
        out = self.model(
            input_ids=chosen[:, None],
            attention_mask=self.mask,
            position_ids=positions,
            past_key_values=self.cache,
            use_cache=True,
        )
        self.logits = out.logits[:, -1].float()


def left_padded(rows: Sequence[Sequence[int]], pad: int) -> tuple[Tensor, Tensor]:
    """Return token ids and attention mask, (rows, longest), with padding on the left."""
    longest = max(map(len, rows))
    ids = torch.tensor([[pad] * (longest - len(row)) + list(row) for row in rows])
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
    return ids, mask


def _uniforms(request: Request, width: int) -> Tensor:
    """Return the numbers that choose a request's tokens, (completions, tokens)."""
    return torch.rand(request.count, width, generator=torch.Generator().manual_seed(request.seed))


def _drawn(log_probs: Tensor, uniforms: Tensor) -> Tensor:
    """Return the token at which the cumulated probability exceeds the uniform number, (rows,)."""
    cumulated = log_probs.exp().cumsum(-1)
    target = uniforms[:, None] * cumulated[:, -1:]
    return torch.searchsorted(cumulated, target, right=True)[:, 0].clamp(max=log_probs.shape[1] - 1)
