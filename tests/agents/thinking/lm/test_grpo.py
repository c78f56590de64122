from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from prunepolicy.agents.thinking.lm.grpo import RAMP, Grpo
from prunepolicy.agents.thinking.lm.imitation import Imitation
from prunepolicy.agents.thinking.lm.prompt_batches import PromptBatches
from prunepolicy.agents.thinking.lm.recipe import ThinkRecipe
from prunepolicy.agents.thinking.lm.rollout_batch import RolloutBatch, shuffle_outcomes_within_mode
from prunepolicy.agents.thinking.lm.thinking_gap import measured_gap
from prunepolicy.agents.training.run_folder import CHECKPOINT, METRICS
from prunepolicy.agents.training.train import train
from prunepolicy.envs.thinking.diversity import diversity
from prunepolicy.envs.thinking.rollouts import Rollouts
from prunepolicy.pruning.errors import PrunePolicyError, UsageError
from prunepolicy.pruning.io.progress import ProgressReporter

Make = Callable[..., ThinkRecipe]
COMPARED = ("best/model.safetensors", "last/model.safetensors", METRICS, CHECKPOINT)
SHORT = {"prompts_per_step": 3, "num_generations": 4, "max_tokens": [10]}


def content(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in COMPARED}


@pytest.mark.parametrize(
    ("dies_at", "changes"),
    [
        (4, {}),
        (
            5,
            {
                "switch": {"name": "sasr", "probe": 1},
                "reinforcement": {**SHORT, "sampler": {"name": "variance_aware"}},
            },
        ),
        (6, {"reinforcement": {**SHORT, "minibatches": 2, "objective": {"beta": 0.1}, "force": "half"}}),
    ],
)
def test_an_interrupted_run_resumes_to_the_same_bytes(
    recipe: Make, tmp_path: Path, interrupt_at: Callable[..., None], dies_at: int, changes: dict[str, object]
) -> None:
    train(recipe(**changes), tmp_path / "whole" / "run")
    interrupt_at(Grpo, "step", dies_at)
    with pytest.raises(KeyboardInterrupt):
        train(recipe(**changes), tmp_path / "cut" / "run")
    torch.rand(3)
    train(recipe(**changes), tmp_path / "cut" / "run", resume=True)
    assert content(tmp_path / "cut" / "run") == content(tmp_path / "whole" / "run")


class Counting(ProgressReporter):
    """Remembers what was to be done, and what was said to be done."""

    @contextmanager
    def step(self, name: str, total: int = 0) -> Iterator[Callable[[int], None]]:
        ticks: list[int] = []
        yield ticks.append
        self.counted = {**getattr(self, "counted", {}), name: (total, ticks)}


def test_progress_ends_at_its_end_though_the_warm_up_ended_early(recipe: Make, tmp_path: Path) -> None:
    warm_up = {
        "steps": 20,
        "check_every": 2,
        "max_easy_gain": 1,
        "min_hard_gain": 0,
        "min_think_accuracy": 0,
        "problems": 6,
    }
    steps = Counting()
    train(
        recipe(warm_up=warm_up, reinforcement={**SHORT, "steps": 3}, max_steps=40),
        tmp_path / "run",
        progress=steps,
    )
    total, ticks = steps.counted["learn"]
    assert total == 23
    assert ticks == [1, 19, 1, 1, 1]  # what the warm-up had to spare counts as done when it ends


def test_rollouts_are_the_same_however_the_chunks_are_spread_over_workers(recipe: Make) -> None:
    """A worker gets whole chunks and writes them as one process that writes all of them does."""
    learner = Grpo(recipe(warm_up={}, reinforcement={**SHORT, "chunk": 1}), ProgressReporter())
    together = learner.batches.roll(1, learner.sampling)
    written = []
    generate = learner.rollout_worker.engine.generate
    other = Grpo(recipe(warm_up={}, reinforcement={**SHORT, "chunk": 1}), ProgressReporter())

    def elsewhere(requests: Sequence[object], sampling: object) -> object:
        written.append(len(requests))
        return generate(requests, sampling)  # type: ignore[arg-type]  # by a model of its own

    other.rollout_worker.engine.generate = elsewhere  # type: ignore[method-assign, assignment]
    apart = other.batches.roll(1, other.sampling)
    assert written == [1, 1, 1]
    assert together.written.tokens.tolist() == apart.written.tokens.tolist()
    another = Grpo(recipe(warm_up={}, seed=1), ProgressReporter())
    assert (
        another.batches.roll(1, another.sampling).written.tokens.tolist() != together.written.tokens.tolist()
    )


@pytest.mark.parametrize("outcome", [0.5, 1.0])
def test_samplers_learn_how_different_completions_are_where_they_weigh_that(
    recipe: Make, outcome: float
) -> None:
    sampler = {"name": "variance_aware", "outcome": outcome}
    learner = Grpo(recipe(warm_up={}, reinforcement={**SHORT, "sampler": sampler}), ProgressReporter())
    batch = learner.batches.roll(1, learner.sampling)
    known = np.array(learner.batches.sampler.state()["diversity"])
    texts = learner.policy_model.tokenizer.batch_decode(batch.tokens)
    expected = {diversity(texts[start : start + 4]) for start in range(0, len(texts), 4)}
    assert set(known[known > 0]) == (expected if outcome < 1 else set())


def outcomes(batch: RolloutBatch, correct: np.ndarray) -> RolloutBatch:
    table = batch.table
    changed = Rollouts.of(table.group, table.mode, correct, table.length, features=table.features)
    return RolloutBatch(batch.prompts, batch.written, changed)


def undecided(learner: Grpo) -> None:
    """Teach the learner to start with either of two tokens, by a fair coin."""
    closing, prompt = (
        learner.policy_model.prompting.closing,
        learner.policy_model.prompting.ids("a1b2 mod 5?"),
    )
    rows = [(prompt, [*closing]), (prompt, [9])]
    for _ in range(40):
        learner.optimiser.zero_grad()
        for loss in Imitation(learner.scorer(), False, 1000).losses(rows):
            loss.backward()
        learner.done["all"] += 1
        learner._update(0.01)
    learner.optimiser = torch.optim.AdamW(learner.policy_model.model.parameters())


@pytest.mark.parametrize("thinking_pays", [True, False])
def test_the_mode_that_pays_is_chosen_more_often(
    recipe: Make, monkeypatch: pytest.MonkeyPatch, thinking_pays: bool
) -> None:
    """Outcomes are invented: one mode is always right."""
    how = {"prompts_per_step": 4, "num_generations": 8, "max_tokens": [3], "learning_rate": 0.003}
    stages = [{"name": "naive", "terms": [{"name": "naive"}]}]
    learner = Grpo(recipe(warm_up={}, reinforcement=how, stages=stages), ProgressReporter())
    undecided(learner)
    roll = PromptBatches.roll

    def judged(self: PromptBatches, step: int, sampling: Any) -> RolloutBatch:
        batch = roll(self, step, sampling)
        return outcomes(batch, batch.table.thinks == thinking_pays)

    monkeypatch.setattr(PromptBatches, "roll", judged)
    shares = [learner.step()["think"] for _ in range(14)]
    assert 0.1 < shares[0] < 0.9
    assert abs(shares[-1] - float(thinking_pays)) < 0.1


def test_every_stage_has_its_own_length_and_learning_rate(recipe: Make) -> None:
    how = {**SHORT, "max_tokens": [6, 9], "learning_rate": [0.001, 0.002]}
    learner = Grpo(recipe(warm_up={}, reinforcement=how), ProgressReporter())
    found = []
    for _ in range(3):
        learner.step()
        found.append((learner.max_tokens, learner.learning_rate, learner.optimiser.param_groups[0]["lr"]))
    lengths, rates, used = zip(*found, strict=True)
    assert lengths == (6, 9, 9)
    assert rates == (0.001, 0.002, 0.002)
    assert used == pytest.approx([0.001 / RAMP, 2 * 0.001 / RAMP, 3 * 0.002 / RAMP])


def test_imitation_teaches_the_format(recipe: Make) -> None:
    learner = Grpo(
        recipe(warm_up={"steps": 400, "check_every": 400}, imitation={"batch_size": 8}, max_steps=401),
        ProgressReporter(),
    )
    before = learner.batches.roll(1, learner.policy_model.sampling(30)).table
    losses = [learner.step()["loss"] for _ in range(60)]
    after = learner.batches.roll(2, learner.policy_model.sampling(30)).table
    assert losses[-1] < 0.4 * losses[0]
    assert not before.well_formed.any()
    assert after.well_formed.any()


def test_a_stage_has_its_own_temperature_and_exams_have_theirs(recipe: Make) -> None:
    naive = [{"name": "naive"}]
    stages = [{"name": "a", "terms": naive, "until": {"steps": 1}}, {"name": "b", "terms": naive}]
    changes = {"reinforcement": {**SHORT, "temperature": [1.5, 0.5]}, "evaluation": {"temperature": 0.9}}
    learner = Grpo(recipe(warm_up={}, stages=stages, **changes), ProgressReporter())
    for temperature in (1.5, 0.5):
        assert learner.sampling.temperature == learner.scorer().temperature == temperature
        assert learner.eval_sampling.temperature == 0.9
        learner.step()


def test_reinforcement_without_a_start_that_uses_both_modes_is_refused(recipe: Make, tmp_path: Path) -> None:
    """Then nothing was learned, so that a better recipe may have the folder."""
    with pytest.raises(PrunePolicyError, match="of the first groups hold both modes"):
        train(recipe(warm_up={}, reinforcement={**SHORT, "min_mixed_groups": 0.9}), tmp_path / "run")
    train(recipe(warm_up={}, reinforcement=SHORT, max_steps=1), tmp_path / "run")


def test_a_warm_up_that_leaves_nothing_to_learn_is_refused_before_any_reward(recipe: Make) -> None:
    learner = Grpo(recipe(warm_up={"steps": 2, "check_every": 2, "problems": 6}), ProgressReporter())
    learner.step()
    with pytest.raises(PrunePolicyError, match=r"After 2 steps of imitation.*warm_up\.steps"):
        learner.step()
    gap = measured_gap(learner.rollout_worker, learner.problems.validation, learner.greedy)
    assert -1 <= gap.hard <= 1
    assert gap.thinking == 0


def test_recipes_that_contradict_themselves_are_refused(recipe: Make, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="one for every stage"):
        recipe(reinforcement={"max_tokens": [8, 9, 10]})
    with pytest.raises(ValueError, match="learning_rate takes one number, or one for every stage"):
        recipe(reinforcement={"max_tokens": [8], "learning_rate": [0.1, 0.2, 0.3]})
    with pytest.raises(ValueError, match=r"set reinforcement\.reference_generations"):
        recipe(stages=[{"name": "a", "terms": [{"name": "adapt_think"}]}])
    with pytest.raises(UsageError, match="Unknown term 'naiv'"):
        Grpo(recipe(stages=[{"name": "a", "terms": [{"name": "naiv"}]}]), ProgressReporter())
    with pytest.raises(UsageError, match="Unknown switch 'sas'"):
        Grpo(recipe(switch={"name": "sas"}), ProgressReporter())


def test_references_are_the_starts_accuracies_and_survive(recipe: Make) -> None:
    how = {
        **SHORT,
        "reference_generations": 2,
        "force": "half",
        "objective": {"advantage": "raw", "ratio": "sequence"},
    }
    stages = [{"name": "a", "terms": [{"name": "adapt_think"}]}]
    learner = Grpo(recipe(warm_up={}, reinforcement=how, stages=stages), ProgressReporter())
    row = learner.step()
    assert len(learner.batches.references) == len(learner.problems.train)
    assert row["mixed"] == 1
    assert row["think"] == 0.5
    state = json.loads(json.dumps(learner.batches.state()))
    learner.batches.restore(state)
    assert learner.batches.state() == state


def test_the_control_deals_outcomes_anew_within_modes() -> None:
    generator = np.random.default_rng(0)
    mode, difficulty = generator.integers(0, 2, 400), generator.integers(1, 5, 400)
    correct = (mode == 1) | (difficulty < 3)
    table = Rollouts.of(np.arange(400) // 4, mode, correct, np.ones(400), features=difficulty[:, None])
    dealt = shuffle_outcomes_within_mode(table, 0)
    for one in (0, 1):
        assert dealt.correct[mode == one].sum() == table.correct[mode == one].sum()
    easy, hard = (dealt.correct[(mode == 0) & (difficulty == level)].mean() for level in (1, 4))
    assert abs(easy - hard) < 0.25
    assert table.correct[(mode == 0) & (difficulty == 1)].all()
