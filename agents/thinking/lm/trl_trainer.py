"""TRL's GRPO with this project's shaping; the one door for TRL, whose version 1.16.0 it follows.

Rewards are shaped where TRL has gathered all completions of all processes, since batch balance reads the
whole batch and length terms read whole groups. That place and the others that are overridden here are private
methods, which a contract test watches; TRL is pinned to the version they were written for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather
from datasets import Dataset
from torch import Tensor
from transformers.trainer_callback import ExportableState, TrainerCallback
from trl import GRPOConfig, GRPOTrainer
from trl.trainer.utils import add_fused_lm_head

from prunepolicy.agents.thinking.lm.objective import PolicyLossRecipe, token_weights
from prunepolicy.agents.thinking.lm.prompting import Prompting
from prunepolicy.agents.thinking.lm.reinforcement import advantages_of
from prunepolicy.agents.thinking.lm.rollout_batch import AnswerVerifier, Group
from prunepolicy.agents.thinking.lm.tasks import Problem
from prunepolicy.envs.thinking.rollouts import Rollouts
from prunepolicy.envs.thinking.schedule import Schedule

COLUMNS = ("mode", "correct", "length", "well_formed", "degenerate", "cut_off", "reference")
Stages = Sequence[Mapping[str, Any]]


class ShapingMemory(TrainerCallback, ExportableState):  # type: ignore[misc]  # no types
    """Carries the schedule through TRL's checkpoints (`restore_callback_states_from_checkpoint`)."""

    def __init__(self, stages: Stages | Schedule) -> None:
        self.schedule = stages if isinstance(stages, Schedule) else Schedule(stages)
        self.stages = [stage.model_dump() for stage in self.schedule.stages]

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
        stages: of the reward, or the schedule that goes through them.
        prompting: how the model was asked; it tells modes apart by token ids, since TRL decodes
            completions without special tokens.
        options: everything else that GRPOTrainer takes, but for reward functions.
    """

    def __init__(
        self, model: Any, stages: Stages | Schedule, prompting: Prompting, args: GRPOConfig, **options: Any
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
        owners = [Group(problem_of(row), 0, reference=row.get("reference", 0.0)) for row in inputs]
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
            self.outcome, self.rollouts = result, rollouts
            # TRL leaves rewards that are no numbers out of baselines and gives them no advantage.
            rewards = torch.from_numpy(np.where(rollouts.unfinished, np.nan, result.rewards)).float()
            logged = {**result.statistics, "verifier_errors": errors / len(table), "leaked": leaked}
            for name, value in logged.items():
                self._metrics["train"][f"think/{name}"].append(value)
        column: Tensor = rewards[:, None].to(self.accelerator.device)
        return column


class SteppedGRPOTrainer(ShapedGRPOTrainer):
    """Does one step at a time for whoever holds optimiser, schedule and generators.

    Args:
        model: is learned as it is, in one process.
        objective: of which TRL lacks a weight of the mode token and advantages without a mean.
    """

    def __init__(
        self, model: Any, schedule: Schedule, prompting: Prompting, args: GRPOConfig,
        objective: PolicyLossRecipe, reference: Any, **options: Any,
    ) -> None:  # fmt: skip
        self.objective, self.loss_weight = objective, 1.0
        super().__init__(model, schedule, prompting, args, **options)
        self.current_gradient_accumulation_steps = args.gradient_accumulation_steps
        if args.gradient_checkpointing:
            model.gradient_checkpointing_enable(args.gradient_checkpointing_kwargs)
        if objective.beta:  # TRL itself would open the model's folder once more, whatever was learned before.
            self.beta, self.ref_model = objective.beta, reference
            add_fused_lm_head(reference, temperature=self.temperature)

    temperature: float

    def set_sampling(self, max_tokens: int, temperature: float) -> None:
        """Sample as this stage does."""
        self.max_completion_length = max_tokens
        if temperature != self.temperature:  # Log-probabilities are scored at the temperature of sampling.
            self.temperature = temperature
            for model in filter(None, (self.model, self.ref_model)):
                add_fused_lm_head(model, temperature=temperature, outputs=("log_probs", "entropy"))
        if self.use_vllm:
            self.vllm_generation.max_completion_length = max_tokens
            self.vllm_generation.temperature = temperature
        else:
            changes = {"max_new_tokens": max_tokens, "temperature": temperature}
            self.generation_kwargs.update(changes)
            self.generation_config.update(**changes)

    def roll(self, rows: list[dict[str, Any]], step: int) -> list[list[int]]:
        """Write and reward completions of `rows`, one each; the passes over them follow.

        Args:
            step: of the optimiser: a colocated or served vLLM gets the weights again when it changes.

        Returns:
            The completions' token ids, in the order of the rows.
        """
        self.model.train()
        self._metrics["train"].clear()
        self.state.global_step, self._step, self._buffered_inputs = step, 0, None
        super()._prepare_inputs(rows)
        return self.completions

    def backward(self) -> float:
        """Add the gradient of the next optimiser step's completions, and return their loss."""
        passes = range(self.current_gradient_accumulation_steps)
        return sum(float(self.training_step(self.model, {}, None)) for _ in passes)

    def metrics(self) -> dict[str, float]:
        """Return what TRL measured since the last `roll`, by this project's names."""
        named = {"entropy": "entropy", "clipped_ratio": "clip_ratio/region_mean"}
        measured = {name: self._metrics["train"][theirs] for name, theirs in named.items()}
        return {name: sum(values) / len(values) for name, values in measured.items() if values}

    def compute_loss(self, *given: Any, **options: Any) -> Tensor:
        """Return the loss at the weight that reinforcement has in this step."""
        loss: Tensor = self.loss_weight * super().compute_loss(*given, **options)
        return loss

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        """Return the next part of what `roll` has made."""
        prepared: Any = self._buffered_inputs
        return prepared[self._step % self.args.steps_per_generation]

    def _calculate_rewards(self, inputs: Any, prompts: Any, completions: Any, ids: list[list[int]]) -> Tensor:
        self.completions = ids
        return super()._calculate_rewards(inputs, prompts, completions, ids)

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """Return TRL's batch with advantages and weights of tokens as the objective has them.

        TRL weighs all tokens the same but for those of tools, whose mask multiplies the loss of a token.
        """
        batch: dict[str, Any] = super()._generate_and_score_completions(inputs)
        advantages = advantages_of(self.outcome.rewards, self.rollouts, self.objective)
        if self.objective.mode_weight is not None:
            weights = token_weights(batch["completion_mask"], self.objective.mode_weight)
            batch["tool_mask"] = weights * batch["num_items_in_batch"]
        return {**batch, "advantages": advantages.to(batch["advantages"])}


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
                "verifier": problem.verifier,
            }
            for problem in problems
        ]
    )


def problem_of(row: Mapping[str, Any]) -> Problem:
    """Return the problem that a row of `trl_dataset` holds."""
    entry = json.loads(row["entry"])
    names = ("task", "question", "answer", "difficulty", "verifier")
    return Problem(**{name: row[name] for name in names}, steps=(), entry=entry)
