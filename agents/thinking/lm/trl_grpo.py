"""GRPO for real models: TRL writes completions and computes losses, everything else is the recipe's.

What is drawn, how it is rewarded, when the model imitates instead, alarms, checkpoints and reports are those
of `Grpo`. One process learns; a vLLM server may write completions on other devices.
"""

from __future__ import annotations

from functools import cached_property
from tempfile import TemporaryDirectory
from typing import Any

import torch
from trl import GRPOConfig

from prunepolicy.agents.runtime import LocalRunner, Runner
from prunepolicy.agents.thinking.lm.engines import Completions
from prunepolicy.agents.thinking.lm.grpo import Grpo, StepWeights
from prunepolicy.agents.thinking.lm.recipe import ThinkRecipe
from prunepolicy.agents.thinking.lm.rollout_batch import Group, RolloutBatch
from prunepolicy.agents.thinking.lm.trl_trainer import SteppedGRPOTrainer, trl_dataset
from prunepolicy.agents.training.run_folder import generator_states, restore_generators
from prunepolicy.envs.thinking.schedule import ShapedBatch
from prunepolicy.pruning.errors import PrunePolicyError, UsageError
from prunepolicy.pruning.io.progress import ProgressReporter


class TrlGrpo(Grpo):
    """Reinforces by TRL's trainer."""

    def __init__(self, recipe: ThinkRecipe, progress: ProgressReporter, runner: Runner | None = None) -> None:
        if not isinstance(runner, LocalRunner | None):
            raise UsageError(
                "TRL spreads over devices by itself: leave --cluster out, or set "
                "reinforcement.engine=transformers."
            )
        super().__init__(recipe, progress, runner)
        self.scratch = TemporaryDirectory()  # TRL wants a folder, though nothing is written.

    @cached_property
    def trainer(self) -> SteppedGRPOTrainer:
        """What does the steps; made once the reference model is what it will be, after the warm-up.

        Raises:
            PrunePolicyError: with TRL's reason not to start, such as a vLLM that isn't there.
        """
        prompting, before = self.policy_model.prompting, generator_states()
        try:
            return SteppedGRPOTrainer(
                self.policy_model.model,
                self.schedule,
                prompting,
                grpo_config(self.recipe, self.scratch.name, self.hardware.torch_device.type),
                self.recipe.reinforcement.objective,
                self.reference_model,
                train_dataset=trl_dataset(self.problems.train[:1], prompting),
            )
        except (ImportError, ValueError) as error:
            raise PrunePolicyError(f"TRL's trainer can't start: {error}") from error
        finally:
            restore_generators(before)  # TRL seeds them, and a resumed run makes the trainer at another step.

    def _roll(self) -> tuple[RolloutBatch, ShapedBatch]:
        sampling = self.sampling
        self.trainer.set_sampling(self.max_tokens, self.temperature)
        groups = self.batches.draw(self.done["all"], sampling)
        written = self.trainer.roll(self._rows(groups), self.done["all"])
        owners = [group for group in groups for _ in range(group.count)]
        batch = RolloutBatch(
            tuple(tuple(self.policy_model.prompting.ids(owner.problem.question)) for owner in owners),
            completions_of(written, self.policy_model.end, sampling.pad),
            *self.trainer.verifier.verified(owners, written),
        )
        self.batches.observe(groups, batch)
        return batch, self.trainer.outcome

    def _follow(self, batch: RolloutBatch, shaped: ShapedBatch, weights: StepWeights) -> dict[str, float]:
        self.trainer.loss_weight, row = weights.reinforcement, dict[str, float]()
        for _ in range(self.recipe.reinforcement.minibatches):
            self.optimiser.zero_grad()
            row["loss"] = self.trainer.backward()
            row["grad_norm"] = self._finish(weights)
        return row | self.trainer.metrics()

    def _rows(self, groups: list[Group]) -> list[dict[str, Any]]:
        rows = trl_dataset([group.problem for group in groups], self.policy_model.prompting).to_list()
        for row, group in zip(rows, groups, strict=True):
            row["reference"] = group.reference
        return [row for row, group in zip(rows, groups, strict=True) for _ in range(group.count)]


def grpo_config(recipe: ThinkRecipe, folder: str, device: str) -> GRPOConfig:
    """Return what the recipe says, in TRL's words."""
    how, trl = recipe.reinforcement, recipe.trl
    loss, longest = how.objective, max(how.max_tokens)
    completions = how.prompts_per_step * how.num_generations
    step = completions // how.minibatches
    rows = micro_rows(step, recipe.micro_tokens, trl.max_prompt_length + longest)
    return GRPOConfig(
        output_dir=folder,
        seed=recipe.seed,
        per_device_train_batch_size=rows,
        gradient_accumulation_steps=step // rows,
        steps_per_generation=completions // rows,
        num_generations=how.num_generations,
        max_completion_length=longest,
        temperature=how.temperature[0],
        top_k=0,
        epsilon=loss.clip_low,
        epsilon_high=loss.clip_high,
        importance_sampling_level=loss.ratio,
        loss_type="dapo",  # the mean over all tokens of the batch, as `token_weights` has it
        beta=0.0,  # the trainer is given the reference model
        use_bias_correction_kl=False,
        entropy_coef=trl.entropy_coef,
        bf16=recipe.dtype == "bfloat16",
        use_cpu=device == "cpu",
        gradient_checkpointing=trl.gradient_checkpointing,
        use_vllm=trl.use_vllm,
        vllm_mode=trl.vllm_mode,
        vllm_server_base_url=trl.vllm_server_base_url,
        vllm_gpu_memory_utilization=trl.vllm_gpu_memory_utilization,
        vllm_enable_sleep_mode=trl.vllm_enable_sleep_mode,
        vllm_max_model_length=trl.max_prompt_length + longest,
        report_to=[],
        disable_tqdm=True,
    )


def micro_rows(completions: int, micro_tokens: int, longest: int) -> int:
    """Return how many completions go through the model at once: a divisor of those of an optimiser step."""
    most = max(1, micro_tokens // longest)
    return max(rows for rows in range(1, completions + 1) if completions % rows == 0 and rows <= most)


def completions_of(rows: list[list[int]], end: int, pad: int) -> Completions:
    """Return completions that TRL wrote; it keeps log-probabilities to itself, so that they are 0 here."""
    lengths = torch.tensor([len(row) for row in rows])
    tokens = torch.tensor([row + [pad] * (int(lengths.max()) - len(row)) for row in rows])
    return Completions(
        tokens, lengths, torch.zeros(tokens.shape), torch.tensor([row[-1] == end for row in rows])
    )
