"""TRL's GRPO with this project's shaping; the one door for TRL.

Rewards are shaped where TRL has gathered all completions of all processes, since batch balance reads the
whole batch and length terms read whole groups. That place is a private method, which a contract test
watches; TRL is pinned to the versions it was tested with.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from accelerate.utils import gather
from datasets import Dataset
from torch import Tensor
from transformers.trainer_callback import ExportableState, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from prunepolicy.agents.thinking.lm.prompting import Prompting
from prunepolicy.agents.thinking.lm.rollout_batch import AnswerVerifier, Group
from prunepolicy.agents.thinking.lm.tasks import Problem
from prunepolicy.envs.thinking.rollouts import Rollouts
from prunepolicy.envs.thinking.schedule import Schedule

COLUMNS = ("mode", "correct", "length", "well_formed", "degenerate")
Stages = Sequence[Mapping[str, Any]]


class ShapingMemory(TrainerCallback, ExportableState):  # type: ignore[misc]  # no types
    """Carries the schedule through TRL's checkpoints (`restore_callback_states_from_checkpoint`)."""

    def __init__(self, stages: Stages) -> None:
        self.stages = [dict(stage) for stage in stages]
        self.schedule = Schedule(self.stages)

    @property
    def progress(self) -> dict[str, Any]:
        """Where the schedule is."""
        return self.schedule.state()

    @progress.setter
    def progress(self, state: Mapping[str, Any]) -> None:
        self.schedule.restore(state)

    def state(self) -> dict[str, Any]:
        """Return what trainer_state.json keeps."""
        return {"args": {"stages": self.stages}, "attributes": {"progress": self.progress}}


class ShapedGRPOTrainer(GRPOTrainer):  # type: ignore[misc]  # no types
    """GRPOTrainer whose rewards are a schedule's; evaluation pays bare correctness.

    Args:
        stages: of the reward.
        prompting: how the model was asked; it tells modes apart by token ids, since TRL decodes
            completions without special tokens.
        options: everything else that GRPOTrainer takes, but for reward functions.
    """

    def __init__(
        self, model: Any, stages: Stages, prompting: Prompting, args: GRPOConfig, **options: Any
    ) -> None:
        self.prompting = prompting
        self.verifier = AnswerVerifier(prompting)
        super().__init__(
            model, reward_funcs=[shaped], args=args, processing_class=prompting.tokenizer, **options
        )
        self.add_callback(ShapingMemory(stages))

    @property
    def schedule(self) -> Schedule:
        """The schedule of rewards; after a resume the callback that holds it is another one."""
        held = (one for one in self.callback_handler.callbacks if isinstance(one, ShapingMemory))
        return next(held).schedule

    def _tokenize_prompts(self, prompts: list[str]) -> tuple[list[list[int]], None, dict[str, Any]]:
        """Return token ids of rendered prompts; a BOS comes from the template alone, never a second time."""
        return self.processing_class(prompts, add_special_tokens=False)["input_ids"], None, {}

    def _calculate_rewards(
        self,
        inputs: list[dict[str, Any]],
        prompts: list[Any],
        completions: list[Any],
        completion_ids_list: list[list[int]],
    ) -> Tensor:
        """Return the rewards of all processes' completions, (completions, 1)."""
        owners = [Group(problem_of(row), 0) for row in inputs]
        table, errors, leaked = self.verifier.verified(owners, completion_ids_list)
        own = torch.tensor(
            [[float(getattr(table, name)[row]) for name in COLUMNS] for row in range(len(table))]
        )
        every = gather(own.to(self.accelerator.device)).cpu()
        training = self.model.training
        size = self.num_generations if training else self.num_generations_eval
        rollouts = Rollouts.of(
            group=torch.arange(len(every)).div(size, rounding_mode="floor").numpy(),
            **{name: every[:, place].numpy() for place, name in enumerate(COLUMNS)},
        )
        if not training:
            rewards = every[:, COLUMNS.index("correct")]
        else:
            result = self.schedule.step(rollouts)
            rewards = torch.from_numpy(result.rewards).float()
            logged = {**result.statistics, "verifier_errors": errors / len(table), "leaked": leaked}
            for name, value in logged.items():
                self._metrics["train"][f"think/{name}"].append(value)
        column: Tensor = rewards[:, None].to(self.accelerator.device)
        return column


def shaped(completions: list[Any], **_: Any) -> list[float]:
    """Stand for the shaped rewards, which the trainer fills in after the gather."""
    return [0.0] * len(completions)


def trl_dataset(problems: Sequence[Problem], prompting: Prompting) -> Dataset:
    """Return problems as the rows that the trainer reads, prompts rendered."""
    return Dataset.from_list(
        [
            {
                "prompt": prompting.render(problem.question),
                "task": problem.task,
                "question": problem.question,
                "answer": problem.answer,
                "difficulty": problem.difficulty,
                "entry": json.dumps(dict(problem.entry)),
            }
            for problem in problems
        ]
    )


def problem_of(row: Mapping[str, Any]) -> Problem:
    """Return the problem that a row of `trl_dataset` holds."""
    entry = json.loads(row["entry"])
    return Problem(row["task"], row["question"], row["answer"], row["difficulty"], (), entry)
