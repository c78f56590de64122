"""Gate gradients: how every sample's loss would change if a unit's gate moved."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from prunepolicy.pruning.errors import PrunePolicyError
from prunepolicy.pruning.plan import Plan
from prunepolicy.pruning.proof.answers import answer_of
from prunepolicy.pruning.statistics.gates import gates, keep_values
from prunepolicy.pruning.statistics.probe import Inputs, Tick, batches_of
from prunepolicy.pruning.statistics.stats import Stats
from prunepolicy.pruning.units import UnitGraph, UnitGroup


def gate_gradients(
    model: nn.Module,
    graph: UnitGraph,
    groups: Iterable[UnitGroup],
    inputs: Inputs,
    plan: Plan | None = None,
    seed: int = 0,
    tick: Tick = lambda done: None,
) -> Stats:
    """Return, per group, the gradient of every sample's loss with respect to every gate.

    Gates of units that `plan` removes are at 0: their gradients say what bringing them back would do.
    One backward pass serves a whole batch: each sample has gates of its own. The loss is that of
    predicting the model's own output: the next token for text it wrote, a label drawn from its
    own distribution for a classifier, and a random projection of scores and hidden states.

    Raises:
        PrunePolicyError: when a gradient is no number.
    """
    chosen = [group for group in groups if group.gate]
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    rows: dict[str, list[Tensor]] = {group.name: [] for group in chosen}
    closed = keep_values(graph, plan, torch.float32, device) if plan else {}
    others = {name: values for name, values in closed.items() if name not in rows}
    trainable = [p for p in model.parameters() if p.requires_grad]
    for parameter in trainable:
        parameter.requires_grad_(False)
    try:
        with gates(model, graph, others):
            for batch in batches_of(inputs):
                count = len(next(iter(batch.values())))
                values = {
                    g.name: closed.get(g.name, torch.ones(g.size, device=device)).repeat(count, 1)
                    for g in chosen
                }
                for value in values.values():
                    value.requires_grad_()
                with gates(model, graph, values):
                    sample_losses(model, batch, generator).sum().backward()
                for name, value in values.items():
                    rows[name].append(_gradient_of(name, value))
                tick(count)
    finally:
        for parameter in trainable:
            parameter.requires_grad_(True)
    return Stats({"gradients": {name: torch.cat(parts) for name, parts in rows.items()}})


def sample_losses(model: nn.Module, batch: Inputs, generator: torch.Generator) -> Tensor:
    """Return one loss per sample, shape (batch,), in nats summed over the sample's tokens."""
    output: Any = model(**batch)
    answer, are_logits = answer_of(output)
    logits, tokens = answer.float(), batch.get("input_ids")
    if not are_logits or logits.shape[-1] == 1:  # A score alone is no distribution.
        noise = torch.randn(logits.shape, generator=generator).to(logits.device)
        return (logits * noise).flatten(1).sum(1)
    # A decoder that reads its encoder's text knows the next token, so that it is asked for its own answer.
    continues = "decoder_input_ids" not in batch and getattr(output, "past_key_values", None) is not None
    reads_on = logits.dim() == 3 and continues
    if tokens is not None and reads_on:
        logits, labels = logits[:, :-1], tokens[:, 1:]
    else:
        chances = logits.detach().softmax(-1).cpu().flatten(0, -2)
        labels = torch.multinomial(chances, 1, generator=generator).to(logits.device)
        labels = labels.reshape(logits.shape[:-1])
    losses = F.cross_entropy(logits.reshape(-1, logits.shape[-1]), labels.reshape(-1), reduction="none")
    return losses.reshape(len(labels), -1).sum(1)


def _gradient_of(name: str, value: Tensor) -> Tensor:
    if value.grad is None:  # No token of the batch came by this expert.
        return torch.zeros(value.shape)
    if not torch.isfinite(value.grad).all():
        raise PrunePolicyError(f"The gate gradients of {name!r} are no numbers; the model is damaged.")
    return value.grad.float().cpu()
