"""Feed-forward blocks of a model, prepared for PruneNet's environment."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from torch import Tensor

from prunepolicy.agents.learned_pruning.learner import Assignment
from prunepolicy.envs.row_layer import RowLayer, block_interactions
from prunepolicy.policy.kinds.prunenet import PruneNet
from prunepolicy.pruning.criteria import Need
from prunepolicy.pruning.plan import Budget
from prunepolicy.pruning.session.model_session import ModelSession
from prunepolicy.pruning.statistics.moments import second_moments
from prunepolicy.pruning.statistics.probe import Probe
from prunepolicy.pruning.units import UnitGroup

READ_FROM: dict[str, Need] = {
    "dense_spectrum": "scored",
    "kept_spectrum": "scored",
    "loss_rise": "gradients",
}
"""Statistics that measurements of `RowLayer` are made from."""


def row_blocks(
    session: ModelSession, policy: PruneNet, reads: Iterable[str], assignment: Assignment
) -> tuple[RowLayer, ...]:
    """Return every FFN block with what `policy` sees and what the columns `reads` need."""
    graph, columns = session.checkpoint.graph, set(reads)
    budget = Budget(0.8, of="ffn")
    groups, probe = policy.groups(graph, budget), replace(policy.probe, seed=assignment.recipe.seed)
    extra = {READ_FROM[name] for name in columns & READ_FROM.keys()}
    stats = assignment.collected.stats(session, policy.needs(graph, budget) | extra, probe)
    interactions = _interactions(session, groups, probe) if "output_error" in columns else {}
    return tuple(
        RowLayer(
            group.name,
            policy.rows(stats, group),
            stats.get("scored", group.name) if "scored" in extra else None,
            interactions.get(group.name),
            stats.get("gradients", group.name) if "gradients" in extra else None,
        )
        for group in groups
    )


def _interactions(session: ModelSession, groups: Iterable[UnitGroup], probe: Probe) -> dict[str, Tensor]:
    inputs = session.probe(probe)
    with session.progress.step("collect second moments of FFN channels"):
        moments = second_moments(session.model, groups, inputs)
    return block_interactions(session.checkpoint, groups, moments)
