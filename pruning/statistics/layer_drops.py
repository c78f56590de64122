"""What single layers are worth, measured: the network runs once without each of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from prunepolicy.pruning.plan import Plan
from prunepolicy.pruning.proof.answers import answer_of
from prunepolicy.pruning.statistics.gates import gates, keep_values
from prunepolicy.pruning.statistics.probe import READ_BATCH, Inputs, Tick
from prunepolicy.pruning.statistics.stats import Stats
from prunepolicy.pruning.units import UnitGraph, UnitGroup

SAMPLES, LENGTH = 6, 48
"""As much of the probe is read; a divergence from the dense network itself takes little text."""


def layer_drops(
    model: nn.Module,
    graph: UnitGraph,
    groups: Iterable[UnitGroup],
    inputs: Inputs,
    plan: Plan | None = None,
    tick: Tick = lambda done: None,
) -> Stats:
    """Return, per group of layers, how far the output moves when a layer goes alone.

    That is the divergence of the predictions in nats per token, or, for networks without logits, the
    relative squared distance of the last hidden states. Layers that `plan` removes count as gone for
    the others, and say for themselves what bringing them back would do.
    """
    device = next(model.parameters()).device
    closed = keep_values(graph, plan, torch.float32, device) if plan else {}
    drops: dict[str, Tensor] = {}
    for group in (group for group in groups if group.kind == "layer" and group.gate):
        open_layers = closed.get(group.name, torch.ones(group.size, device=device))
        variants = open_layers.repeat(group.size, 1)
        # One variant per layer, each a gate of its own: many layers are tried in one batch of the same text.
        variants.fill_diagonal_(0)
        with gates(model, graph, {name: v for name, v in closed.items() if name != group.name}):
            rises = [_moved(model, graph, group, variants, text, tick) for text in _texts(inputs)]
        drops[group.name] = torch.stack(rises).mean(0)
    return Stats({"drops": drops})


def _texts(inputs: Inputs) -> Iterator[dict[str, Tensor]]:
    """Yield a few samples, each as a batch of one; token sequences are cut to `LENGTH`."""
    for sample in range(min(SAMPLES, len(next(iter(inputs.values()))))):
        cut = {name: tensor[sample : sample + 1] for name, tensor in inputs.items()}
        yield {name: t[:, :LENGTH] if t.dim() == 2 else t for name, t in cut.items()}


@torch.no_grad()
def _moved(
    model: nn.Module, graph: UnitGraph, group: UnitGroup, variants: Tensor, text: Inputs, tick: Tick
) -> Tensor:
    """Return how far every variant's output lies from the dense one's, shape (variants,)."""
    dense, found = answer_of(model(**text)), []
    for chosen in variants.split(READ_BATCH):
        batch = {name: t.expand(len(chosen), *t.shape[1:]) for name, t in text.items()}
        with gates(model, graph, {group.name: chosen}):
            found.append(_distance(answer_of(model(**batch)), dense))
        tick(len(chosen))
    return torch.cat(found)


def _distance(output: tuple[Tensor, bool], dense: tuple[Tensor, bool]) -> Tensor:
    """Return one number per sample, the mean over its positions."""
    found, wanted = output[0].float(), dense[0].float()
    if output[1]:
        logs, target = found.log_softmax(-1), wanted.log_softmax(-1)
        # KL(dense || pruned) needs no labels, and is zero only where nothing moved; a difference of losses
        # cancels between tokens that got better and tokens that got worse.
        moved = (target.exp() * (target - logs)).sum(-1)
    else:
        moved = (found - wanted).square().sum(-1) / wanted.square().sum(-1).clamp(min=1e-30)
    return moved.flatten(1).mean(1).cpu() if moved.dim() > 1 else moved.cpu()
