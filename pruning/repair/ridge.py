"""Re-fit the projection that read the cut channels on the channels that stay.

The kept columns take over what they can predict of the removed ones: with C the second moments
of the activations, K kept and R removed, W' = W_K + W_R C_RK (C_KK + lambda I)^-1, the minimiser of
the squared output error plus a ridge towards the old weights.
"""

from __future__ import annotations

import torch
from torch import Tensor

from prunepolicy.pruning.checkpoint.cut import Edits
from prunepolicy.pruning.keep_masks import removed_units
from prunepolicy.pruning.repair.refit import LeastSquares, Moments, Refitter, divided
from prunepolicy.pruning.repair.registry import RepairContext, repair
from prunepolicy.pruning.statistics.moments import second_moments
from prunepolicy.pruning.units import UnitGroup, consumer_of, read_by_columns

MOMENT_BYTES = 1 << 30
"""Second moments of as many layers as fit here are in memory together."""


@repair("ffn")
def ridge(context: RepairContext) -> Edits:
    """Return re-fitted projections for every FFN block that lost channels."""
    graph, plan = context.checkpoint.graph, context.plan
    removed = removed_units(graph, plan.keep)
    gone = plan.dropped_layers(graph)
    groups = [
        g for g in graph.of_kind("ffn")
        if g.name in removed and g.layer not in gone and read_by_columns(g)
    ]  # fmt: skip
    tensors: dict[str, Tensor] = {}
    refitter = Refitter()
    widest = max((group.size for group in groups), default=1)
    at_once = max(1, MOMENT_BYTES // (4 * widest**2))
    for first in range(0, len(groups), at_once):
        chunk = groups[first : first + at_once]
        new = [group for group in chunk if group.name not in context.known]
        moments = context.known | (_moments(context, new) if new else {})
        for group in chunk:
            part = consumer_of(group)
            weight = context.checkpoint.read(part.tensor)
            columns = weight.float().movedim(part.axis, 1)
            kept = torch.tensor(plan.kept(group))
            cut = torch.from_numpy(removed[group.name])
            fit = refit_kept_columns(columns, kept, cut, *moments[group.name], refitter)
            tensors[part.tensor] = fit.movedim(1, part.axis).to(weight.dtype).contiguous()
            context.tick(1)
    return Edits(tensors)


def refit_kept_columns(
    weight: Tensor, kept: Tensor, cut: Tensor, fitted: Tensor, held_out: Tensor, refitter: Refitter
) -> Tensor:
    """Return the kept columns, re-fitted to write what the cut ones wrote, too.

    Args:
        weight: (outputs, channels).
        kept: ids of the channels that stay.
        cut: ids of the channels that go.
        fitted: second moments (channels, channels) of the samples to fit.
        held_out: second moments of other samples.
    """
    both = [Moments(c[kept][:, kept], weight[:, cut] @ c[cut][:, kept]) for c in (fitted, held_out)]
    return refitter(weight[:, kept], LeastSquares.of_moments(*both))


def remember_moments(context: RepairContext) -> None:
    """Measure all feed-forward blocks of the context once, for many plans."""
    groups = [g for g in context.checkpoint.graph.of_kind("ffn") if read_by_columns(g)]
    context.known.update(_moments(context, groups))


def _moments(context: RepairContext, groups: list[UnitGroup]) -> dict[str, tuple[Tensor, Tensor]]:
    """Return second moments of the channels on the samples to fit, and on the others."""
    found = []
    for rows in divided(len(next(iter(context.inputs.values())))):
        some = {name: tensor[rows] for name, tensor in context.inputs.items()}
        means = second_moments(context.model, groups, some)
        found.append({name: len(rows) * mean for name, mean in means.items()})  # Sums, so that they add up.
    fitted, others = found
    return {name: (fitted[name], others[name]) for name in fitted}
