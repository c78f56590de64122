"""The contract with TRL, whose place for shaping is a private method."""

from __future__ import annotations

import inspect
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers.processors import TemplateProcessing

from prunepolicy.agents.thinking.lm.policy_model import PolicyModel
from prunepolicy.agents.thinking.lm.problem_set import ProblemSet, ProblemsRecipe, TaskRecipe
from prunepolicy.envs.thinking.rollouts import Rollouts
from prunepolicy.envs.thinking.schedule import Schedule

trl = pytest.importorskip("trl")

from prunepolicy.agents.thinking.lm.trl_trainer import (  # noqa: E402
    ShapedGRPOTrainer,
    ShapingMemory,
    problem_of,
    trl_dataset,
)

pytestmark = pytest.mark.filterwarnings("ignore")
STAGES = [
    {"name": "first", "terms": [{"name": "naive"}, {"name": "balance"}], "until": {"steps": 1}},
    {"name": "second", "terms": [{"name": "naive"}, {"name": "length_aware"}]},
]
PROBLEMS = ProblemsRecipe(tasks=(TaskRecipe(task="modular_chain", levels=(1, 3)),), train=8, held_out=4)


def trainer(policy_model: PolicyModel, folder: Path, **options: Any) -> Any:
    arguments = trl.GRPOConfig(
        output_dir=str(folder),
        per_device_train_batch_size=8,
        per_device_eval_batch_size=8,
        num_generations=4,
        max_completion_length=6,
        max_steps=2,
        save_steps=1,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to=[],
        disable_tqdm=True,
        logging_steps=1,
        restore_callback_states_from_checkpoint=True,
    )
    data = trl_dataset(ProblemSet.draw(PROBLEMS, 0).train, policy_model.prompting)
    return ShapedGRPOTrainer(
        policy_model.model,
        STAGES,
        policy_model.prompting,
        arguments,
        train_dataset=data,
        eval_dataset=data,
        **options,
    )


def rows(policy_model: PolicyModel, count: int = 4) -> tuple[list[dict[str, Any]], list[list[int]]]:
    """Right answers at once, wrong ones after a thought; two groups of the trainer's size."""
    problems = [problem for problem in ProblemSet.draw(PROBLEMS, 0).train[:2] for _ in range(count)]
    encode = policy_model.tokenizer
    texts = [
        f"</think><answer>{p.answer}</answer>" if number % 2 else "1b2=3\n</think><answer>x</answer>"
        for number, p in enumerate(problems)
    ]
    inputs = list(trl_dataset(problems, policy_model.prompting))
    return inputs, [[*encode(text)["input_ids"], policy_model.end] for text in texts]


def test_the_method_that_gathers_rewards_is_where_it_was() -> None:
    assert version("trl") == "1.16.0"
    method = trl.GRPOTrainer._calculate_rewards
    assert list(inspect.signature(method).parameters) == [
        "self", "inputs", "prompts", "completions", "completion_ids_list",
    ]  # fmt: skip
    assert "gather(rewards_per_func)" in inspect.getsource(method)


def test_rewards_are_those_of_the_shaping_core_and_bare_when_evaluating(
    policy_model: PolicyModel, tmp_path: Path
) -> None:
    made = trainer(policy_model, tmp_path)
    inputs, ids = rows(policy_model)
    made.model.train()
    # TRL's texts lack special tokens: modes must not be read from them.
    found = made._calculate_rewards(inputs, [""] * 8, [""] * 8, ids)
    expected = Schedule(STAGES).step(
        Rollouts.of([0] * 4 + [1] * 4, [1, 0] * 4, [False, True] * 4, [len(row) for row in ids])
    )
    assert found[:, 0].tolist() == pytest.approx(expected.rewards.tolist())
    assert made.schedule.stage.name == "second"
    made.model.eval()
    bare = made._calculate_rewards(inputs, [""] * 8, [""] * 8, ids)
    assert bare[:, 0].tolist() == [0, 1] * 4
    assert made.schedule.state()["progress"]["steps"] == 0


def test_training_runs_and_its_schedule_survives_a_checkpoint(
    policy_model: PolicyModel, tmp_path: Path
) -> None:
    made = trainer(policy_model, tmp_path)
    before = policy_model.model.model.embed_tokens.weight.detach().clone()
    made.train()
    assert made.schedule.stage.name == "second"
    logged = [row for row in made.state.log_history if "think/mixed" in row]
    assert len(logged) == 2
    assert before.shape == policy_model.model.model.embed_tokens.weight.shape
    again = trainer(policy_model, tmp_path)
    assert again.schedule.stage.name == "first"
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))
    assert again.schedule.state() == made.schedule.state()
    memory = ShapingMemory.from_state(ShapingMemory(STAGES).state())
    assert memory.schedule.state() == Schedule(STAGES).state()


def test_problems_survive_the_data_set(policy_model: PolicyModel) -> None:
    problems = ProblemSet.draw(PROBLEMS, 0).train
    for problem, row in zip(problems, trl_dataset(problems, policy_model.prompting), strict=True):
        again = problem_of(row)
        assert (again.question, again.answer, again.difficulty) == (
            problem.question, problem.answer, problem.difficulty,
        )  # fmt: skip
        assert torch.tensor(policy_model.prompting.ids(again.question)).numel()


def test_prompts_begin_once_though_the_tokenizer_would_add_another_beginning(
    policy_model: PolicyModel, tmp_path: Path
) -> None:
    tokenizer = policy_model.tokenizer
    tokenizer.chat_template = "{{ eos_token }}" + tokenizer.chat_template
    beginning = [("<eos>", policy_model.end)]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing("<eos> $A", None, beginning)
    assert tokenizer("a")["input_ids"][0] == policy_model.end
    made = trainer(policy_model, tmp_path)
    question = "a1b2 mod 5?"
    ids, _, _ = made._tokenize_prompts([policy_model.prompting.render(question)])
    assert ids == [policy_model.prompting.ids(question)]
    assert ids[0].count(policy_model.end) == 1
