from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import transformers
import yaml

from prunepolicy.agents.thinking.lm.evaluate import evaluation_problems
from prunepolicy.agents.thinking.lm.problem_set import ProblemSet
from prunepolicy.agents.thinking.lm.recipe import ThinkRecipe
from prunepolicy.agents.thinking.lm.think_eval import DifficultyLevel, ThinkEval
from prunepolicy.agents.thinking.lm.think_report import ThinkReport
from prunepolicy.agents.training.recipe_file import load_recipe
from prunepolicy.cli import main

ROOT = Path(__file__).parents[4]
Make = Callable[..., ThinkRecipe]


@pytest.fixture
def source(recipe: Make, tmp_path: Path) -> str:
    file = tmp_path / "quick.yaml"
    file.write_text(yaml.safe_dump(recipe().model_dump(mode="json")))
    return str(file)


@pytest.mark.parametrize("name", ["tiny", "autothink", "sasr", "after_pruning"])
def test_shipped_recipes_are_complete(name: str) -> None:
    recipe = load_recipe(ROOT / "configs" / "think" / f"{name}.yaml", ["model=somewhere", "seed=3"])
    assert isinstance(recipe, ThinkRecipe)
    assert (recipe.model, recipe.seed) == ("somewhere", 3)


def test_commands_train_examine_and_sum_up_seeds(
    source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "runs"
    assert main(["train", source, "--out", str(run), "--seeds", "2", "--set", "max_steps=4", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [one["recipe"]["seed"] for one in report["runs"]] == [0, 1]
    assert set(report["runs"][0]["learned"]) == {"auto", "always", "never"}
    assert len(report["figures"]["tokens saved"]) == 2
    assert transformers.AutoModelForCausalLM.from_pretrained(run / "best").num_parameters() > 0
    seed = run / "seed-0"
    assert ThinkReport.load(seed).to_json() == (seed / "train_report.json").read_text()
    assert all(
        (seed / picture).stat().st_size > 1000 for picture in ("think.png", "health.png", "report.html")
    )
    rows = [json.loads(line) for line in (seed / "metrics.jsonl").read_text().splitlines()]
    logged = {name for row in rows for name in row}
    health = {"think", "mixed", "zero_variance", "entropy", "mode_entropy", "kl", "clipped_length"}
    health |= {"p_imitation", "verifier_errors", "held_out/greedy_think", "held_out/think", "gap_hard"}
    assert health <= logged
    assert main(["eval", str(seed), "--think", "never", "--json"]) == 0
    examined = json.loads(capsys.readouterr().out)
    assert examined["result"]["think"] == 0
    assert (seed / "eval-never" / "think_eval.png").stat().st_size > 1000
    assert main(["eval", str(seed), "--think", "auto", "--limit", "3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["settings"]["problems"] == 3
    assert main(["eval", str(seed), "--think", "always", "--tasks", "parity:3-4", "--limit", "6"]) == 0
    shown = capsys.readouterr().out
    assert "100%" in shown
    assert f"Metrics and figure: {seed / 'eval-always'}" in shown


def test_a_limit_takes_the_first_test_problems_and_none_that_chose_the_best_step(recipe: Make) -> None:
    problems = recipe().problems
    drawn = ProblemSet.draw(problems, 0)
    few = evaluation_problems(problems, 4)
    assert few == drawn.test[:4]
    assert not {one.question for one in few} & {one.question for one in drawn.validation}
    assert evaluation_problems(problems, None) == drawn.test


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--think", "sometimes", "--tasks", "parity"], "--think takes auto, always, never"),
        (["--think", "auto", "--tasks", "parity", "--limit", "0"], "--limit must be at least 1"),
        (["--think", "auto"], "Name the tasks: --tasks modular_chain"),
        (["--think", "auto", "--tasks", "parity:x"], "NAME or NAME:LOW-HIGH"),
        (["--think", "auto", "--tasks", "parity:1-3"], "difficulties 2 to 24"),
        (["--think", "auto", "--tasks", "partiy"], "Did you mean 'parity'"),
    ],
)
def test_a_wrong_request_gets_one_sentence(
    arguments: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", str(tmp_path), *arguments]) == 2
    error = capsys.readouterr().err
    assert sentence in " ".join(error.split())
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        (
            "reinforcement.num_generation=3",
            "unknown key 'reinforcement.num_generation'. Did you mean 'num_generations'",
        ),
        ("algorithm=grpoo", "Did you mean 'grpo'"),
        ("stages=[]", "stages"),
        ("problems.tasks=[{task: parity, levels: [1, 2]}]", "difficulties 2 to 24"),
    ],
)
def test_a_wrong_recipe_gets_one_sentence(
    source: str, override: str, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", source, "--out", str(tmp_path / "run"), "--set", override]) == 2
    assert sentence in " ".join(capsys.readouterr().err.split())


def test_a_recipe_without_a_model_asks_for_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = ROOT / "configs" / "think" / "autothink.yaml"
    assert main(["train", str(recipe), "--out", str(tmp_path / "run")]) == 2
    assert "no model to start from: --set model=PATH_OR_HUB_ID" in " ".join(capsys.readouterr().err.split())


def exam(accuracy: float, tokens: float, thinks: tuple[float, ...], answers: int = 1000) -> ThinkEval:
    bins = tuple(
        DifficultyLevel(level, answers, accuracy, tokens, share) for level, share in enumerate(thinks, 1)
    )
    return ThinkEval(accuracy, tokens, sum(thinks) / len(thinks), 0.0, bins, 300 / answers)


def test_figures_compare_with_the_start_that_always_thinks() -> None:
    start = {
        "auto": exam(0.7, 25, (0.5, 0.5, 0.5)),
        "always": exam(0.9, 40, (1, 1, 1)),
        "never": exam(0.5, 5, (0, 0, 0)),
    }
    learned = {
        "auto": exam(0.92, 16, (0, 0.5, 1)),
        "always": exam(0.94, 30, (1, 1, 1)),
        "never": exam(0.6, 5, (0, 0, 0)),
    }
    report = ThinkReport("run", "runs/run", {"seed": 0}, 9, 6, start, learned, 0.8)
    figures = report.figures
    assert figures["tokens saved"] == pytest.approx(0.6)
    assert figures["think slope"] == 1
    assert figures["router gain"] == pytest.approx(0.92 - (0.5 * 0.94 + 0.5 * 0.6))
    gained, saved = 0.02 / 0.4, 24 / 35
    assert figures["E-F1"] == pytest.approx(2 * gained * saved / (gained + saved))
    assert figures["AES"] == pytest.approx(0.6 + 3 * 0.02 / 0.9)
    assert report.verdict.startswith("60% fewer tokens than always thinking, at +2.0% accuracy")
    few = [{**exams, "always": exam(0.9, 40, (1, 1, 1), 10)} for exams in (start, learned)]
    unsure = replace(report, start=few[0], learned={**few[1], "auto": exam(0.92, 16, (0, 0.5, 1), 10)})
    assert unsure.verdict.startswith(
        "No difference in tokens shown from always thinking, no difference in accuracy shown (-12.5 to 16.5"
    )
