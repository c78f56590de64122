from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from prunepolicy.agents.metanet.cut_masks import kept, masks, norm_logits
from prunepolicy.agents.metanet.data_model import DataModel
from prunepolicy.agents.metanet.meta_step import MetaStep, cut_logits
from prunepolicy.agents.metanet.objective import MetaObjectiveRecipe
from prunepolicy.agents.recovery.distillation import divergence
from prunepolicy.agents.recovery.sparsity import group_squares
from prunepolicy.agents.recovery.task import Batch, LearningTask
from prunepolicy.metanet.weight_network.metanetwork import Metanetwork, MetanetworkSettings
from prunepolicy.metanet.weight_network.proposals import head_output, proposal
from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.checkpoint.cut import finish, prepare
from prunepolicy.pruning.cost import cost_of
from prunepolicy.pruning.measure.intervals import Interval
from prunepolicy.pruning.plan import Budget, Plan
from prunepolicy.pruning.statistics.gates import gates
from prunepolicy.pruning.units import Keep

Make = Callable[..., Checkpoint]


@dataclass(frozen=True)
class Labels(LearningTask):
    """Five classes of noise."""

    def steps(self, size: int) -> int:
        return 1

    def batches(self, size: int, seed: int, epoch: int) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(seed)
        for _ in range(3):
            images = torch.randn(size, 3, 32, 32, generator=generator)
            yield {"pixel_values": images, "labels": torch.randint(5, (size,), generator=generator)}

    def logits(self, model: nn.Module, batch: Batch) -> Tensor:
        logits: Tensor = model(batch["pixel_values"])
        return logits

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        return functional.cross_entropy(logits, batch["labels"])

    def outcomes(self, model: nn.Module, part: str) -> Tensor:
        raise NotImplementedError

    def difference(self, before: Tensor, after: Tensor) -> Interval:
        raise NotImplementedError

    def inputs(self, size: int) -> Iterator[dict[str, Tensor]]:
        raise NotImplementedError


class Pictures(Labels):
    """The same for networks that answer as those of transformers do."""

    def logits(self, model: nn.Module, batch: Batch) -> Tensor:
        logits: Tensor = model(pixel_values=batch["pixel_values"]).logits
        return logits


class Tokens(Labels):
    """The next of random tokens."""

    def batches(self, size: int, seed: int, epoch: int) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(seed)
        for _ in range(2):
            yield {"input_ids": torch.randint(3, 64, (size, 6), generator=generator)}

    def logits(self, model: nn.Module, batch: Batch) -> Tensor:
        logits: Tensor = model(input_ids=batch["input_ids"], use_cache=False).logits[:, :-1]
        return logits

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        return functional.cross_entropy(logits.flatten(0, 1), batch["input_ids"][:, 1:].flatten())


@pytest.fixture
def network(tiny_checkpoint: Make) -> DataModel:
    return DataModel.opened(tiny_checkpoint("cifar_resnet").folder)


def learner(
    network: DataModel, steps: int = 12, step: float = 0.2, head: Any = "weights", **recipe: Any
) -> tuple[Metanetwork, list[dict[str, float]]]:
    torch.manual_seed(5)
    metanetwork = Metanetwork(MetanetworkSettings(layers=2, hidden=8, step=step, head=head))
    optimiser = torch.optim.Adam(metanetwork.parameters(), 1e-2)
    meta_step, batches = MetaStep(metanetwork, MetaObjectiveRecipe(**recipe)), list(Labels().batches(8, 1, 0))
    rows = []
    for _ in range(steps):
        optimiser.zero_grad()
        rows.append(meta_step(network, Labels(), batches))
        optimiser.step()
    return metanetwork, rows


def spread_of_norms(network: DataModel, weights: Any) -> float:
    """How far the weak units of groups lie below the strong ones, the mean over groups."""
    norms = [group_squares(group, weights).sqrt() for group in network.units.groups]
    return float(torch.stack([norm.std() / norm.mean() for norm in norms]).mean())


def test_a_beginner_leaves_the_loss_where_it_was(network: DataModel) -> None:
    row = learner(network, steps=1)[1][0]
    assert row["loss"] == pytest.approx(row["before"], rel=1e-6)
    assert row["moved"] == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("sparsity", ["group_norm", "cut"])
def test_language_models_are_learned_from_too(tiny_checkpoint: Make, sparsity: Any) -> None:
    network, task = DataModel.opened(tiny_checkpoint("llama").folder), Tokens()
    metanetwork = Metanetwork(MetanetworkSettings(layers=2, hidden=8))
    step = MetaStep(metanetwork, MetaObjectiveRecipe(sparsity=sparsity))
    row = step(network, task, list(task.batches(4, 1, 0)))
    assert row["loss"] == pytest.approx(row["before"], rel=1e-5)
    assert ("cut" in row) == (sparsity == "cut")
    assert all(p.grad is None or bool(torch.isfinite(p.grad).all()) for p in metanetwork.parameters())
    last = metanetwork.edges.decoders["1"][-1].weight.grad
    assert last is not None
    assert bool(last.any())


@pytest.mark.parametrize("sparsity", ["group_norm", "cut"])
def test_networks_whose_files_name_tensors_otherwise_are_learned_from(
    tiny_checkpoint: Make, sparsity: Any
) -> None:
    """A ViT runs with other names than those its files, and its units, have."""
    network, task = DataModel.opened(tiny_checkpoint("vit", image_size=32, num_labels=5).folder), Pictures()
    assert network.weights.keys() != network.units.tensors.keys()
    metanetwork = Metanetwork(MetanetworkSettings(layers=2, hidden=8))
    step = MetaStep(metanetwork, MetaObjectiveRecipe(sparsity=sparsity, keep=(0.8,)))
    row = step(network, task, list(task.batches(4, 1, 0)))
    assert row["loss"] == pytest.approx(row["before"], rel=1e-5)
    last = metanetwork.edges.decoders["1"][-1].weight.grad
    assert last is not None
    assert bool(last.any())


def test_the_networks_own_weights_and_statistics_stay(network: DataModel) -> None:
    before = {name: tensor.clone() for name, tensor in network.weights.items()}
    learner(network, steps=2)
    for name, tensor in network.weights.items():
        assert torch.equal(tensor, before[name]), name
    assert not any(module.training for module in network.model.modules())


def test_shrinking_weak_groups_spreads_their_norms(network: DataModel) -> None:
    metanetwork, _ = learner(network, sparsity_strength=3.0, distillation_weight=0.0, trust_penalty=0.0)
    with torch.no_grad():
        modified = metanetwork(network.graph, network.weights)
    assert spread_of_norms(network, modified) > 1.02 * spread_of_norms(network, network.weights)


def test_learning_to_be_cut_lowers_the_loss_of_the_cut_network(network: DataModel) -> None:
    recipe = {
        "sparsity": "cut",
        "sparsity_strength": 5.0,
        "keep": (0.5,),
        "trust_penalty": 0.0,
        "distillation_weight": 0.0,
    }
    _, rows = learner(network, steps=25, step=1.0, **recipe)
    assert rows[-1]["cut"] < 0.98 * rows[0]["cut"]


def test_scores_change_no_weight(network: DataModel) -> None:
    rows = learner(network, steps=3, head="scores", sparsity="cut")[1]
    assert all(row["loss"] == row["before"] and row["moved"] == 0 for row in rows)


def test_the_radius_holds_what_would_run_away(network: DataModel) -> None:
    free = learner(network, steps=15, distillation_weight=0.0, trust_penalty=0.0)[1][-1]
    held = learner(network, steps=15, distillation_weight=0.0, trust_penalty=1000.0, trust_radius=0.02)[1][-1]
    assert held["moved"] < 0.6 * free["moved"]


def test_the_multiplier_grows_while_the_loss_exceeds_its_tolerance(network: DataModel) -> None:
    rows = learner(
        network,
        steps=6,
        sparsity_strength=30.0,
        distillation_weight=0.0,
        trust_penalty=0.0,
        loss_tolerance=0.0,
    )[1]
    for before, after in pairwise(rows):
        rises = after["loss"] > after["before"]
        assert (after["multiplier"] > before["multiplier"]) == rises


def test_masks_keep_what_the_criterion_keeps_and_pass_gradients(network: DataModel) -> None:
    leaves = {
        name: tensor.clone().requires_grad_() if tensor.is_floating_point() else tensor
        for name, tensor in network.weights.items()
    }
    logits = norm_logits(network.units, leaves)
    keep = kept(network.units, logits, 0.5)
    assert cost_of(network.units, keep).flops <= 0.5 * cost_of(network.units).flops
    values = masks(logits, keep)
    for name, units in keep.items():
        assert len(units) >= network.units[name].floor
        assert (values[name] > 0.5).nonzero().flatten().tolist() == list(units)
    sum(value.sum() for value in values.values()).backward()
    assert any(bool(leaf.grad.any()) for leaf in leaves.values() if leaf.grad is not None)


def test_what_is_masked_while_learning_is_what_is_cut(tiny_checkpoint: Make, tmp_path: Path) -> None:
    widths = {"residual": [10, 10, 10], "inner": [[10], [10], [10]]}  # as many as there are classes
    checkpoint = tiny_checkpoint("cifar_resnet", widths=widths, num_labels=10)
    network = DataModel.opened(checkpoint.folder)
    logits = norm_logits(network.units, network.weights)
    keep = kept(network.units, logits, 0.5)
    plan = Plan(keep, Budget(0.5, "flops", uniform=False), "test")
    folder = prepare(checkpoint, plan, tmp_path / "cut")
    finish(folder)
    cut, images = DataModel.opened(folder), torch.randn(2, 3, 32, 32)
    with torch.no_grad(), gates(network.model, network.units, masks(logits, keep)):
        torch.testing.assert_close(cut.model(images), network.model(images), rtol=1e-4, atol=1e-4)
    assert cut.weights["fc.weight"].shape[0] == 10
    assert all(min(tensor.shape) >= 1 for tensor in cut.weights.values() if tensor.dim())


def misleading(network: DataModel) -> dict[str, list[int]]:
    """Make every other channel inside of blocks useless but strong, and return these."""
    useless = {}
    for group in network.units.groups:
        if group.name.endswith("conv1") and "." in group.name:
            found = useless[group.name] = list(range(0, group.size, 2))
            for part in group.slices:
                entries = network.weights[part.tensor].movedim(part.axis, 0)
                entries[found] *= 0.0 if part.consumer else 2.0  # its norm forgets the factor
    return useless


def wasted(keep: Keep, useless: dict[str, list[int]]) -> float:
    """The share of useless channels among those that a cut leaves of their groups."""
    left = [unit in useless[name] for name, units in keep.items() if name in useless for unit in units]
    return sum(left) / len(left)


@pytest.mark.parametrize("head", ["gates", "scores"])
def test_heads_learn_which_channels_nobody_reads(network: DataModel, head: str) -> None:
    """Gradients ask for channels that a cut takes, though there is a ReLU behind every mask."""
    useless = misleading(network)
    recipe = {
        "sparsity": "cut",
        "sparsity_strength": 5.0,
        "keep": (0.6,),
        "trust_penalty": 0.0,
        "distillation_weight": 1.0,
    }
    metanetwork, _ = learner(network, steps=40, head=head, temperature=1.0, **recipe)
    output = head_output(metanetwork, network.blueprint, network.weights)
    proposed = proposal(head, network.blueprint, network.weights, output)
    before = wasted(kept(network.units, norm_logits(network.units, network.weights), 0.6), useless)
    after = wasted(kept(network.units, cut_logits(network, proposed), 0.6), useless)
    assert before > 0.6
    assert after < 0.5 * before


def test_decisions_learn_from_rewards_where_a_cut_costs_least(network: DataModel) -> None:
    """Group norms keep a good deal of a layer that nothing reads."""
    for part in network.units["layer2.0.conv1"].slices:
        along = network.weights[part.tensor].movedim(part.axis, 0)
        if part.consumer:
            along.zero_()
        elif along.dim() > 1:
            along /= along.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    network.weights["fc.weight"] *= 10
    task, batch = Labels(), next(Labels().batches(64, 7, 0))

    def loss(logits: dict[str, Tensor]) -> float:
        """Return how far answers move when the network is cut by `logits`."""
        cut = masks(logits, kept(network.units, logits, 0.6))
        with torch.no_grad():
            answers = task.logits(network.model, batch)
            with gates(network.model, network.units, cut):
                return float(divergence(task.logits(network.model, batch), answers, 1.0))

    recipe = {"keep": (0.6,), "distillation_weight": 1.0, "temperature": 1.0, "num_cuts": 6, "std": 0.5}
    metanetwork, rows = learner(network, steps=30, head="decisions", sparsity="reward", **recipe)
    output = head_output(metanetwork, network.blueprint, network.weights)
    learned = cut_logits(network, proposal("decisions", network.blueprint, network.weights, output))
    assert loss(learned) < 0.8 * loss(norm_logits(network.units, network.weights))
    assert all(row["moved"] == 0 and row["loss"] == row["before"] for row in rows)
