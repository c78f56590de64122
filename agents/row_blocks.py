"""Feed-forward blocks of a model, prepared for PruneNet's environment."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import torch

from prunepolicy.agents.algorithms.registry import Assignment
from prunepolicy.agents.subject import Subject
from prunepolicy.envs.row_layer import RowLayer
from prunepolicy.policy.kinds.prunenet import PruneNet
from prunepolicy.pruning.moments import output_interactions, second_moments
from prunepolicy.pruning.plan import Budget
from prunepolicy.pruning.row_features import scored_slice, unit_rows
from prunepolicy.pruning.units import UnitGroup, consumer_of


def row_blocks(
    subject: Subject, policy: PruneNet, reads: Iterable[str], assignment: Assignment
) -> tuple[RowLayer, ...]:
    """Return every feed-forward block with what `policy` sees and what the columns `reads` need."""
    graph, reads = subject.checkpoint.graph, set(reads)
    budget = Budget(0.8, of="ffn")
    groups = policy.groups(graph, budget)
    probe = replace(policy.probe, seed=assignment.recipe.seed)
    stats = assignment.collected.stats(subject, policy.needs(graph, budget), probe)
    moments = {}
    if "output_error" in reads:
        inputs = subject.probe(probe)
        with subject.steps.step("watch second moments"):
            moments = second_moments(subject.model, groups, inputs)

    def block(group: UnitGroup) -> RowLayer:
        scored, interactions = None, None
        if reads & {"dense_spectrum", "kept_spectrum"}:
            scored = unit_rows(subject.checkpoint, group, scored_slice(group))
        if group.name in moments:
            columns = unit_rows(subject.checkpoint, group, consumer_of(group)).T
            interactions = output_interactions(columns, moments.pop(group.name))
        return RowLayer(group.name, policy.rows(stats, group), scored, interactions)

    with torch.no_grad():
        return tuple(block(group) for group in groups)
