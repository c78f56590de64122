"""Routers learned from rollouts: what they keep, what they save, and what they are told apart from."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from prunepolicy import load_policy
from prunepolicy.agents.learned_pruning.policy_card import read_card
from prunepolicy.agents.thinking.router.asked import read_problems, read_reply
from prunepolicy.agents.thinking.router.fit import RouterFit
from prunepolicy.agents.thinking.router.outcomes import RoutingOutcomes
from prunepolicy.agents.thinking.router.rollout_file import Rollout, RolloutHead, read_rollouts
from prunepolicy.cli import main
from prunepolicy.commands.think.fit import fit_router
from prunepolicy.policy.kinds.router import Router
from prunepolicy.policy.zoo.signing import make_key
from prunepolicy.pruning.adapters import adapter_for
from prunepolicy.pruning.errors import BudgetError, PrunePolicyError, UsageError
from prunepolicy.pruning.plan import Budget

BUDGETS = (0, 512, 2048)
NEEDED = (0, 0, 300, 1500)
"""Tokens of thought, by the number of terms in a sum."""


def simulated(file: Path, prompts: int = 160, blind: bool = False, seed: int = 0) -> Path:
    """Rollouts of a model that thinks about 1,000 tokens whatever it is asked, and needs as many as `NEEDED`.

    With `blind`, what it needs is drawn, whatever the prompt.
    """
    luck, lines = Random(seed), []
    needed = [luck.randrange(4) for _ in range(prompts)]
    shown = [luck.randrange(4) for _ in range(prompts)] if blind else needed
    texts = [
        f"{n}: " + " + ".join(str(luck.randint(1, 99)) for _ in range(2 + s)) for n, s in enumerate(shown)
    ]
    head = RolloutHead(
        model="served", control="thinking_token_budget", budgets=BUDGETS, samples=3, seed=0,
        verifier="integer", sampling={}, answers=("1",) * prompts,
        prompts=tuple(({"role": "user", "content": t},) for t in texts),
    )  # fmt: skip
    for number, budget, sample in head.keys:
        need = NEEDED[needed[number]]
        lines.append(
            Rollout(
                prompt=number, budget=budget, sample=sample, seconds=1 + luck.random(),
                correct=luck.random() < (0.98 if need <= budget else 0.05),
                tokens=min(need + 1000 * luck.lognormvariate(0, 0.4), budget) + 20,
            )
        )  # fmt: skip
    file.write_text("\n".join(line.model_dump_json() for line in (head, *lines)) + "\n")
    return file


@pytest.fixture(scope="module")
def rollouts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulated(tmp_path_factory.mktemp("collected") / "rollouts.jsonl")


@pytest.fixture(scope="module")
def outcomes(rollouts: Path) -> RoutingOutcomes:
    return RoutingOutcomes.of(*read_rollouts(rollouts), "tokens")


@pytest.fixture(scope="module")
def fitted(rollouts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fitted") / "my-router"
    fit_router(rollouts, folder, 0.97)
    return folder


def report_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "router_report.json").read_text())  # type: ignore[no-any-return]


def test_the_accuracy_is_kept_for_fewer_tokens_than_any_mix_of_budgets(fitted: Path) -> None:
    report = report_of(fitted)
    values = report["values"]
    assert report["kept"] >= 0.97
    assert values["router"]["price"] < 0.7 * values["always 2048"]["price"]
    assert report["gain"][0] > 0.1
    assert values["router"]["accuracy"] <= values["oracle, at the router's price"]["accuracy"]
    assert 0 < report["covered"] <= 1
    assert sum(report["rates"].values()) == pytest.approx(1)
    assert (
        report["saved"][0]
        < 1 - values["router"]["price"] / values["always 2048"]["price"]
        < report["saved"][1]
    )
    assert (fitted / "router.png").stat().st_size > 10_000


def test_the_router_in_the_folder_decides_what_was_reported(fitted: Path, rollouts: Path) -> None:
    router = load_policy(f"{fitted}/")
    assert isinstance(router, Router)
    assert (router.name, router.config.model, router.config.budgets) == ("my-router", "served", BUDGETS)
    assert router.budget([{"role": "user", "content": "3 + 4"}]) == 0
    assert router.budget([{"role": "user", "content": "32 + 43 + 88 + 76 + 23"}]) == 2048
    with pytest.raises(UsageError, match="holds no text"):
        router.budget([])
    head, answers = read_rollouts(rollouts)
    fit = RouterFit(RoutingOutcomes.of(head, answers, "tokens"))
    held_out = [
        p for p, text in zip(head.prompts, map(str, head.prompts), strict=True) if text in fit.held_out.texts
    ]
    rates = [[router.budget(p) for p in held_out].count(budget) / len(held_out) for budget in BUDGETS]
    assert rates == pytest.approx(list(report_of(fitted)["rates"].values()))


def test_the_same_rollouts_and_seed_give_the_same_bytes(fitted: Path, rollouts: Path, tmp_path: Path) -> None:
    fit_router(rollouts, tmp_path / "my-router", 0.97)
    for file in ("policy.json", "weights.safetensors", "card.json", "README.md", "router.png"):
        assert (tmp_path / "my-router" / file).read_bytes() == (fitted / file).read_bytes(), file


def test_where_prompts_tell_nothing_no_difference_is_claimed(tmp_path: Path) -> None:
    report = fit_router(simulated(tmp_path / "rollouts.jsonl", blind=True), tmp_path / "router", 0.8)
    assert not report.gain.excludes(0)
    assert "(no difference shown)" in report.verdict
    assert read_card(tmp_path / "router").word == "ties"


def test_what_cant_be_kept_is_refused_with_the_nearest_that_can(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = simulated(tmp_path / "rollouts.jsonl", prompts=60)
    fit, refused = RouterFit(RoutingOutcomes.of(*read_rollouts(file), "tokens"), seed=1), 0
    for keep in np.arange(1.0, 0.8, -0.02).round(2):
        try:
            assert fit.kept(fit.router(keep)) >= keep
        except BudgetError as error:
            refused += 1
            nearest = float(str(error).rpartition(" ")[2].rstrip("."))
            assert nearest < keep
            assert fit.kept(fit.router(nearest)) >= nearest
    assert refused
    assert main(["think", "fit", str(file), "--keep-accuracy", "1.5", "--out", str(tmp_path / "r")]) == 2
    assert "--keep-accuracy is a share" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


def test_too_few_prompts_are_refused_and_equal_ones_count_once(
    tmp_path: Path, outcomes: RoutingOutcomes
) -> None:
    with pytest.raises(UsageError, match="30 different prompts"):
        RouterFit(outcomes.where(np.tile(np.arange(30), 4)))
    doubled = RouterFit(outcomes.where(np.tile(np.arange(80), 2)))
    assert not set(doubled.train.texts) & set(doubled.held_out.texts)


def test_prompts_that_lack_a_budget_are_left_out(rollouts: Path, outcomes: RoutingOutcomes) -> None:
    head, answers = read_rollouts(rollouts)
    lacking = [a for a in answers if (a.prompt, a.budget) != (3, 512)]
    left = RoutingOutcomes.of(head, lacking, "tokens")
    assert len(left) == len(outcomes) - 1
    np.testing.assert_array_equal(left.accuracy, np.delete(outcomes.accuracy, 3, 0))


def test_mixes_and_oracles_lie_where_they_must(outcomes: RoutingOutcomes) -> None:
    prices, accuracies = outcomes.price.mean(0), outcomes.accuracy.mean(0)
    between = (prices[0] + prices[1]) / 2
    mix = outcomes.value(outcomes.best_mix(between))
    assert mix.price == pytest.approx(between)
    assert mix.accuracy >= accuracies[:2].mean() - 1e-9
    assert outcomes.value(outcomes.best_mix(1e9)).accuracy == pytest.approx(accuracies.max())
    assert outcomes.value(outcomes.best_mix(0.0)).price == pytest.approx(prices.min())
    assert outcomes.value(outcomes.oracle(1e9)).accuracy == pytest.approx(outcomes.accuracy.max(1).mean())
    seen = outcomes.value(outcomes.oracle(between))
    assert seen.price == pytest.approx(between)
    assert seen.accuracy > mix.accuracy
    always = outcomes.value(outcomes.always(1))
    assert (always.accuracy, always.price) == pytest.approx((accuracies[1], prices[1]))
    assert always.accuracy_interval.low < always.accuracy < always.accuracy_interval.high


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda lines: [], "is damaged"),
        (lambda lines: lines[1:], "line 1 is damaged"),
        (lambda lines: [lines[0], lines[1], lines[1]], "one twice"),
        (lambda lines: [lines[0], lines[1].replace('"prompt":0', '"prompt":999')], "nobody asked for"),
        (lambda lines: [lines[0], lines[1].replace('"tokens":', '"tokens":-')], "line 2 is damaged: tokens"),
        (lambda lines: [lines[0], "[" * 100_000], "line 2 is damaged"),
        (lambda lines: [lines[0], lines[1].replace("}", ',"more":1}')], "line 2 is damaged: more"),
    ],
)
def test_damaged_rollouts_are_refused(change: Any, words: str, rollouts: Path, tmp_path: Path) -> None:
    file = tmp_path / "rollouts.jsonl"
    file.write_text("\n".join(change(rollouts.read_text().splitlines())) + "\n")
    with pytest.raises(PrunePolicyError, match=words):
        fit_router(file, tmp_path / "router", 0.97)
    assert not (tmp_path / "router").exists()


def test_a_router_prunes_nothing_and_says_so(fitted: Path) -> None:
    adapter = adapter_for({"model_type": "llama"})
    graph = adapter.units(adapter.tiny(), adapter.shapes(adapter.tiny()))
    router, budget = load_policy(f"{fitted}/"), Budget(0.8)
    for call in (router.check, router.needs):
        with pytest.raises(UsageError, match="how much to think about a request, not what to remove"):
            call(graph, budget)


def test_a_scale_that_isnt_positive_is_damage(fitted: Path, tmp_path: Path) -> None:
    router = load_policy(f"{fitted}/")
    broken = Router(router.config, "x", {**router.weights(), "scale": router.weights()["scale"] * 0})  # type: ignore[arg-type]
    broken.save(tmp_path / "broken")
    with pytest.raises(PrunePolicyError, match="scale that isn't positive"):
        load_policy(tmp_path / "broken")


def test_a_router_goes_into_a_zoo_and_comes_back(
    fitted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    key = tmp_path / "zoo.pem"
    monkeypatch.setenv("PRUNEPOLICY_ZOO_KEYS", make_key(key))
    zoo = str(tmp_path / "zoo")
    pushed = [
        "zoo",
        "push",
        str(fitted),
        "--to",
        zoo,
        "--as",
        "my-router.v1",
        "--licence",
        "MIT",
        "--key",
        str(key),
    ]
    assert main(pushed) == 0, capsys.readouterr().err
    monkeypatch.setenv("PRUNEPOLICY_ZOO", zoo)
    router = load_policy("zoo:my-router.v1")
    assert isinstance(router, Router)
    assert router.budget([{"role": "user", "content": "3 + 4"}]) == 0
    card = (tmp_path / "zoo" / "my-router.v1" / "README.md").read_text()
    assert "prunepolicy think serve zoo:my-router.v1 --upstream http://HOST:PORT/v1" in card
    assert "prune-with-policy" not in card


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("42", "42"),
        (" 42\n", "42"),
        ("So it is \\boxed{42}.", "42"),
        ("<think>\\boxed{1}</think>\\boxed{42}", "42"),
        ("half a thought</think><answer>42</answer>", "42"),
        ("<think>no end \\boxed{42}", None),
        ("", None),
    ],
)
def test_answers_are_read_with_and_without_their_thoughts(text: str, answer: str | None) -> None:
    assert read_reply(text).answer == answer


def test_problems_hold_a_question_and_an_answer(tmp_path: Path) -> None:
    file = tmp_path / "problems.jsonl"
    file.write_text('\n{"question": "1 + 1", "answer": 2, "level": 5}\n')
    (problem,) = read_problems(file)
    assert (problem.conversation, problem.answer) == (({"role": "user", "content": "1 + 1"},), "2")
    for line in (
        '{"answer": "2"}',
        '{"question": " ", "answer": "2"}',
        '{"messages": [5], "answer": "2"}',
        "[]",
        "{",
    ):
        file.write_text(line + "\n")
        with pytest.raises(UsageError, match="line 1 is no problem"):
            read_problems(file)
