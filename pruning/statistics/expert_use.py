"""How a layer's experts are used on calibration data: how often, how surely, and what they write."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from prunepolicy.pruning.adapters.expert_gates import ExpertPass, Routing, watch_experts
from prunepolicy.pruning.checkpoint.streamed import runs_again
from prunepolicy.pruning.statistics.gates import find_module
from prunepolicy.pruning.units import UnitGroup

CONFIDENT = 0.1
"""Share of a token's routing, among its chosen experts, from which on a choice counts as sure."""


class ExpertUse:
    """Running sums over the tokens that one layer's router sends to its experts.

    Args:
        group: the layer's experts, whose gate names the router and the module that holds the experts.
    """

    def __init__(self, model: nn.Module, group: UnitGroup) -> None:
        assert group.gate is not None
        self.router = find_module(model, group.gate.module)
        self.experts = find_module(model, group.gate.also[0])
        self.tokens = 0
        self.sums = torch.zeros(5, group.size, dtype=torch.float64)
        """Tokens sent, routing weights, sure logits, output norms, output norms times weights."""

    def watch(self, stack: ExitStack) -> None:
        """Look at every pass until `stack` unwinds."""
        stack.callback(self.router.register_forward_hook(self._routed).remove)
        watch_experts(stack, self.experts, self._written)

    def statistics(self) -> dict[str, Tensor]:
        """Return one number per expert, by the name of the statistic.

        `routed` is the share of tokens sent to it, `output` its mean routing weight over all tokens,
        `sure_logit` the mean over all tokens of the logits of sure choices; `written` the mean norm of its
        output and `weighted_output` that of its weighted output, over the tokens sent to it.
        """
        routed, weights, logits, written, weighted = self.sums.float()
        tokens, sent = max(1, self.tokens), routed.clamp(min=1)
        return {
            "routed": routed / tokens,
            "output": weights / tokens,
            "sure_logit": logits / tokens,
            "written": written / sent,
            "weighted_output": weighted / sent,
        }

    def _routed(self, router: Any, inputs: tuple[Tensor, ...], output: Routing) -> None:
        if runs_again():
            return
        _, weights, experts = output
        hidden = inputs[0].detach().reshape(-1, inputs[0].shape[-1])
        # What routers call logits are probabilities in some families.
        bias = getattr(router, "bias", None)
        scores = F.linear(hidden.float(), router.weight.float(), None if bias is None else bias.float())
        logits = scores.gather(1, experts)
        sure = logits.softmax(-1) >= CONFIDENT
        self.tokens += len(hidden)
        for row, values in enumerate((torch.ones_like(logits), weights.detach().float(), logits * sure)):
            self._add(row, experts, values)

    def _written(self, done: ExpertPass) -> None:
        if runs_again():
            return
        norms = done.written.detach().float().norm(dim=-1)
        self.sums[3, done.expert] += float(norms.sum())
        self.sums[4, done.expert] += float((norms * done.weights.detach()[:, 0].float()).sum())

    def _add(self, row: int, experts: Tensor, values: Tensor) -> None:
        self.sums[row].index_add_(0, experts.flatten().cpu(), values.flatten().double().cpu())
