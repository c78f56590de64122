"""Several seeds of one recipe: the verdict over all, the choice among them, continuing."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from prunepolicy.agents.learned_pruning.policy_card import read_card
from prunepolicy.agents.learned_pruning.policy_card_text import agreement, policy_card
from prunepolicy.agents.learned_pruning.report import TrainReport
from prunepolicy.agents.learned_pruning.seeds_report import SeedsReport
from prunepolicy.agents.training import detached_runs as runs_apart
from prunepolicy.agents.training.run_report import SEEDS_REPORT
from prunepolicy.agents.training.train import train
from prunepolicy.cli import main
from prunepolicy.policy.load import load_policy
from prunepolicy.pruning.io.console import Console

MakeReport = Callable[..., TrainReport]


def joint(
    invented: MakeReport, learned: Sequence[float], selected: Sequence[float] = (0, 0, 0)
) -> SeedsReport:
    runs = [
        replace(invented(score, seed=seed, selected=chosen), policy=f"seed-{seed}")
        for seed, (score, chosen) in enumerate(zip(learned, selected, strict=True))
    ]
    for run in runs:
        run.scores[run.policy] = run.scores.pop("run")
    return SeedsReport("rows", "runs/rows", tuple(runs))


@pytest.mark.parametrize(
    ("learned", "word", "words"),
    [
        ((0.9, 0.8, 0.94), "beats", "With each of 3 seeds, this policy beats the best heuristic, fisher"),
        (
            (0.5, 0.5, 0.96),
            "ties",
            "No difference shown between this policy and the best heuristic, fisher: 0.5000",
        ),
        ((0.5, 0.99, 1.2), "ties", "it is better with 1 and worse with 1 of 3 seeds"),
        ((1.3, 1.1, 1.2), "loses", "loses to the best heuristic, fisher"),
        ((0.5, 1.1, 1.2), "ties", "it is better with 1 and worse with 2 of 3 seeds"),
    ],
)
def test_only_a_policy_that_wins_with_every_seed_beats(
    invented: MakeReport, learned: tuple[float, ...], word: str, words: str
) -> None:
    card = joint(invented, learned).card
    assert card.word == word
    assert words in policy_card(card).splitlines()[0]


def test_the_seed_is_chosen_by_the_selection_score_alone(invented: MakeReport) -> None:
    report = joint(invented, (0.5, 0.9, 0.7), selected=(-3.0, -1.0, -2.0))
    card = report.card
    assert (card.chosen_seed, set(card.chosen.values())) == (1, {0.9})
    table = [line.split(" | ") for line in policy_card(card).splitlines() if line.startswith("| m")]
    assert table[0][-1] == "rows, seed 1 (this one) |"
    assert {row[-1] for row in table[1:]} == {"0.9000 |"}
    assert (card.learned.mean.median, card.learned.mean.least, card.learned.mean.most) == (0.7, 0.5, 0.9)


def test_disagreement_between_seeds_is_named(invented: MakeReport) -> None:
    assert "All 3 seeds agree" in agreement(joint(invented, (0.5, 0.6, 0.7)).card)
    assert "All 3 seeds agree" in agreement(joint(invented, (1.5, 1.6, 1.7)).card)
    split = joint(invented, (0.5, 0.6, 1.7)).card
    assert split.leads == {"fisher": 2}
    assert "disagree on how this policy compares with fisher (better than it in 2 of 3)" in policy_card(split)


def test_the_table_shows_every_seed(invented: MakeReport) -> None:
    file = io.StringIO()
    joint(invented, (0.5, 0.6, 1.7)).render(Console(width=140, file=file))
    printed = file.getvalue()
    assert all(words in printed for words in ("seed 2", "1.7000", "fisher", "seed 0 is kept as the best"))


@pytest.fixture
def recipe(model: Callable[..., str], tmp_path: Path) -> Path:
    file = tmp_path / "rows.yaml"
    data = {
        "algorithm": "reinforce",
        "policy": {"kind": "prunenet", "hidden": 8, "samples": 4, "length": 12},
        "learner": {"choices_per_layer": 3},
        "models": [model("llama", num_hidden_layers=1)],
        "budgets": {"of": "ffn", "keep": [0.75]},
        "evaluation": {"every": 1, "samples": 4, "length": 12, "baselines": ["random"]},
        "max_steps": 2,
        "dtype": "float32",
    }
    file.write_text(yaml.safe_dump(data))
    return file


def test_seeds_train_in_folders_of_their_own_and_the_best_is_kept(
    recipe: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "runs" / "rows"
    arguments = ["train", str(recipe), "--out", str(folder), "--seed", "4"]
    assert main([*arguments, "--seeds", "2", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [run["recipe"]["seed"] for run in report["runs"]] == [4, 5]
    assert {path.name for path in folder.iterdir()} == {"best", "seed-4", "seed-5", SEEDS_REPORT}
    card = read_card(folder / "best")
    assert load_policy(folder).name == card.name == "rows"
    chosen = folder / f"seed-{card.chosen_seed}" / "best" / "weights.safetensors"
    assert (folder / "best" / "weights.safetensors").read_bytes() == chosen.read_bytes()
    assert card.model_dump(mode="json") == report["card"]

    began: list[int] = []

    def counted(recipe: Any, *rest: Any) -> TrainReport:
        began.append(recipe.seed)
        return train(recipe, *rest)

    monkeypatch.setattr(runs_apart, "train", counted)
    assert main([*arguments, "--seeds", "3", "--resume"]) == 0
    assert began == [6]
    assert read_card(folder / "best").seeds == (4, 5, 6)
    assert main([*arguments, "--seeds", "3", "--resume", "--set", "max_steps=3"]) == 0
    assert began == [6, 4, 5, 6]


def test_one_seed_is_an_ordinary_run_and_folders_are_not_mixed(
    recipe: Path, tmp_path: Path, capsys: Any
) -> None:
    folder = tmp_path / "rows"
    arguments = ["train", str(recipe), "--out", str(folder)]
    assert main([*arguments, "--seeds", "1"]) == 0
    assert (folder / "train_report.json").is_file()
    capsys.readouterr()
    for more in ([], ["--resume"]):
        assert main([*arguments, "--seeds", "2", *more]) == 2
        said = capsys.readouterr().err
        assert "holds a run of one seed" in said
        assert said.count("\n") == 1
    (folder / "recipe.yaml").unlink()
    for more in ([], ["--resume"]):
        assert main([*arguments, "--seeds", "2", *more]) == 2
        assert "is not empty" in capsys.readouterr().err
    assert main([*arguments, "--seeds", "0"]) == 2
    assert main(["train", str(recipe), "--out", str(tmp_path / "random"), "--seeds", "2"]) == 2
