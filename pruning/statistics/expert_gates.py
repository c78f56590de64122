"""Gates of mixtures of experts: on the router, and on the channels inside stacked experts."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

Routing = tuple[Tensor, Tensor, Tensor]
"""Logits, weights and numbers of the chosen experts; the latter two (tokens, chosen)."""


class ExpertPass(NamedTuple):
    """What one expert did with the tokens that were sent to it.

    Attributes:
        expert: its number.
        channels: its hidden activations, (tokens, channels).
        weights: the tokens' routing weights, (tokens, 1).
        written: its outputs before they are weighted, (tokens, hidden).
    """

    expert: int
    channels: Tensor
    weights: Tensor
    written: Tensor


Seen = Callable[[ExpertPass], None]


class GatedRouter:
    """Stands in for a router's `forward`: experts at 0 don't compete, the others' weights are scaled.

    Args:
        router: maps hidden states (tokens, hidden) to a `Routing`, by a `weight` (experts, hidden).
        multipliers: (experts,) or (batch, experts).
    """

    def __init__(self, router: Any, multipliers: Tensor) -> None:
        self.router = router
        self.multipliers = multipliers

    def __call__(self, hidden_states: Tensor) -> Routing:
        """Route (tokens, hidden); with gates per sample, a sample's tokens lie next to each other."""
        if self.multipliers.dim() == 1:
            return self._route(hidden_states, self.multipliers)
        tokens = hidden_states.reshape(-1, hidden_states.shape[-1])
        samples = tokens.chunk(len(self.multipliers))
        routed = [self._route(*sample) for sample in zip(samples, self.multipliers, strict=True)]
        logits, weights, experts = (torch.cat(parts) for parts in zip(*routed, strict=True))
        return logits, weights, experts

    def _route(self, hidden: Tensor, multipliers: Tensor) -> Routing:
        kept = multipliers.detach().nonzero().flatten()
        narrow = copy.copy(self.router)
        narrow.__dict__["_parameters"] = {**self.router._parameters, "weight": self.router.weight[kept]}
        logits, weights, chosen = type(self.router).forward(narrow, hidden)
        experts = kept[chosen]
        everyone = logits.new_full((len(logits), len(multipliers)), -torch.inf).index_copy(1, kept, logits)
        return everyone, weights * multipliers[experts].to(weights.dtype), experts


class GatedExperts:
    """Stands in for the `forward` of stacked experts: the channels of some are scaled.

    Args:
        experts: holds `gate_up_proj` (experts, 2 * channels, hidden), `down_proj` (experts,
            hidden, channels) and `act_fn`.
        multipliers: expert to (channels,) or (batch, channels).
        seen: are shown what every expert did.
    """

    def __init__(self, experts: Any, multipliers: Mapping[int, Tensor], seen: Sequence[Seen] = ()) -> None:
        self.experts = experts
        self.multipliers = multipliers
        self.seen = seen

    def __call__(self, hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor) -> Tensor:
        """Return the weighted sum of the chosen experts' outputs, (tokens, hidden)."""
        output = torch.zeros_like(hidden_states)
        for expert in top_k_index.unique().tolist():
            tokens, place = torch.where(top_k_index == expert)
            gate, up = F.linear(hidden_states[tokens], self.experts.gate_up_proj[expert]).chunk(2, dim=-1)
            channels = self.experts.act_fn(gate) * up
            if expert in self.multipliers:
                channels = channels * self._rows(self.multipliers[expert], tokens, len(hidden_states))
            weights = top_k_weights[tokens, place, None].to(channels.dtype)
            written = F.linear(channels, self.experts.down_proj[expert])
            for seen in self.seen:
                seen(ExpertPass(expert, channels, weights, written))
            output = output.index_add(0, tokens, written * weights)
        return output

    def _rows(self, multipliers: Tensor, tokens: Tensor, total: int) -> Tensor:
        """Return the multipliers of every token; the tokens of a sample lie next to each other."""
        multipliers = multipliers.to(self.experts.down_proj.dtype)
        return multipliers if multipliers.dim() == 1 else multipliers[tokens // (total // len(multipliers))]


def gate_router(stack: ExitStack, router: nn.Module, multipliers: Tensor) -> None:
    """Gate the experts of `router` until `stack` unwinds; gates that are in force already multiply."""
    outer = router.__dict__.get("forward")
    if isinstance(outer, GatedRouter):
        multipliers = outer.multipliers * multipliers
    _replace_forward(stack, router, GatedRouter(router, multipliers))


def gate_expert(stack: ExitStack, experts: nn.Module, expert: int, multipliers: Tensor) -> None:
    """Gate the channels of one expert until `stack` unwinds; gates in force already multiply."""
    outer = experts.__dict__.get("forward")
    others = dict(outer.multipliers) if isinstance(outer, GatedExperts) else {}
    others[expert] = others[expert] * multipliers if expert in others else multipliers
    seen = outer.seen if isinstance(outer, GatedExperts) else ()
    _replace_forward(stack, experts, GatedExperts(experts, others, seen))


def watch_experts(stack: ExitStack, experts: nn.Module, seen: Seen) -> None:
    """Show `seen`, beside those who look already, what every expert does, until `stack` unwinds."""
    outer = experts.__dict__.get("forward")
    multipliers, others = (outer.multipliers, outer.seen) if isinstance(outer, GatedExperts) else ({}, ())
    _replace_forward(stack, experts, GatedExperts(experts, multipliers, (*others, seen)))


def _replace_forward(stack: ExitStack, module: nn.Module, forward: Callable[..., object]) -> None:
    outer = module.__dict__.get("forward")

    def restore() -> None:
        del module.forward
        if outer is not None:
            module.forward = outer

    module.forward = forward
    stack.callback(restore)
