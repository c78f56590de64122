"""A prunable network as tensors that mean the same for a network of any size and family.

Every number is a share, a rank, a cosine or the logarithm of a ratio, so that neither width nor scale
of the weights shows; nothing depends on the order of the units in a group.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from prunepolicy.pruning.cost import cost_of
from prunepolicy.pruning.errors import UnsupportedModelError
from prunepolicy.pruning.plan import Budget
from prunepolicy.pruning.statistics.stats import Stats, group_costs
from prunepolicy.pruning.units import UnitGraph, UnitGroup

KINDS = ("ffn", "kv_head", "query_head", "layer", "expert", "channel")
STATISTICS = ("fisher", "taylor", "output", "rms")
OF_STATISTIC = ("rank", "z-score", "log ratio to the network", "known")
UNIT_FEATURES = (*(f"{s}: {f}" for s in STATISTICS for f in OF_STATISTIC), "alignment")
SUMMARIES = ("mean log ratio", "spread of logs", "tail weight")
GROUP_FEATURES = (
    *KINDS,
    "depth",
    "share of cost",
    "log cost per unit",
    "log size",
    "coherence",
    *(f"{s}: {f}" for s in STATISTICS for f in SUMMARIES),
)
GLOBALS = ("keep", "log keep", "uniform")
EDGE_FEATURES = ("forwards", "backwards")
LARGEST = 8.0
"""Largest absolute feature: one massive unit must not drown the others."""
EMPHASISED = tuple(name for name in UNIT_FEATURES if name.endswith(("rank", "z-score", "alignment")))
"""Features of units that a policy may add to a heuristic's score; the others say nothing within a group."""
DECISIONS = ("ratio", *EMPHASISED)
"""What is decided for every group: how much more of it stays, and what counts within it."""
STRENGTHS = (2.0, *(1.0 for _ in EMPHASISED))
"""What a decision of 1 adds to the logarithm of a score."""
USUAL_SHARE = 3 / 8
"""Of what an equal-width budget takes, the part that goes as whole layers where their number is decided;
where widths may differ, none."""
FURTHEST_SHARE = 3 / 4
"""What a decision of 1 adds to that part."""
APART = 1e12
"""Factor between scores of layers that have to stay and of all else."""
_EMPHASISED_COLUMNS = [UNIT_FEATURES.index(name) for name in EMPHASISED]


@dataclass(frozen=True)
class GroupGraph:
    """The groups of one or several networks as one flat batch, ready for message passing.

    Attributes:
        groups: features per group, shape (groups, len(GROUP_FEATURES)).
        edges: pairs of groups that exchange messages, shape (2, edges).
        edge_features: direction of every edge, shape (edges, len(EDGE_FEATURES)).
        globals: the budgets, shape (networks, len(GLOBALS)).
        network: index of every group's network, shape (groups,).
    """

    groups: Tensor
    edges: Tensor
    edge_features: Tensor
    globals: Tensor
    network: Tensor


@dataclass(frozen=True)
class NetworkGraph:
    """A network, its statistics and a budget, as tensors.

    Attributes:
        names: of the groups.
        units: features per unit, shape (units, len(UNIT_FEATURES)), groups one after the other.
        owner: index of every unit's group, shape (units,).
        groups: features per group, shape (groups, len(GROUP_FEATURES)).
        edges: pairs of groups that exchange messages, shape (2, edges).
        edge_features: direction of every edge, shape (edges, len(EDGE_FEATURES)).
        globals: the budget, shape (len(GLOBALS),).
        costs: parameters per unit of every group, shape (groups,).
        prior: per unit the logarithm of a good heuristic's score per parameter, as a starting point:
            Fisher where layers may differ; for equal widths outputs and gradients together within a
            group, and Fisher's sums between groups. Layers that were dropped one by one go in that order.
        worth: per group whose number of units is decided, that of units which all parameters would make.
    """

    names: tuple[str, ...]
    units: Tensor
    owner: Tensor
    groups: Tensor
    edges: Tensor
    edge_features: Tensor
    globals: Tensor
    costs: Tensor
    prior: Tensor
    worth: Mapping[str, float]

    @property
    def nodes(self) -> GroupGraph:
        """The groups alone: what message passing sees."""
        network = torch.zeros(len(self.groups), dtype=torch.long)
        return GroupGraph(self.groups, self.edges, self.edge_features, self.globals[None], network)

    def scores(self, decisions: Tensor, keep: float) -> dict[str, Tensor]:
        """Return the units' scores in the light of decisions, comparable between all groups.

        Where the number of layers is decided, so many have minus infinity, and the rest more than all else.

        Args:
            decisions: shape (groups, len(DECISIONS)), from -1 to 1; zeros leave the heuristic as it is.
            keep: size of the budget.
        """
        ratio, *emphases = (decisions.clamp(-1, 1) * decisions.new_tensor(STRENGTHS)).T
        emphasised = torch.stack(emphases, dim=1)[self.owner] * self.units[:, _EMPHASISED_COLUMNS]
        densities = self.prior + ratio[self.owner] + emphasised.sum(1)
        # The prior is a logarithm of score per parameter, so a decision is a factor, whatever the scale of
        # the statistic; times the cost it is a score per unit again, which is what allocators compare.
        scores = self.per_group(densities.double().exp() * self.costs[self.owner])
        usual = USUAL_SHARE if self.globals[GLOBALS.index("uniform")] else 0.0
        for name, worth in self.worth.items():
            share = usual + FURTHEST_SHARE * float(ratio[self.names.index(name)]) / STRENGTHS[0]
            scores[name] = _set_apart(scores[name], round(worth * (1 - keep) * min(1.0, max(0.0, share))))
        return scores

    def per_group(self, per_unit: Tensor) -> dict[str, Tensor]:
        """Split one number per unit into one tensor per group."""
        sizes = torch.bincount(self.owner, minlength=len(self.names)).tolist()
        return dict(zip(self.names, per_unit.split(sizes), strict=True))


def network_graph(
    graph: UnitGraph, groups: Sequence[UnitGroup], stats: Stats, budget: Budget
) -> NetworkGraph:
    """Describe `groups`, which may lose units under `budget`; reads activations and gradients.

    Raises:
        UnsupportedModelError: for kinds of unit that have no place in it, such as tokens.
    """
    if unknown := next((group.kind for group in groups if group.kind not in KINDS), None):
        raise UnsupportedModelError(f"A policy over unit groups knows no units of the kind {unknown}.")
    costs = torch.tensor([float(max(1, group_costs(graph, group))) for group in groups])
    sizes = torch.tensor([float(group.size) for group in groups])
    owner = torch.repeat_interleave(torch.arange(len(groups)), sizes.long())
    logs = {name: [_logs(stats, group, name) for group in groups] for name in STATISTICS}
    unit_columns, group_columns = [], []
    for name in STATISTICS:
        per_unit, per_group = _statistic_features(logs[name])
        unit_columns.append(per_unit)
        group_columns.append(per_group)
    alignment = [_alignment(stats.get("gradients", group.name)) for group in groups]
    units = torch.cat([*unit_columns, torch.cat(alignment)[:, None]], dim=1)
    coherence = torch.stack([cosines.mean() for cosines in alignment])[:, None]
    about = torch.cat([_identity(graph, groups, costs, sizes), coherence, *group_columns], dim=1)
    edges, edge_features = _edges(graph, groups)
    dropped = [group.name for group in groups if group.name in stats.values.get("drops", {})]
    scored = [
        output if group.name in dropped else _mixed(fisher, output) if budget.uniform else fisher
        for group, (fisher, _), (output, _) in zip(groups, logs["fisher"], logs["output"], strict=True)
    ]
    return NetworkGraph(
        tuple(group.name for group in groups),
        units.clamp(-LARGEST, LARGEST),
        owner,
        about.clamp(-LARGEST, LARGEST),
        edges,
        edge_features,
        torch.tensor([budget.keep, math.log(budget.keep), float(budget.uniform)]),
        costs,
        torch.cat(scored) - costs.log()[owner],
        {name: _worth(graph, graph[name]) for name in dropped if len(groups) > 1},
    )


def _worth(graph: UnitGraph, group: UnitGroup) -> float:
    """Return how many units of `group` all parameters of the network would make."""
    return cost_of(graph).params / group_costs(graph, group)


def _set_apart(scores: Tensor, count: int) -> Tensor:
    """Return scores under which exactly the `count` lowest go, as if earlier rounds had taken them."""
    # The second argsort turns an order into ranks; a stable one breaks ties by position on every machine.
    goes = scores.argsort(stable=True).argsort() < count
    return (scores * APART).masked_fill(goes, -torch.inf)


def _mixed(fisher: Tensor, output: Tensor) -> Tensor:
    """Return logarithms of scores: in the order of sqrt(Fisher) x output, with Fisher's sum."""
    # Fisher is a square and output is not: the root brings both to the unit of an activation. Only the order
    # is taken from the product, the total stays Fisher's, which is comparable between groups.
    order = fisher / 2 + output
    return order - order.logsumexp(0) + fisher.logsumexp(0)


def _logs(stats: Stats, group: UnitGroup, name: str) -> tuple[Tensor, bool]:
    """Return logarithms of a statistic, and whether it is known; units that do nothing stay finite."""
    if name == "output" and group.name in stats.values.get("drops", {}):
        values = stats.get("drops", group.name)
    elif name in ("fisher", "taylor"):
        gradients = stats.get("gradients", group.name)
        values = gradients.square().mean(0) if name == "fisher" else gradients.mean(0).abs()
    elif group.name in stats.values.get(name, {}):
        values = stats.get(name, group.name)
    else:
        return torch.zeros(group.size), False
    values = values.float()
    # Below a millionth of the largest a logarithm would only say how dead a dead unit is, in any large
    # number.
    return torch.maximum(values, values.max() * 1e-6 + 1e-30).log(), True


def _statistic_features(logs: Sequence[tuple[Tensor, bool]]) -> tuple[Tensor, Tensor]:
    """Return features per unit and per group of one statistic in all groups."""
    known = [values for values, is_known in logs if is_known]
    middle = torch.cat(known).mean() if known else torch.zeros(())
    per_unit, per_group = [], []
    for values, is_known in logs:
        if not is_known:
            per_unit.append(torch.zeros(len(values), len(OF_STATISTIC)))
            per_group.append(torch.zeros(len(SUMMARIES)))
            continue
        # The population's deviation: with the sample's, a group of one unit would be nan.
        centred, spread = values - values.mean(), values.std(correction=0)
        scores = centred / spread.clamp(min=1e-6)
        columns = [_ranks(values), scores, values - middle, torch.ones_like(values)]
        per_unit.append(torch.stack(columns, dim=1))
        per_group.append(torch.stack([values.mean() - middle, spread, scores.max()]))
    return torch.cat(per_unit), torch.stack(per_group)


def _ranks(values: Tensor) -> Tensor:
    """Return ranks between -1 and 1; equal values have equal ranks."""
    ordered = values.sort().values
    # The mean of the counts below and not above: ties share it, and ranks of any group are spread over
    # -1 to 1 with mean 0.
    below = torch.searchsorted(ordered, values) + torch.searchsorted(ordered, values, right=True)
    return below.float() / len(values) - 1


def _alignment(gradients: Tensor) -> Tensor:
    """Return the cosine of every unit's gradients with those of its whole group.

    Positive ones add up when units go together; negative ones make up for each other.
    """
    # Removing all of a group changes the loss by the sum of its gradients, sample by sample: that is the
    # direction which units are compared with.
    together = gradients.sum(1)
    lengths = gradients.norm(dim=0) * together.norm()
    cosines: Tensor = (gradients.T @ together) / lengths.clamp(min=1e-30)
    return cosines


def _identity(graph: UnitGraph, groups: Sequence[UnitGroup], costs: Tensor, sizes: Tensor) -> Tensor:
    """Return what a group is, where it lies, and what it costs."""
    kinds = torch.tensor([[float(group.kind == kind) for kind in KINDS] for group in groups])
    places = {group.name: index for index, group in enumerate(graph.of_kind(*KINDS))}
    deepest = max(1, len(places) - 1)
    depth = torch.tensor([places[group.name] / deepest for group in groups])
    whole = costs * sizes
    numbers = [depth, whole / whole.sum(), (costs / costs.max()).log(), (sizes / sizes.max()).log()]
    return torch.cat([kinds, torch.stack(numbers, dim=1)], dim=1)


def _edges(graph: UnitGraph, groups: Sequence[UnitGroup]) -> tuple[Tensor, Tensor]:
    """Return edges between the chosen groups, both ways; groups between them are passed through."""
    chosen = {graph.groups.index(group): index for index, group in enumerate(groups)}
    readers: dict[int, list[int]] = {}
    for writer, reader in graph.edges:
        readers.setdefault(writer, []).append(reader)
    pairs = sorted({(chosen[i], chosen[j]) for i in chosen for j in _next_chosen(i, readers, chosen)})
    forwards = torch.tensor(pairs, dtype=torch.long).reshape(-1, 2).T
    direction = torch.eye(2).repeat_interleave(forwards.shape[1], dim=0)
    return torch.cat([forwards, forwards.flip(0)], dim=1), direction


def _next_chosen(start: int, readers: dict[int, list[int]], chosen: dict[int, int]) -> set[int]:
    """Return the nearest chosen groups that signals reach from `start`."""
    found, seen, waiting = set(), {start}, list(readers.get(start, ()))
    while waiting:
        group = waiting.pop()
        if group in seen:
            continue
        seen.add(group)
        if group in chosen:
            found.add(group)
        else:
            waiting.extend(readers.get(group, ()))
    return found
