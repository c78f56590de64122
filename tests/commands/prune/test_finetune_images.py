"""`prune-with-policy` on a user's own weights and images: trained around the cut, resumed after a kill."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from prunepolicy.agents.images.networks import NetworkRecipe
from prunepolicy.agents.images.task import ImageRecipe
from prunepolicy.agents.recovery.sparsity import group_squares
from prunepolicy.agents.recovery.stored import save_network
from prunepolicy.cli import prune_main
from prunepolicy.commands.prune import job
from prunepolicy.policy.kinds.metanet import Metanet, MetanetConfig
from prunepolicy.pruning.convnets import networks as convnets
from prunepolicy.pruning.convnets.networks import standard_widths


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    task = ImageRecipe(source="shapes").open(torch.device("cpu"))
    save_network(NetworkRecipe(arch="resnet8", width=8).build(task, 0), tmp_path / "net")
    return Path(shutil.copy(tmp_path / "net" / "model.safetensors", tmp_path / "mine.safetensors"))


def command(weights: Path, out: Path, *more: str) -> list[str]:
    budget = ["--keep", "0.48", "--of", "flops"]
    shape = ["--arch", "resnet8", "--data", "shapes", "--epochs", "1,1", "--dtype", "float32", "--no-verify"]
    return [str(weights), *shape, *budget, "--out", str(out), *more]


def test_bare_weights_are_rewritten_trained_cut_and_trained(weights: Path, tmp_path: Path) -> None:
    policy, out = Metanet(MetanetConfig(layers=1, hidden=4), "rewriter"), tmp_path / "smaller"
    policy.save(tmp_path / "rewriter")
    assert prune_main(command(weights, out, "--policy", str(tmp_path / "rewriter"), "--epochs", "5,5")) == 0
    report = json.loads((out / "prune_report.json").read_text(encoding="utf-8"))
    assert report["images"] == "shapes"
    assert report["after"]["accuracy"] > report["before"]["accuracy"]  # the network began untrained
    assert report["after"]["cost"]["flops"] <= 0.48 * report["before"]["cost"]["flops"]
    assert not (tmp_path / "smaller.stages").exists()


def test_weak_groups_shrink_before_the_cut(weights: Path, tmp_path: Path, monkeypatch: Any) -> None:
    """The plan is made of what the training before the cut has left."""
    spreads = []

    def look(session: Any, *arguments: Any) -> Any:
        stored = {name: session.checkpoint.read(name) for name in session.checkpoint.tensors}
        norms = [group_squares(group, stored).sqrt() for group in session.checkpoint.graph.groups]
        spreads.append(sum(float(norm.std() / norm.mean()) for norm in norms))
        return decide(session, *arguments)

    decide = job.decide
    monkeypatch.setattr("prunepolicy.commands.prune.prune.decide", look)
    for number, strength in enumerate(("0", "0.05")):
        more = ("--policy", "group_norm", "--epochs", "3,0", "--shrink", strength, "--no-measure")
        assert prune_main(command(weights, tmp_path / str(number), *more)) == 0
    assert spreads[1] > 1.1 * spreads[0]


def test_bare_weights_with_depthwise_convolutions_are_rewritten_and_cut(tmp_path: Path) -> None:
    Metanet(MetanetConfig(layers=1, hidden=4), "rewriter").save(tmp_path / "rewriter")
    widths = standard_widths("efficientnet-lite0") | {"head": 64}
    convnets.save(convnets.build({"arch": "efficientnet-lite0", "widths": widths}), tmp_path / "net")
    weights, out = tmp_path / "net" / "model.safetensors", tmp_path / "smaller"
    budget = ["--arch", "efficientnet-lite0", "--keep", "0.6", "--of", "flops", "--dtype", "float32"]
    more = ["--policy", str(tmp_path / "rewriter"), "--out", str(out), "--no-verify", "--no-measure"]
    assert prune_main([str(weights), *budget, *more]) == 0
    report = json.loads((out / "prune_report.json").read_text(encoding="utf-8"))
    assert report["after"]["cost"]["flops"] <= 0.6 * report["before"]["cost"]["flops"]
    assert convnets.load(out)(torch.zeros(1, 3, 64, 64)).shape == (1, 1000)


def test_a_killed_job_goes_on_with_its_stages(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, cut_short = tmp_path / "whole", tmp_path / "short"
    assert prune_main(command(weights, whole, "--policy", "group_norm")) == 0

    def die(*arguments: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as killing:
        killing.setattr(job, "prepare", die)
        assert prune_main(command(weights, cut_short, "--policy", "group_norm")) == 130
    assert (tmp_path / "short.stages").is_dir()
    capsys.readouterr()
    assert prune_main(command(weights, cut_short, "--policy", "group_norm")) == 0
    assert "epochs" not in capsys.readouterr().out  # both trainings were there already
    expected, found = ((folder / "model.safetensors").read_bytes() for folder in (whole, cut_short))
    assert expected == found


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--epochs", "1"], "two whole numbers"),
        (["--shrink", "40"], "between 0 and 1"),
        (["--shrink", "0.001", "--epochs", "0,1"], "needs --data, and epochs before the cut"),
        (["--data", "nowhere"], "no images at"),
        (["--arch", "resnet20"], "is missing"),
        (["--arch", "resnet7"], "Unknown convolution network"),
    ],
)
def test_wrong_usage_is_one_sentence(
    options: list[str], sentence: str, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prune_main(command(weights, tmp_path / "out", *options)) == 2
    assert sentence in capsys.readouterr().err.replace("\n", " ")
    assert not (tmp_path / "out").exists()
