from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from prunepolicy.commands.prune.job import PruneSettings
from prunepolicy.commands.prune.prune import prune
from prunepolicy.commands.prune.rewrite import rewritten, rewritten_tensors
from prunepolicy.policy.kinds.heuristic import Heuristic, HeuristicConfig
from prunepolicy.policy.kinds.metanet import Metanet, MetanetConfig
from prunepolicy.policy.load import load_policy
from prunepolicy.policy.planning import plan_for
from prunepolicy.pruning.adapters import adapters
from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.plan import Budget
from prunepolicy.pruning.session.model_session import ModelSession
from prunepolicy.pruning.session.opened_model import Hardware

Make = Callable[..., Checkpoint]
QUICK = PruneSettings(measure=False, hardware=Hardware("cpu", "float32"))
SMALL = {"layers": 2, "hidden": 8}
FAMILIES = ["cifar_resnet", "cifar_cnn", "efficientnet_lite", "resnet", "llama", "vit", "gpt_neox", "mixtral"]
WIDE = {"widths": {"residual": [16, 24, 32], "inner": [[16], [24], [32]]}}


def learned(head: Any = "weights") -> Metanet:
    policy = Metanet(MetanetConfig(**SMALL, step=0.5, head=head), "rewriter")
    for weights in policy.weights().values():
        torch.nn.init.normal_(weights, std=0.3)
    return policy


def tensors_of(folder: Path) -> dict[str, torch.Tensor]:
    checkpoint = Checkpoint.open(folder)
    return {name: checkpoint.read(name) for name in checkpoint.tensors}


@pytest.mark.parametrize("head", ["weights", "gates", "scores", "decisions"])
@pytest.mark.parametrize("family", ["cifar_resnet", "llama"])
def test_an_untrained_metanetwork_prunes_as_its_criterion_does(
    tiny_checkpoint: Make, tmp_path: Path, family: str, head: Any
) -> None:
    folder = tiny_checkpoint(family, **(WIDE if family == "cifar_resnet" else {})).folder
    budget, unproven = Budget(0.7, "flops", uniform=family == "llama"), replace(QUICK, verify=False)
    config = HeuristicConfig(criterion="group_norm", allocator="global_score")
    prune(str(folder), tmp_path / "a", budget, Metanet(MetanetConfig(**SMALL, head=head)), unproven)
    prune(str(folder), tmp_path / "b", budget, Heuristic(config), unproven)
    first, second = tensors_of(tmp_path / "a"), tensors_of(tmp_path / "b")
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_it_changes_has_the_names_and_shapes_of_the_checkpoint(
    tiny_checkpoint: Make, family: str
) -> None:
    checkpoint = tiny_checkpoint(family)
    changed = rewritten_tensors(checkpoint, learned())
    assert changed
    for name, tensor in changed.items():
        original = checkpoint.read(name)
        assert (tensor.shape, tensor.dtype) == (original.shape, original.dtype)
        assert not torch.equal(tensor, original)
    assert not any("running" in name or "embed_tokens" in name for name in changed)


def test_the_result_is_a_cut_of_the_rewritten_network_and_is_proven(
    tiny_checkpoint: Make, tmp_path: Path
) -> None:
    checkpoint, policy = tiny_checkpoint("cifar_resnet", **WIDE), learned()
    session = ModelSession("tiny", checkpoint, Hardware("cpu", "float32"))
    report = prune(
        str(checkpoint.folder), tmp_path / "out", Budget(0.6, "flops", uniform=False), policy, QUICK
    )
    assert report.proof is not None
    assert report.proof.ok
    assert report.origin.fingerprint == checkpoint.fingerprint
    with rewritten(session, policy, tmp_path / "other") as changed:
        bias = tensors_of(changed.checkpoint.folder)["fc.bias"]
    assert torch.equal(tensors_of(tmp_path / "out")["fc.bias"], bias)
    assert not torch.equal(bias, checkpoint.read("fc.bias"))
    assert [path.name for path in tmp_path.iterdir() if "rewritten" in path.name] == []


def test_a_plan_alone_is_refused(tiny_checkpoint: Make) -> None:
    session = ModelSession("tiny", tiny_checkpoint("cifar_resnet"), Hardware("cpu", "float32"))
    policy = learned()
    with pytest.raises(UsageError, match="rewrites weights"):
        plan_for(session, policy, Budget(0.6, "flops", uniform=False), policy.probe)


@pytest.mark.parametrize("head", ["scores", "decisions"])
def test_what_corrects_scores_makes_plans_of_its_own(tiny_checkpoint: Make, head: Any) -> None:
    """Nothing is rewritten, so that a plan says all."""
    session = ModelSession("tiny", tiny_checkpoint("cifar_resnet", **WIDE), Hardware("cpu", "float32"))
    policy, budget = learned(head), Budget(0.6, "flops", uniform=False)
    assert not policy.rewrites
    ranking = Heuristic(HeuristicConfig(criterion="group_norm", allocator="global_score"))
    plans = [plan_for(session, one, budget, one.probe) for one in (policy, ranking)]
    assert plans[0].keep != plans[1].keep


def test_it_survives_its_files(tiny_checkpoint: Make, tmp_path: Path) -> None:
    checkpoint, policy = tiny_checkpoint("llama"), learned()
    policy.save(tmp_path / "policy")
    restored: Any = load_policy(tmp_path / "policy")
    first, second = rewritten_tensors(checkpoint, policy), rewritten_tensors(checkpoint, restored)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("family", adapters)
def test_every_running_tensor_that_is_stored_as_it_is_has_a_name(family: str) -> None:
    adapter = adapters[family]
    config = adapter.tiny()
    adapter = adapter.for_config(config)
    stored, shapes = adapter.stored_names(config), adapter.shapes(config)
    assert len(set(stored.values())) == len(stored)
    whole = {name: tuple(tensor.shape) for name, tensor in adapter.build_on_meta(config).state_dict().items()}
    for running, name in stored.items():
        assert shapes.get(name, whole[running]) == whole[running]
