"""Tokens a second of a whole learning step, in this project's loop and in TRL's trainer, in turn.

Both write equally many completions with the same model and longest length in float32, and take one optimiser
step on them, without a divergence from the start. CPU seconds are counted, which other processes disturb
little.
"""

from __future__ import annotations

import time
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from scoring import Row

from prunepolicy.agents.thinking.lm.grpo import Grpo
from prunepolicy.agents.thinking.lm.objective import PolicyLossRecipe
from prunepolicy.agents.thinking.lm.recipe import ThinkRecipe
from prunepolicy.pruning.io.progress import ProgressReporter

ROUNDS, STEPS = 3, 4


def speed(recipe: ThinkRecipe) -> Row:
    """Return tokens a second of both, the median over rounds, and their ratio."""
    how = recipe.reinforcement.model_copy(update={"objective": PolicyLossRecipe()})
    recipe = recipe.model_copy(update={"dtype": "float32", "reinforcement": how})
    ours, theirs = [], []
    for number in range(ROUNDS):
        ours.append(own_speed(recipe.model_copy(update={"seed": recipe.seed + number})))
        theirs.append(trl_speed(recipe.model_copy(update={"seed": recipe.seed + number})))
    found = {"ours": median(ours), "trl": median(theirs)}
    ratios = [mine / other for mine, other in zip(ours, theirs, strict=True)]
    return {**found, "ratio": median(ratios), "ratios": ratios, "unit": "tokens per CPU second"}


def own_speed(recipe: ThinkRecipe) -> float:
    """Return tokens per CPU second of this project's loop, after one step to warm up."""
    learner = Grpo(recipe, ProgressReporter())
    learner.step()
    start, tokens = time.process_time(), 0.0
    rows = recipe.reinforcement.prompts_per_step * recipe.reinforcement.num_generations
    for _ in range(STEPS):
        tokens += learner.step()["tokens"] * rows
    return tokens / (time.process_time() - start)


def trl_speed(recipe: ThinkRecipe) -> float:
    """Return the same of TRL's trainer."""
    from transformers import TrainerCallback
    from trl import GRPOConfig

    from prunepolicy.agents.thinking.lm.trl_trainer import ShapedGRPOTrainer, trl_dataset

    class Clock(TrainerCallback):  # type: ignore[misc]  # no types
        """Notes the CPU time at which steps end."""

        def __init__(self) -> None:
            self.ends: list[float] = []

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.ends.append(time.process_time())

    learner, how, clock = Grpo(recipe, ProgressReporter()), recipe.reinforcement, Clock()
    with TemporaryDirectory() as folder:
        arguments = GRPOConfig(
            output_dir=folder,
            per_device_train_batch_size=how.prompts_per_step * how.num_generations,
            num_generations=how.num_generations,
            max_completion_length=max(how.max_tokens),
            max_steps=1 + STEPS,
            learning_rate=how.learning_rate[0],
            use_cpu=learner.hardware.torch_device.type == "cpu",
            bf16=False,
            gradient_checkpointing=False,
            report_to=[],
            save_strategy="no",
            logging_steps=1,
            disable_tqdm=True,
            seed=recipe.seed,
        )
        data = trl_dataset(learner.problems.train, learner.policy_model.prompting)
        trainer = ShapedGRPOTrainer(
            learner.policy_model.model,
            recipe.stages,
            learner.policy_model.prompting,
            arguments,
            train_dataset=data,
            callbacks=[clock],
        )
        trainer.train()
    lengths = [row["completions/mean_length"] for row in trainer.state.log_history if "reward" in row]
    tokens = sum(lengths[1:]) * how.prompts_per_step * how.num_generations
    return float(tokens / (clock.ends[-1] - clock.ends[0]))
