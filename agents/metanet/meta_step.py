"""One step of meta-training: a network is modified, its loss measured on a few batches, and propagated back.

Source of the objective: Liu et al., "Meta Pruning via Graph Metanetworks" (arXiv 2506.12041), and what
`MetaObjectiveRecipe` adds to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from prunepolicy.agents.metanet.cut_masks import kept, masks, norm_logits
from prunepolicy.agents.metanet.data_model import DataModel
from prunepolicy.agents.metanet.drawn_cuts import DrawnCuts
from prunepolicy.agents.metanet.objective import MetaObjectiveRecipe
from prunepolicy.agents.recovery.distillation import divergence
from prunepolicy.agents.recovery.sparsity import shrink_rates
from prunepolicy.agents.recovery.task import Batch, LearningTask
from prunepolicy.metanet.weight_network.deferred import Loss, deferred_backward
from prunepolicy.metanet.weight_network.metanetwork import Metanetwork
from prunepolicy.metanet.weight_network.proposals import HeadOutput, Proposal, head_output, proposal
from prunepolicy.metanet.weight_network.weight_graph.graph import Weights
from prunepolicy.pruning.statistics.gates import gates
from prunepolicy.pruning.units import Keep

SMALLEST = 1e-12


class DenseBatch(NamedTuple):
    """One batch, with the logits and the loss of the network before it was modified."""

    batch: Batch
    answers: Tensor
    loss: float


class MetaStep:
    """Adds the gradients of one meta-step to a metanetwork's parameters.

    Attributes:
        multiplier: of the loss against the other terms; moves where the recipe has a tolerance.
        generator: draws budgets; it and the multiplier are all that steps leave behind.
    """

    def __init__(self, metanetwork: Metanetwork, recipe: MetaObjectiveRecipe, seed: int = 0) -> None:
        self.metanetwork, self.recipe = metanetwork, recipe
        self.multiplier = 1.0
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, network: DataModel, task: LearningTask, batches: Sequence[Batch]) -> dict[str, float]:
        """Modify one network, evaluate it on `batches`, and go back through the metanetwork once.

        Returns:
            `loss` on the batches, and `before` the modification; `cut`, that of the network when it is cut
            as well; `moved`, how far the weights moved as a share of their norm; and the `multiplier`.
        """
        output = head_output(self.metanetwork, network.blueprint, network.weights)
        propose = partial(proposal, self.metanetwork.settings.head, network.blueprint, network.weights)
        proposed, sparsity = propose(output), self.recipe.sparsity
        keep = None if sparsity == "group_norm" else self._keep_share()
        terms = _Terms(network, task, self.recipe, propose, keep, self.multiplier / len(batches))
        with _norms(network.model, self.recipe.batch_statistics):
            dense = [_dense_batch(network, task, batch) for batch in batches]
            before = sum(one.loss for one in dense) / len(dense)
            losses = terms.losses(dense, proposed)
            if sparsity == "reward":
                losses = iter([self._policy_gradient(terms, dense, output)])
            deferred_backward(output, losses, [terms.shrink] if sparsity == "group_norm" else [])
        metrics = {name: sum(values) / len(values) for name, values in terms.metrics.items()}
        metrics.setdefault("loss", before)
        if self.recipe.loss_tolerance is not None:
            # Dual ascent on the constraint `loss <= before + loss_tolerance`; the multiplier stays positive.
            excess = metrics["loss"] - before - self.recipe.loss_tolerance
            self.multiplier = max(0.0, self.multiplier + self.recipe.multiplier_learning_rate * excess)
        distance = float(moved(network, proposed.weights).detach())
        return metrics | {"before": before, "moved": distance, "multiplier": self.multiplier}

    def _keep_share(self) -> float:
        """Draw one of the recipe's budgets."""
        index = int(torch.randint(len(self.recipe.keep), (1,), generator=self.generator))
        return self.recipe.keep[index]

    def _policy_gradient(self, terms: _Terms, dense: Sequence[DenseBatch], output: HeadOutput) -> Loss:
        """Sample cuts around the head's decisions, and return the policy-gradient loss of their rewards."""
        drawn = DrawnCuts.around(output, self.recipe.num_cuts, self.recipe.std, self.generator)
        rewards = [terms.reward(dense, one) for one in drawn.each(output)]
        return partial(drawn.loss, torch.tensor(rewards, device=self.metanetwork.edges.links.device))


@dataclass
class _Terms:
    """The terms of one step, each a function of the head's output.

    Attributes:
        propose: from that output to what becomes of the network.
        keep: share of the FLOPs that a cut leaves; None with the group-sparsity penalty instead.
        batch_weight: of each batch in the loss.
        metrics: the networks' own losses, by name.
    """

    network: DataModel
    task: LearningTask
    recipe: MetaObjectiveRecipe
    propose: Callable[[HeadOutput], Proposal]
    keep: float | None
    batch_weight: float
    metrics: dict[str, list[float]] = field(default_factory=dict)

    def losses(self, dense: Sequence[DenseBatch], proposed: Proposal) -> Iterator[Loss]:
        """Yield the terms that are losses of what was proposed."""
        keep = None if self.keep is None else self.kept(proposed, self.keep)
        for one in dense:
            if proposed.rewrites:  # else the uncut network is the original
                yield partial(self.whole, one)
            if keep is not None:
                yield partial(self.cut, one, keep, self.recipe.sparsity_strength / len(dense))
        if self.recipe.trust_penalty and proposed.rewrites:
            yield self.trust

    def reward(self, dense: Sequence[DenseBatch], output: HeadOutput) -> float:
        """Return the reward of a cut: the negative loss of the network so cut."""
        assert self.keep is not None
        keep = self.kept(self.propose(output), self.keep)
        with torch.no_grad():
            return -sum(float(self.cut(one, keep, 1 / len(dense), output)) for one in dense)

    def kept(self, proposed: Proposal, keep: float) -> Keep:
        """Return what stays of a proposal at a share of its FLOPs."""
        return kept(self.network.units, cut_logits(self.network, proposed), keep)

    def whole(self, dense: DenseBatch, output: HeadOutput) -> Tensor:
        """Return the modified network's loss on a batch."""
        return self.batch_weight * self._loss("loss", dense, self.propose(output).weights)

    def cut(self, dense: DenseBatch, keep: Keep, strength: float, output: HeadOutput) -> Tensor:
        """Return the same for the network as a cut would leave it."""
        proposed = self.propose(output)
        with gates(self.network.model, self.network.units, masks(cut_logits(self.network, proposed), keep)):
            return strength * self._loss("cut", dense, proposed.weights)

    def trust(self, output: HeadOutput) -> Tensor:
        """Return the penalty on weights beyond the trust radius around the original network."""
        beyond = (moved(self.network, self.propose(output).weights) - self.recipe.trust_radius).clamp(min=0)
        return self.recipe.trust_penalty * beyond.square()

    def shrink(self, output: HeadOutput) -> None:
        """Add the gradient of the group-sparsity penalty, as sparse training does."""
        weights = self.network.stored(self.propose(output).weights)
        for name, rate in shrink_rates(self.network.units, weights).items():
            gradient = weights[name].grad
            if gradient is not None:
                gradient.addcmul_(rate, weights[name].detach(), value=self.recipe.sparsity_strength)

    def _loss(self, name: str, dense: DenseBatch, weights: Weights) -> Tensor:
        logits = self.task.logits(self.network.running(weights), dense.batch)
        labels = self.task.loss(logits, dense.batch)
        self.metrics.setdefault(name, []).append(float(labels.detach()))
        weight = self.recipe.distillation_weight
        if not weight:
            return labels
        return (1 - weight) * labels + weight * divergence(logits, dense.answers, self.recipe.temperature)


def cut_logits(network: DataModel, proposed: Proposal) -> dict[str, Tensor]:
    """Return the logarithms of the scores by which a proposal is cut."""
    norms = norm_logits(network.units, network.stored(proposed.weights))
    return {name: norm + proposed.scores.get(name, 0) for name, norm in norms.items()}


def moved(network: DataModel, weights: Weights) -> Tensor:
    """Return how far weights lie from a network's own, as a share of the norm of all that may change."""
    own = network.weights
    changed = [name for name in network.graph.claimed if weights[name] is not own[name]]
    if not changed:
        return torch.zeros(())
    away = torch.stack([(weights[name] - own[name]).square().sum() for name in changed]).sum()
    whole = torch.stack([own[name].square().sum() for name in changed]).sum()
    # The root has no gradient at 0, where every metanetwork begins.
    return (away / whole.clamp(min=SMALLEST) + SMALLEST).sqrt()


def _dense_batch(network: DataModel, task: LearningTask, batch: Batch) -> DenseBatch:
    with torch.no_grad():
        answers = task.logits(network.running(network.weights), batch)
        return DenseBatch(batch, answers, float(task.loss(answers, batch)))


@contextmanager
def _norms(model: nn.Module, batch_statistics: bool) -> Iterator[None]:
    """Let batch norms use each batch's statistics while the context lasts, where that is wanted."""
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    model.eval()
    for norm in norms:
        norm.train(batch_statistics)
    try:
        yield
    finally:
        model.eval()
