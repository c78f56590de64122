"""Training learns, is the same again, goes on after a kill to the same bytes, and makes groups small."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from prunepolicy.agents.images.networks import NetworkRecipe
from prunepolicy.agents.images.task import ImageRecipe, ImageTask
from prunepolicy.agents.recovery.controls import from_scratch
from prunepolicy.agents.recovery.distillation import Teacher
from prunepolicy.agents.recovery.fit import Epoch, Fit, FitRecipe
from prunepolicy.agents.recovery.norm_statistics import remeasure_norms
from prunepolicy.agents.recovery.savepoint import Savepoint
from prunepolicy.agents.recovery.sparsity import GroupPenalty, group_squares, shrink_rates
from prunepolicy.agents.recovery.stored import cut_network, load_network, operations, save_network
from prunepolicy.policy.kinds.heuristic import Heuristic, HeuristicConfig
from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.errors import PrunePolicyError
from prunepolicy.pruning.plan import Budget
from prunepolicy.pruning.statistics.stats import weight_stats

SHORT = FitRecipe(epochs=2, batch_size=64)


class KilledError(Exception):
    """What a kill is to a test."""


@pytest.fixture(scope="module")
def task() -> ImageTask:
    images = ImageRecipe(source="shapes", train=512, validation=128, shift=0, flip=False)
    return images.open(torch.device("cpu"))


def network(task: ImageTask, seed: int = 0) -> nn.Module:
    return NetworkRecipe(arch="resnet8", width=4).build(task, seed)


def states(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def test_training_learns_and_is_the_same_again(task: ImageTask) -> None:
    recipe = FitRecipe(epochs=6, batch_size=64)
    models = [network(task), network(task)]
    histories = [Fit(task, recipe).train(model) for model in models]
    assert histories[0][-1].score > 0.6  # four classes
    assert histories[0][-1].loss < histories[0][0].loss
    first, second = map(states, models)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_killed_training_goes_on_to_the_same_bytes(task: ImageTask, tmp_path: Path) -> None:
    whole = network(task)
    Fit(task, SHORT).train(whole)

    def die(model: nn.Module, epoch: Epoch) -> None:
        raise KilledError

    fit = Fit(task, SHORT, savepoint=Savepoint(tmp_path, "one"))
    with pytest.raises(KilledError):
        replace(fit, after=die).train(network(task))
    resumed = network(task, seed=9)  # whatever it is, the savepoint replaces it
    seen: list[int] = []
    fit = replace(fit, after=lambda model, epoch: seen.append(epoch.epoch))
    assert [row.epoch for row in fit.train(resumed)] == [1, 2]
    assert seen == [2]
    expected, found = states(whole), states(resumed)
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    other = replace(fit, savepoint=Savepoint(tmp_path, "another"))
    assert other.savepoint is not None
    assert other.savepoint.load() is None
    Savepoint(tmp_path, "one").finish()
    assert not tmp_path.exists()


def test_a_loss_that_is_no_number_ends_the_training(task: ImageTask) -> None:
    model = network(task)
    nn.init.constant_(model.get_parameter("fc.weight"), float("nan"))
    with pytest.raises(PrunePolicyError, match="epoch 1"):
        Fit(task, SHORT).train(model)


def test_a_teacher_of_full_weight_pulls_towards_its_answers(task: ImageTask) -> None:
    teacher = network(task, seed=1)
    Fit(task, FitRecipe(epochs=4, batch_size=64), 1).train(teacher)
    batch = next(iter(task.batches(64, 0, 0)))

    def apart(model: nn.Module) -> float:
        with torch.no_grad():
            answers = [task.logits(m.eval(), batch).log_softmax(-1) for m in (model, teacher)]
        return float((answers[0] - answers[1]).abs().mean())

    student = network(task)
    before = apart(remeasure_norms(student, task))
    Fit(task, FitRecipe(epochs=4, batch_size=64), teacher=Teacher(teacher, weight=1.0)).train(student)
    assert apart(student) < before


def test_the_penalty_shrinks_weak_channels_fastest(task: ImageTask, tmp_path: Path) -> None:
    save_network(network(task), tmp_path / "net")
    graph = Checkpoint.open(tmp_path / "net").graph
    model = load_network(tmp_path / "net")
    parameters = dict(model.named_parameters())
    group = graph.groups[0]
    rate = shrink_rates(graph, parameters)
    squares = group_squares(group, parameters)
    only_here = "layer1.0.conv1.weight"
    inner = graph["layer1.0.conv1"]
    rates = rate[only_here]  # written by the inner group, read from the first one
    weakest = int(group_squares(inner, parameters).argmin())
    along = rates.expand_as(parameters[only_here]).mean((1, 2, 3))
    assert int(along.argmax()) == weakest
    assert squares.shape == (group.size,)
    loss = task.loss(
        task.logits(model, next(iter(task.batches(64, 0, 0)))), next(iter(task.batches(64, 0, 0)))
    )
    loss.backward()
    before = parameters[only_here].grad.clone()  # type: ignore[union-attr]
    GroupPenalty(graph, 0.1).add(model, 0)
    added = parameters[only_here].grad - before  # type: ignore[operator]
    torch.testing.assert_close(added, 0.1 * rates * parameters[only_here].detach())


def test_the_penalty_knows_networks_whose_files_name_tensors_otherwise(
    tiny_checkpoint: Callable[..., Checkpoint],
) -> None:
    checkpoint = tiny_checkpoint("vit")
    model = load_network(checkpoint.folder)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    GroupPenalty.of(checkpoint, 0.1).add(model, 0)
    names = {stored: running for running, stored in checkpoint.stored_names.items()}
    slices = checkpoint.graph.of_kind("ffn")[0].slices
    weights = {part.tensor for part in slices if part.tensor.endswith("dense.weight")}
    assert len(weights) == 2
    for weight in weights:
        gradient = model.get_parameter(names[weight]).grad
        assert gradient is not None
        assert bool(gradient.any())


def test_group_squares_are_the_statistic_of_the_criterion(task: ImageTask, tmp_path: Path) -> None:
    save_network(network(task), tmp_path / "net")
    checkpoint = Checkpoint.open(tmp_path / "net")
    parameters = dict(load_network(tmp_path / "net").named_parameters())
    stats = weight_stats(checkpoint, checkpoint.graph.groups)
    for group in checkpoint.graph.groups:
        torch.testing.assert_close(group_squares(group, parameters), stats.get("member_square", group.name))


def test_a_cut_network_has_the_operations_that_were_asked_for(task: ImageTask, tmp_path: Path) -> None:
    save_network(NetworkRecipe(arch="resnet20", width=8).build(task, 0), tmp_path / "net")
    policy = Heuristic(HeuristicConfig(criterion="group_norm", allocator="global_score"), "group_norm")
    budget = Budget(0.5, of="flops", uniform=False, multiple_of=1)
    plan = cut_network(tmp_path / "net", tmp_path / "cut", policy, budget)
    assert 0.49 <= operations(tmp_path / "cut") / operations(tmp_path / "net") <= 0.5
    graph = Checkpoint.open(tmp_path / "net").graph
    assert all(len(plan.kept(group)) >= 0.1 * group.size for group in graph.groups)
    assert 0 <= task.score(remeasure_norms(load_network(tmp_path / "cut"), task), "validation") <= 1


@pytest.mark.parametrize(("arch", "width"), [("vgg11", 4), ("vit", 16)])
def test_other_architectures_train_and_are_stored(arch: str, width: int, tmp_path: Path) -> None:
    images = ImageRecipe(source="shapes", train=128, validation=64).open(torch.device("cpu"))
    large = replace(images, images=enlarged(images)) if arch == "vgg11" else images
    model = NetworkRecipe(arch=arch, width=width).build(large, 0)
    history = Fit(large, FitRecipe(epochs=1, batch_size=32)).train(model)
    save_network(model, tmp_path / "net")
    assert large.score(load_network(tmp_path / "net"), "validation") == history[-1].score


def enlarged(task: ImageTask):  # type: ignore[no-untyped-def]
    """The same images at 32 pixels, which five poolings need."""
    parts = {
        part: replace(images, pixels=images.pixels.repeat_interleave(4, 2).repeat_interleave(4, 3))
        for part in ("train", "validation", "test")
        for images in [getattr(task.images, part)]
    }
    return replace(task.images, **parts)


def test_scratch_b_has_the_operations_of_the_dense_training() -> None:
    assert from_scratch(SHORT) == SHORT
    assert from_scratch(SHORT, 2.5).epochs == 5
