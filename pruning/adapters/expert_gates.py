"""Gates of mixtures of experts: on the router, and on the channels inside stacked experts."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
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
        router: maps hidden states (tokens, hidden) to a `Routing`.
        multipliers: (experts,) or (batch, experts).
    """

    def __init__(self, router: nn.Module, multipliers: Tensor) -> None:
        self.router = router
        self.multipliers = multipliers

    def __call__(self, hidden_states: Tensor, *others: Tensor) -> Routing:
        """Route (tokens, hidden); with gates per sample, a sample's tokens lie next to each other.

        Args:
            others: what else the router is handed, such as a bias per expert.
        """
        if self.multipliers.dim() == 1:
            return self._route(hidden_states, self.multipliers, others)
        tokens = hidden_states.reshape(-1, hidden_states.shape[-1])
        samples = tokens.chunk(len(self.multipliers))
        routed = [self._route(*sample, others) for sample in zip(samples, self.multipliers, strict=True)]
        logits, weights, experts = (torch.cat(parts) for parts in zip(*routed, strict=True))
        return logits, weights, experts

    def _route(self, hidden: Tensor, multipliers: Tensor, others: Sequence[Tensor]) -> Routing:
        kept = multipliers.detach().nonzero().flatten()
        of_kept = partial(_of_kept, experts=len(multipliers), kept=kept)
        forward: Any = type(self.router).forward
        narrow = _narrowed(self.router, len(multipliers), kept)
        logits, weights, chosen = forward(narrow, hidden, *map(of_kept, others))
        experts = kept[chosen]
        everyone = logits.new_full((len(logits), len(multipliers)), -torch.inf).index_copy(1, kept, logits)
        return everyone, weights * multipliers[experts].to(weights.dtype), experts


def _narrowed(module: nn.Module, experts: int, kept: Tensor) -> nn.Module:
    """Return a copy of a router, or of a part of it, that knows the experts `kept` alone."""
    narrow = copy.copy(module)
    for held in ("_parameters", "_buffers"):
        tensors = vars(module)[held].items()
        vars(narrow)[held] = {
            name: None if tensor is None else _of_kept(tensor, experts, kept) for name, tensor in tensors
        }
    parts = module._modules.items()
    vars(narrow)["_modules"] = {name: part and _narrowed(part, experts, kept) for name, part in parts}
    counts = [name for name, value in vars(module).items() if name.endswith("experts") and value == experts]
    vars(narrow).update(dict.fromkeys(counts, len(kept)))
    return narrow


def _of_kept(tensor: Tensor, experts: int, kept: Tensor) -> Tensor:
    """Return the entries of some experts along the first axis that has one per expert."""
    axis = next((axis for axis, length in enumerate(tensor.shape) if length == experts), None)
    return tensor if axis is None else tensor.index_select(axis, kept)


def can_be_gated(module: nn.Module) -> bool:
    """Return whether a module holds stacked experts in the form that transformers runs by its own kernels."""
    stacked = isinstance(getattr(module, "down_proj", None), Tensor) and hasattr(module, "_apply_gate")
    return stacked and not getattr(module, "has_post_expert_norm", False)


class GatedExperts:
    """Stands in for the `forward` of stacked experts: the channels of some are scaled.

    Args:
        experts: holds `gate_up_proj`, or `up_proj` without a gate, and `down_proj`, (experts, outputs,
            inputs) or transposed, with biases or without.
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
            channels = self._channels(hidden_states[tokens], expert)
            if expert in self.multipliers:
                channels = channels * self._rows(self.multipliers[expert], tokens, len(hidden_states))
            weights = top_k_weights[tokens, place, None].to(channels.dtype)
            written = self._projected("down_proj", channels, expert)
            for seen in self.seen:
                seen(ExpertPass(expert, channels, weights, written))
            output = output.index_add(0, tokens, written * weights)
        return output

    def _channels(self, hidden: Tensor, expert: int) -> Tensor:
        if self.experts.has_gate:
            gated: Tensor = self.experts._apply_gate(self._projected("gate_up_proj", hidden, expert))
            return gated
        alone: Tensor = self.experts.act_fn(self._projected("up_proj", hidden, expert))
        return alone

    def _projected(self, name: str, hidden: Tensor, expert: int) -> Tensor:
        weight, biases = getattr(self.experts, name)[expert], getattr(self.experts, f"{name}_bias", None)
        weight = weight.T if self.experts.is_transposed else weight
        return F.linear(hidden, weight, None if biases is None else biases[expert])

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


def gate_expert(stack: ExitStack, experts: Any, expert: int | None, multipliers: Tensor) -> None:
    """Gate the channels of one expert, or of all, until `stack` unwinds; gates in force already multiply."""
    outer = experts.__dict__.get("forward")
    gated = dict(outer.multipliers) if isinstance(outer, GatedExperts) else {}
    for one in range(len(experts.down_proj)) if expert is None else (expert,):
        gated[one] = gated[one] * multipliers if one in gated else multipliers
    seen = outer.seen if isinstance(outer, GatedExperts) else ()
    _replace_forward(stack, experts, GatedExperts(experts, gated, seen))


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
