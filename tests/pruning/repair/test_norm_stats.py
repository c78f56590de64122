"""Batch-norm statistics after a cut are those of a fresh pass over the images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.checkpoint.cut import finish, prepare
from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.io.atomic import publish
from prunepolicy.pruning.plan import Budget, Plan
from prunepolicy.pruning.repair.norm_stats import equal_batches, norm_stats, recalibrate
from prunepolicy.pruning.repair.registry import RepairContext

Make = Callable[..., Checkpoint]


def images(count: int = 12) -> dict[str, torch.Tensor]:
    return {"pixel_values": torch.randn(count, 3, 32, 32) * 2 + 1}


def half(checkpoint: Checkpoint) -> Plan:
    keep = {group.name: tuple(range(0, group.size, 2)) for group in checkpoint.graph.groups}
    return Plan(keep, Budget(0.5), "test")


def test_first_norm_sees_the_mean_of_its_convolution(tiny_checkpoint: Make) -> None:
    checkpoint = tiny_checkpoint("cifar_resnet")
    model = checkpoint.adapter.load(checkpoint.folder, torch.float32)
    first, second = images(6), images(6)
    found = recalibrate(model, [first, second])
    with torch.no_grad():
        seen = [model.conv1(batch["pixel_values"]) for batch in (first, second)]
    mean = torch.stack([x.mean((0, 2, 3)) for x in seen]).mean(0)
    variance = torch.stack([x.var((0, 2, 3)) for x in seen]).mean(0)
    torch.testing.assert_close(found["bn1.running_mean"], mean)
    torch.testing.assert_close(found["bn1.running_var"], variance)
    assert found["bn1.num_batches_tracked"] == 2


def test_statistics_that_fit_stay_and_the_model_is_left_alone(tiny_checkpoint: Make) -> None:
    checkpoint = tiny_checkpoint("cifar_resnet")
    model = checkpoint.adapter.load(checkpoint.folder, torch.float32)
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    batches = equal_batches(images())
    found = recalibrate(model, batches)
    torch.testing.assert_close(dict(model.named_buffers()), before)
    assert not model.training
    model.load_state_dict(found, strict=False)
    torch.testing.assert_close(recalibrate(model, batches), found)


@pytest.mark.parametrize("model_type", ["cifar_resnet", "resnet"])
def test_repair_writes_what_the_pruned_network_measures(
    model_type: str, tiny_checkpoint: Make, tmp_path: Path
) -> None:
    checkpoint, inputs = tiny_checkpoint(model_type), images()
    load = checkpoint.adapter.load
    plan = half(checkpoint)
    edits = norm_stats(RepairContext(checkpoint, load(checkpoint.folder, torch.float32), plan, inputs))
    folder = prepare(checkpoint, plan, tmp_path / "cut", edits)
    finish(folder)
    publish(folder, tmp_path / "cut")
    pruned = load(tmp_path / "cut", torch.float32)
    torch.testing.assert_close(dict(pruned.named_buffers()), recalibrate(pruned, equal_batches(inputs)))


def test_networks_without_batch_norms_and_single_images_are_refused(tiny_checkpoint: Make) -> None:
    language = tiny_checkpoint("llama")
    model = language.adapter.load(language.folder, torch.float32)
    tokens = {"input_ids": torch.randint(3, 60, (2, 8))}
    with pytest.raises(UsageError, match="no batch norms"):
        norm_stats(RepairContext(language, model, Plan({}, Budget(1.0), "test"), tokens))
    with pytest.raises(UsageError, match="two calibration images"):
        equal_batches(images(1))


def test_batches_are_nearly_equal() -> None:
    sizes = [len(batch["pixel_values"]) for batch in equal_batches({"pixel_values": torch.zeros(130, 1)})]
    assert sizes == [65, 65]
