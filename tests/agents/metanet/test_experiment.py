"""The whole way on toy images: a family, meta-training, the pipeline; killed anywhere, it goes on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from prunepolicy.agents.learned_pruning.policy_card import read_card
from prunepolicy.agents.learned_pruning.policy_card_text import options_for
from prunepolicy.agents.metanet import family as family_module
from prunepolicy.agents.metanet import pipeline as pipeline_module
from prunepolicy.agents.metanet.experiment import MetanetExperiment
from prunepolicy.agents.metanet.family import Family
from prunepolicy.agents.metanet.learner import MetaTraining
from prunepolicy.agents.metanet.meta_step import MetaStep
from prunepolicy.agents.metanet.recipe import MetanetRecipe
from prunepolicy.agents.metanet.report import WITH, WITHOUT, MetanetReport, Outcome, scores_of
from prunepolicy.agents.recovery.sparsity import group_squares
from prunepolicy.agents.runtime.open_runner import open_runner
from prunepolicy.agents.training.recipe_file import load_recipe
from prunepolicy.agents.training.train import train
from prunepolicy.cli import main
from prunepolicy.commands.zoo.catalogue import Catalogue, described
from prunepolicy.commands.zoo.rescore import rescore
from prunepolicy.policy.kinds.metanet import Metanet, MetanetConfig
from prunepolicy.policy.load import load_policy
from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.errors import PrunePolicyError, UsageError
from prunepolicy.pruning.io.config import checked
from prunepolicy.pruning.io.progress import ProgressReporter
from prunepolicy.pruning.measure.intervals import share_interval

SHORT = {"epochs": 1, "batch_size": 64}
RECIPE: dict[str, Any] = {
    "algorithm": "metanet",
    "data": {"source": "shapes", "train": 256, "validation": 128, "test": 128, "shift": 0, "flip": False},
    "network": {"arch": "resnet8", "width": 4},
    "family": {"count": 3, "held_out": 1, "training": {"epochs": 2, "batch_size": 64}},
    "policy": {"kind": "metanet", "layers": 1, "hidden": 4, "step": 0.1},
    "learner": {
        "batches_per_step": 1,
        "batch_size": 64,
        "objective": {"sparsity": "cut", "sparsity_strength": 1.0},
    },
    "max_steps": 4,
    "checkpoint_every": 2,
    "pipeline": {"initial_speedup": 1.2, "settle": SHORT, "adapt": SHORT, "recover": SHORT},
    "evaluation": {"every": 2, "speedups": [1.5, 2.0], "test_networks": 1, "test_speedups": [2.0]},
    "device": "cpu",
    "dtype": "float32",
}


def recipe(**changes: Any) -> MetanetRecipe:
    return MetanetRecipe.model_validate({**RECIPE, **changes})


def left_behind(folder: Path) -> dict[str, bytes]:
    """Everything that a run leaves, but what tells of times and places."""
    names = [
        path.relative_to(folder)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and not {"events", "run.json", "train_report.json"} & set(path.relative_to(folder).parts)
    ]
    return {str(name): (folder / name).read_bytes() for name in names if name.suffix != ".png"}


def results(folder: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((folder / "train_report.json").read_text(encoding="utf-8"))
    return {key: report[key] for key in ("outcomes", "curves", "selected", "untouched", "best_step")}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "toy"
    train(recipe(), folder)
    return folder


def test_the_whole_way_ends_with_a_report_and_a_policy(whole: Path) -> None:
    report = MetanetReport.load(whole)
    assert {outcome.way for outcome in report.outcomes} == {"with the metanetwork", "without"}
    assert all(2 <= outcome.reached <= 2.5 for outcome in report.outcomes)
    assert all(0 <= score <= 1 for outcome in report.outcomes for score in outcome.scores)
    assert "on test data" in report.verdict
    assert (whole / "best" / "README.md").read_text(encoding="utf-8").startswith(f"**{report.verdict}**")
    assert (whole / "curve.png").is_file()
    assert load_policy(str(whole)).rewrites


def test_its_card_compares_and_the_run_is_listed(whole: Path) -> None:
    report, card = MetanetReport.load(whole), read_card(whole / "best")
    assert (card.kind, card.best_heuristic, card.word) == ("metanet", "group_norm", report.word)
    ends = {outcome.way: 1 - outcome.recovered for outcome in report.outcomes}
    assert card.chosen == pytest.approx({"network 0, 2x": ends["with the metanetwork"]})
    assert card.heuristics["group_norm"].cells["network 0, 2x"].median == pytest.approx(ends["without"])
    assert "error rate on test data" in card.measure
    assert str(whole) in Catalogue.of(whole.parent).runs
    assert card.verdict in described(str(whole), whole.parent)
    with pytest.raises(PrunePolicyError, match="can't be reproduced: Scores are the error rate"):
        rescore(load_policy(whole / "best"), card, ProgressReporter())


@pytest.mark.parametrize(
    ("ends", "word", "sentence"),
    [
        ((0.9, 0.8), "beats", "beats the best heuristic, group_norm: 0.1000 against 0.2000 error rate"),
        ((0.799, 0.8), "ties", "No difference shown between this policy and the best heuristic, group_norm"),
        ((0.7, 0.8), "loses", "doesn't beat the best heuristic, group_norm: 0.3000 against 0.2000"),
    ],
)
def test_the_verdict_says_first_whether_it_pays(
    ends: tuple[float, float], word: str, sentence: str, whole: Path
) -> None:
    ways = zip((WITH, WITHOUT), ends, strict=True)
    outcomes = [Outcome(0, way, 2.0, 2.0, 0.9, 0.5, end) for way, end in ways]
    scores = scores_of("toy", "group_norm", 1.0, outcomes, {})
    report = replace(
        MetanetReport.load(whole), policy="toy", scores=scores, outcomes=outcomes, differences={}
    )
    assert report.word == word
    assert sentence in report.verdict
    assert report.verdict.startswith(
        ("In this one run, this policy beats", "No difference", "This policy doesn't beat")
    )


def test_networks_that_know_nothing_are_not_told_apart(whole: Path) -> None:
    report = MetanetReport.load(whole)
    low, high = report.differences["group_norm"]
    ends = {one.way: one.recovered for one in report.outcomes}
    assert low < ends[WITHOUT] - ends[WITH] < high
    guesses = {"run": {"network 0, 2x": 0.70}, "group_norm": {"network 0, 2x": 0.75}}
    drawn = torch.rand(2, 128, generator=torch.Generator().manual_seed(0)) < torch.tensor([[0.25], [0.3]])
    sampled = share_interval(*drawn.double())
    guessing = replace(report, policy="run", scores=guesses, differences={"group_norm": sampled})
    assert guessing.word == "ties"
    assert guessing.verdict.startswith("No difference shown")


def test_several_seeds_share_a_card(whole: Path, tmp_path: Path) -> None:
    reports = []
    for seed in (0, 1):
        shutil.copytree(whole / "best", tmp_path / "all" / f"seed-{seed}" / "best")
        found = MetanetReport.load(whole)
        reports.append(replace(found, recipe={**found.recipe, "seed": seed}, selected=float(seed)))
    summary = MetanetExperiment.summarise(tmp_path / "all", recipe(), reports)
    card = read_card(tmp_path / "all" / "best")
    assert (card.name, card.seeds, card.chosen_seed) == ("all", (0, 1), 1)
    assert load_policy(str(tmp_path / "all")).name == "all"
    assert summary.verdict == card.verdict


@pytest.mark.parametrize(
    ("owner", "name", "call"),
    [
        (family_module, "write_folder", 2),  # after the first network of the family
        (MetaStep, "__call__", 4),  # after a checkpoint, in the step behind it
        (pipeline_module, "save_network", 3),  # in the pipeline of the network that judges
        (pipeline_module, "cut_network", 5),  # before its last cut
    ],
)
def test_a_killed_run_goes_on_to_the_same_bytes(
    owner: Any, name: str, call: int, whole: Path, tmp_path: Path, interrupt_at: Callable[..., None]
) -> None:
    folder = tmp_path / "toy"
    interrupt_at(owner, name, call)
    with pytest.raises(KeyboardInterrupt):
        train(recipe(), folder)
    train(recipe(), folder, resume=True)
    assert results(folder) == results(whole)
    expected, found = left_behind(whole), left_behind(folder)
    assert expected.keys() == found.keys()
    assert all(expected[file] == found[file] for file in expected if not file.endswith("README.md"))


def test_transformers_are_cut_to_equal_widths_or_refused_at_once() -> None:
    with pytest.raises(UsageError, match=r"set pipeline\.cut\.uniform to true"):
        checked(MetanetRecipe, {**RECIPE, "network": {"arch": "vit", "width": 8}}, "recipe")


def test_a_family_is_the_same_from_any_number_of_workers(whole: Path, tmp_path: Path) -> None:
    with open_runner("processes", lambda note: None) as runner:
        apart = Family(recipe(), tmp_path / "family")
        apart.train(runner, ProgressReporter())
    expected = left_behind(whole / "family")
    assert left_behind(tmp_path / "family") == expected


def test_a_family_that_is_there_is_used(whole: Path, tmp_path: Path) -> None:
    given = {**RECIPE["family"], "folder": str(whole / "family")}
    evaluation = {**RECIPE["evaluation"], "test_networks": 0}
    report = train(recipe(family=given, max_steps=1, evaluation=evaluation), tmp_path / "alone")
    assert isinstance(report, MetanetReport)
    assert report.outcomes == []
    assert not (tmp_path / "alone" / "family").exists()
    missing = {**RECIPE["family"], "folder": str(tmp_path / "nowhere")}
    with pytest.raises(UsageError, match="There is no network"):
        train(recipe(family=missing), tmp_path / "other")


@pytest.mark.parametrize("name", ["metanet_resnet20", "metanet_resnet20_published", "metanet_llama"])
def test_recipes_that_ship_say_what_there_is(name: str) -> None:
    shipped = load_recipe(Path(f"configs/train/{name}.yaml"))
    assert isinstance(shipped, MetanetRecipe)
    assert checked(MetaTraining, shipped.learner, "learner").objective.sparsity_strength > 0
    assert shipped.policy_settings("metanet", MetanetConfig).layers > 0


@pytest.mark.parametrize(
    ("changes", "epochs"),
    [
        ([], "0,20"),
        (["pipeline.settle={epochs: 5, group_sparsity: 0.001}"], "5,20 --shrink 0.001"),
        (["pipeline.initial_speedup=1.3", "pipeline.adapt.epochs=2"], "7,20"),
    ],
)
def test_cards_say_how_long_the_policy_was_taught_to_train(changes: list[str], epochs: str) -> None:
    shipped = load_recipe(Path("configs/train/metanet_resnet20.yaml"), changes)
    assert options_for(shipped.model_dump()) == f"--keep 0.5 --of flops --data IMAGES --epochs {epochs}"


def test_stages_can_be_left_out(tmp_path: Path) -> None:
    nothing = {"epochs": 0}
    skipping = {
        "initial_speedup": 1.0,
        "settle": nothing,
        "rewrite": False,
        "adapt": nothing,
        "recover": nothing,
    }
    report = train(recipe(pipeline=skipping, max_steps=1), tmp_path / "short")
    assert isinstance(report, MetanetReport)
    assert report.outcomes[0].right_after == pytest.approx(report.outcomes[1].right_after)
    assert sorted(path.name for path in (tmp_path / "short/targets/00/with").iterdir()) == ["5-cut-2"]


@pytest.mark.parametrize(("head", "sparsity"), [("gates", "cut"), ("scores", "cut"), ("decisions", "reward")])
def test_other_heads_go_the_same_way(whole: Path, tmp_path: Path, head: str, sparsity: str) -> None:
    family, folder = {**RECIPE["family"], "folder": str(whole / "family")}, tmp_path / head
    objective = {**RECIPE["learner"]["objective"], "sparsity": sparsity}
    learner = {**RECIPE["learner"], "objective": objective}
    policy = {**RECIPE["policy"], "head": head}
    report = train(recipe(policy=policy, learner=learner, family=family), folder)
    assert isinstance(report, MetanetReport)
    stages = {path.name for path in (folder / "targets/00/with").iterdir()}
    assert ("3-rewritten" in stages) == (head == "gates")
    assert {outcome.way for outcome in report.outcomes} == {WITH, WITHOUT}
    assert load_policy(str(folder)).rewrites == (head == "gates")


def test_a_policy_that_scores_makes_plans(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Plans can't carry weights, but scores leave weights as they are."""
    policy, network = (
        Metanet(MetanetConfig(layers=1, hidden=4, head="scores"), "scorer"),
        str(whole / "family/00"),
    )
    policy.save(tmp_path / "policy")
    plan = tmp_path / "plan.json"
    asked = ["--policy", str(tmp_path / "policy"), "--keep", "0.5", "--of", "flops", "--out", str(plan)]
    assert main(["plan", network, *asked]) == 0, capsys.readouterr().err
    assert json.loads(plan.read_text(encoding="utf-8"))["made_by"] == "scorer"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"policy": {"kind": "metanet", "criterion": "magnitude"}}, r"say pipeline\.cut\.criterion"),
        ({"policy": {"kind": "metanet", "head": "gates"}, "learner": {}}, "sparsity to cut"),
        ({"policy": {"kind": "metanet", "head": "tails"}}, "head: Input should be"),
        ({"learner": {"objective": {"sparsity": "reward"}}}, r"Decisions and rewards go together"),
        (
            {
                "policy": {"kind": "metanet", "head": "decisions"},
                "learner": {"objective": {"sparsity": "reward"}},
                "pipeline": {**RECIPE["pipeline"], "cut": {"uniform": True}},
            },
            "uniform makes all alike",
        ),
    ],
)
def test_senseless_policies_are_refused_in_a_sentence(
    changes: dict[str, Any], sentence: str, whole: Path, tmp_path: Path
) -> None:
    family = {**RECIPE["family"], "folder": str(whole / "family")}
    with pytest.raises(UsageError, match=sentence):
        train(recipe(family=family, **changes), tmp_path / "run")


def test_weak_groups_can_shrink_before_the_metanetwork_looks(tmp_path: Path) -> None:
    """Without a first cut, networks settle only where that shrinks weak groups."""
    settle = {"epochs": 2, "batch_size": 64, "learning_rate": 0.05}
    nothing = {"initial_speedup": 1.0, "adapt": {"epochs": 0}, "recover": {"epochs": 0}}
    spreads = {}
    for shrink in (0.0, 0.05):
        pipeline = {**nothing, "settle": {**settle, "group_sparsity": shrink}}
        folder = tmp_path / str(shrink)
        policy = {**RECIPE["policy"], "head": "scores"}
        train(recipe(policy=policy, pipeline=pipeline, max_steps=1), folder)
        stages = {path.name for path in (folder / "targets/00/with").iterdir()}
        assert ("2-settled" in stages) == bool(shrink)
        checkpoint = Checkpoint.open(folder / "family" / "00")
        weights = {name: checkpoint.read(name) for name in checkpoint.tensors}
        norms = [group_squares(group, weights).sqrt() for group in checkpoint.graph.groups]
        spreads[shrink] = sum(float(norm.std() / norm.mean()) for norm in norms)
    assert spreads[0.05] > 1.1 * spreads[0.0]


def test_the_command_trains_what_is_missing_of_a_family(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, family = tmp_path / "toy.yaml", tmp_path / "family"
    file.write_text(yaml.safe_dump(RECIPE), encoding="utf-8")
    shutil.copytree(whole / "family", family)
    shutil.rmtree(family / "02")
    assert main(["data-models", str(file), "--out", str(family)]) == 0
    assert "train 1 networks" in capsys.readouterr().out
    assert left_behind(family) == left_behind(whole / "family")
    assert main(["data-models", "configs/train/prunenet.yaml", "--out", str(family)]) == 2
    assert "learns from no family" in capsys.readouterr().err
