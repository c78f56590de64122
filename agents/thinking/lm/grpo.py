"""GRPO on tokens for models that learn when to think, with imitation steps where a switch wants them.

Rewards are shaped here, after all rollouts have come together, since they read whole batches.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from random import Random
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from prunepolicy.agents.runtime import LocalRunner, Runner
from prunepolicy.agents.thinking.lm.demonstrations import Demonstrator
from prunepolicy.agents.thinking.lm.engines import Sampling, engines
from prunepolicy.agents.thinking.lm.health import HealthMonitor
from prunepolicy.agents.thinking.lm.imitation import Imitation
from prunepolicy.agents.thinking.lm.policy_model import PolicyModel
from prunepolicy.agents.thinking.lm.problem_set import ProblemSet
from prunepolicy.agents.thinking.lm.prompt_batches import PromptBatches
from prunepolicy.agents.thinking.lm.recipe import ThinkRecipe
from prunepolicy.agents.thinking.lm.reinforcement import Reinforcement, advantages_of, reference_kl
from prunepolicy.agents.thinking.lm.rollout_batch import RolloutBatch, RolloutWorker
from prunepolicy.agents.thinking.lm.scoring import Scorer
from prunepolicy.agents.thinking.lm.switches import Switch, SwitchObservation, switches
from prunepolicy.agents.thinking.lm.thinking_gap import measured_gap
from prunepolicy.agents.training.learner import LearnerState, SteppedLearner
from prunepolicy.agents.training.optimiser_state import packed, unpack
from prunepolicy.agents.training.recipe import RunRecipe
from prunepolicy.envs.thinking.sampling import samplers
from prunepolicy.envs.thinking.schedule import Schedule, ShapedBatch
from prunepolicy.envs.thinking.settings import built
from prunepolicy.pruning.errors import PrunePolicyError
from prunepolicy.pruning.io.progress import ProgressReporter
from prunepolicy.pruning.session.opened_model import Hardware

RAMP = 20
"""Steps over which the learning rate rises at the very beginning."""
DRIFT_ROWS = 32
REFERENCE = "start/"
"""Of the reference model's tensors in checkpoints; runs of earlier versions have it, too."""


class StepWeights(NamedTuple):
    """How much of what a step follows: weights of two losses, and the learning rate."""

    reinforcement: float
    imitation: float
    learning_rate: float


class Grpo(SteppedLearner):
    """Warms up by imitation, then reinforces, or imitates again where the switch says so."""

    recipe_type: ClassVar[type[RunRecipe]] = ThinkRecipe

    @classmethod
    def check(cls, recipe: ThinkRecipe) -> None:
        """Raise `UsageError` where a recipe names what isn't there, or its parts contradict each other."""
        Schedule(recipe.stages)
        built(switches, recipe.switch)
        built(samplers, {**recipe.reinforcement.sampler, "prompts": recipe.problems.train})
        recipe.reinforcement.check_engine()
        recipe.problems.check()
        for task in recipe.problems.tasks:
            task.range()

    def __init__(self, recipe: ThinkRecipe, progress: ProgressReporter, runner: Runner | None = None) -> None:
        self.recipe, self.progress, self.runner = recipe, progress, runner or LocalRunner()
        self.hardware = Hardware(recipe.device, recipe.dtype)
        self.problems = ProblemSet.draw(recipe.problems, recipe.seed)
        self.policy_model = self._opened()
        self.rollout_worker = self.rollout_worker_for(self.policy_model)
        self.reference_model = self._frozen()
        self.optimiser = torch.optim.AdamW(
            self.policy_model.model.parameters(), betas=(0.9, 0.95), weight_decay=0.0
        )
        self.schedule = Schedule(recipe.stages)
        self.batches = PromptBatches.of(recipe, self.problems.train, self.rollout_worker)
        self.switch: Switch = built(switches, recipe.switch)
        self.health = HealthMonitor(recipe.alarms)
        self.demonstrator = Demonstrator(self.policy_model.prompting, recipe.demonstrations)
        self.demonstrating = Random(recipe.seed)
        self.done = {"warm_up": 0, "reinforcing": 0, "all": 0}
        self.warm = not recipe.warm_up.steps

    @property
    def max_tokens(self) -> int:
        """Longest completion in this stage."""
        return int(_of_stage(self.recipe.reinforcement.max_tokens, self.stage))

    @property
    def learning_rate(self) -> float:
        """Of reinforcement, in this stage."""
        return _of_stage(self.recipe.reinforcement.learning_rate, self.stage)

    @property
    def temperature(self) -> float:
        """Of training completions, in this stage."""
        return _of_stage(self.recipe.reinforcement.temperature, self.stage)

    @property
    def stage(self) -> int:
        """Which stage of the reward it is, counted from 0."""
        return self.schedule.stages.index(self.schedule.stage)

    @property
    def sampling(self) -> Sampling:
        """How training completions are sampled."""
        return self.policy_model.sampling(self.max_tokens, self.temperature)

    @property
    def eval_sampling(self) -> Sampling:
        """How completions are sampled in evaluation."""
        return self.policy_model.sampling(self.max_tokens, self.recipe.evaluation.temperature)

    @property
    def greedy(self) -> Sampling:
        """How completions are decoded greedily."""
        return self.policy_model.sampling(self.max_tokens, 0.0)

    @property
    def steps_left(self) -> float:
        """Steps of the warm-up, which may end sooner, and those after it where the recipe counts them."""
        if self.recipe.reinforcement.steps is None:
            return math.inf
        warm_up = 0 if self.warm else self.recipe.warm_up.steps - self.done["warm_up"]
        after = self.done["all"] - self.done["warm_up"]
        return warm_up + max(0, self.recipe.reinforcement.steps - after)

    def step(self) -> dict[str, float]:
        """Imitate, reinforce, or both."""
        self.done["all"] += 1
        if self.warm:
            return self._learn()
        self.done["warm_up"] += 1
        how = self.recipe.warm_up
        norm, loss = self._imitate_alone(1 - (1 - how.final_lr_fraction) * self.done["warm_up"] / how.steps)
        self.switch.observe(SwitchObservation(norm, warm_up=True))
        return {"loss": loss, "grad_norm": norm, "imitation": 1.0, **self._measure_gap()}

    def state(self) -> LearnerState:
        """Return weights, the reference model, moments, and the states of generators and schedules."""
        tensors = {f"model/{name}": tensor for name, tensor in _weights(self.policy_model.model).items()}
        if self.warm and self.recipe.warm_up.steps:
            tensors |= {
                f"{REFERENCE}{name}": tensor for name, tensor in _weights(self.reference_model).items()
            }
        version, internal, gauss = self.demonstrating.getstate()
        data: dict[str, Any] = {
            "done": self.done,
            "warm": self.warm,
            "schedule": self.schedule.state(),
            "batches": self.batches.state(),
            "switch": self.switch.state(),
            "held": self.health.held,
            "demonstrating": [version, list(internal), gauss],
        }
        return LearnerState({**tensors, **packed(self.optimiser)}, data)

    def restore(self, state: LearnerState) -> None:
        """Continue from what `state` returned."""
        _load(self.policy_model.model, state.tensors, "model/")
        _load(self.reference_model, state.tensors, REFERENCE)
        unpack(self.optimiser, state.tensors)
        self.done, self.warm = dict(state.data["done"]), state.data["warm"]
        self.schedule.restore(state.data["schedule"])
        self.batches.restore(state.data["batches"])
        self.switch.restore(state.data["switch"])
        self.health.held = dict(state.data["held"])
        version, internal, gauss = state.data["demonstrating"]
        self.demonstrating.setstate((version, tuple(internal), gauss))

    def rollout_worker_for(self, policy_model: PolicyModel) -> RolloutWorker:
        """Return what samples completions of the policy model, or of another one, wherever workers are."""
        how = self.recipe.reinforcement
        engine = engines[how.generator].open(policy_model.model, self.recipe.device)
        return RolloutWorker(engine, policy_model.prompting, how.chunk, self.runner)

    def scorer(self, model: Any = None) -> Scorer:
        """Return what gives log-probabilities of completions under the model, or another of its kind."""
        policy_model = self.policy_model if model is None else PolicyModel(model, self.policy_model.prompting)
        return policy_model.scorer(self.hardware.torch_dtype, self.temperature)

    def _opened(self) -> PolicyModel:
        recipe = self.recipe
        if recipe.model is None:
            return PolicyModel.new(recipe, self.problems, self.hardware.torch_device)
        return PolicyModel.named(recipe.model, recipe.prompt, self.hardware)

    def _frozen(self) -> Any:
        """Return a copy of the model as it is now."""
        return copy.deepcopy(self.policy_model.model).requires_grad_(False).eval()

    def _imitate_alone(self, rate: float = 1.0) -> tuple[float, float]:
        self.optimiser.zero_grad()
        loss = self._imitate(1.0)
        norm = self._gradient_norm()
        self._update(rate * self.recipe.imitation.learning_rate)
        return norm, loss

    def _imitate(self, weight: float) -> float:
        """Add the gradient of fresh demonstrations, and return the loss."""
        recipe, generator = self.recipe.imitation, self.demonstrating
        rows = self.demonstrator.batch(self.problems.fresh(generator), recipe.batch_size, generator)
        scorer = self.policy_model.scorer(self.hardware.torch_dtype)
        imitation = Imitation(scorer, recipe.token_weight, self.recipe.micro_tokens, recipe.mean)
        return sum(_backward(weight * loss) for loss in imitation.losses(rows)) / (weight or 1.0)

    def _measure_gap(self) -> dict[str, float]:
        """End the warm-up where the gain of thinking meets the recipe's thresholds.

        Raises:
            PrunePolicyError: when the warm-up is over and the thresholds aren't met.
        """
        how, done = self.recipe.warm_up, self.done["warm_up"]
        if done % how.check_every and done < how.steps:
            return {}
        gap = measured_gap(self.rollout_worker, self.problems.validation[: how.problems], self.greedy)
        is_met = gap.easy <= how.max_easy_gain and gap.hard >= how.min_hard_gain
        if is_met and gap.thinking >= how.min_think_accuracy:
            self.warm, self.reference_model = True, self._frozen()
            ahead = f"thinking is ahead by {gap.hard:.0%} on hard problems"
            self.progress.note(f"  warm-up done after {done} steps: {ahead}")
        elif done >= how.steps:
            raise PrunePolicyError(
                f"After {done} steps of imitation, thinking is ahead of answering at once by {gap.easy:.0%} "
                f"on easy problems (at most {how.max_easy_gain:.0%}) and by {gap.hard:.0%} on hard ones (at "
                f"least {how.min_hard_gain:.0%}), where its accuracy is {gap.thinking:.0%}: from there it "
                "can't learn when to think. Raise warm_up.steps, or change the problems' levels."
            )
        return gap.metrics()

    def _learn(self) -> dict[str, float]:
        chance = np.random.default_rng((self.recipe.seed, self.done["all"])).random()
        mixture = self.switch.mixture(self.done["all"] - self.done["warm_up"] - 1, chance)
        row = {"p_imitation": mixture.probability, "imitation": mixture.imitation}
        norm: float | None = None
        if not mixture.reinforcement:
            norm, row["loss"] = self._imitate_alone()
            row["grad_norm"] = norm
        else:
            norm = self._probe() if self.switch.wants_probe(self.done["all"]) else None
            row |= self._reinforce(mixture.reinforcement, mixture.imitation)
        self.switch.observe(SwitchObservation(norm, row.get("kl")))
        return row if norm is None else {**row, "imitation_norm": norm}

    def _probe(self) -> float:
        """Return the imitation gradient's norm without following it."""
        self.optimiser.zero_grad()
        self._imitate(1.0)
        return self._gradient_norm()

    def _reinforce(self, weight: float, imitation: float) -> dict[str, float]:
        stage, rate = self.stage, self.learning_rate
        batch, shaped = self._roll()
        row = {**shaped.statistics, "stage": float(stage), **_lengths(batch)}
        if self.done["reinforcing"] == 0:
            self._check_mixed(row["mixed"])
        row |= self._follow(batch, shaped, StepWeights(weight, imitation, rate))
        row |= self._drift(batch)
        self.done["reinforcing"] += 1
        for sentence in self.health.check(row):
            self.progress.note(f"  ! step {self.done['all']}: {sentence}")
        return row

    def _roll(self) -> tuple[RolloutBatch, ShapedBatch]:
        """Return the next batch with its rewards; the schedule moves on."""
        batch = self.batches.roll(self.done["all"], self.sampling)
        return batch, self.schedule.step(batch.table)

    def _follow(self, batch: RolloutBatch, shaped: ShapedBatch, weights: StepWeights) -> dict[str, float]:
        """Take the optimiser's steps on a batch, and return what to log of them."""
        recipe, row = self.recipe.reinforcement, dict[str, float]()
        advantages = advantages_of(shaped.rewards, batch.table, recipe.objective)
        reference = self.scorer(self.reference_model) if recipe.objective.beta else None
        update = Reinforcement(self.scorer(), reference, recipe.objective, self.recipe.micro_tokens)
        for rows in np.array_split(np.arange(len(advantages)), recipe.minibatches):
            self.optimiser.zero_grad()
            row["loss"] = sum(
                _backward(weights.reinforcement * loss)
                for loss in update.losses(batch, advantages, rows.tolist())
            )
            row["grad_norm"] = self._finish(weights)
        return row | update.sums.metrics()

    def _finish(self, weights: StepWeights) -> float:
        """Add the gradient of imitation where there is any, step, and return the gradient's norm."""
        if weights.imitation:
            self._imitate(weights.imitation)
        norm = self._gradient_norm()
        self._update(weights.learning_rate)
        return norm

    def _check_mixed(self, share: float) -> None:
        least = self.recipe.reinforcement.min_mixed_groups
        if share < least:
            raise PrunePolicyError(
                f"Only {share:.0%} of the first groups hold both modes (reinforcement.min_mixed_groups is "
                f"{least:.0%}), so no reward could teach when to think. Start from a model that uses both, "
                "warm up on demonstrations of both (warm_up.steps), or set reinforcement.force=half."
            )

    def _drift(self, batch: RolloutBatch) -> dict[str, float]:
        """Measure the KL divergence from the reference model every so many steps."""
        if self.done["reinforcing"] % self.recipe.reinforcement.reference_kl_every:
            return {}
        part = batch.part(DRIFT_ROWS)
        reference = self.scorer(self.reference_model)
        return {"kl": reference_kl(self.scorer(), reference, part, self.recipe.micro_tokens)}

    def _gradient_norm(self) -> float:
        gradients = [p.grad for p in self.policy_model.model.parameters() if p.grad is not None]
        return float(nn.utils.get_total_norm(gradients))

    def _update(self, rate: float) -> None:
        """Take one step; the rate rises at the very beginning."""
        nn.utils.clip_grad_norm_(self.policy_model.model.parameters(), self.recipe.max_grad_norm)
        for group in self.optimiser.param_groups:
            group["lr"] = rate * min(1.0, self.done["all"] / RAMP)
        self.optimiser.step()


def _of_stage(values: Sequence[float], stage: int) -> float:
    """Return a stage's own value, or the only one there is."""
    return values[stage if len(values) > 1 else 0]


def _backward(loss: Tensor) -> float:
    loss.backward()
    return float(loss.detach())


def _lengths(batch: RolloutBatch) -> dict[str, float]:
    """Return shares of completions cut off and not verified, and words beside the answer per completion."""
    return {
        "clipped_length": float((~batch.written.ended).float().mean()),
        "verifier_errors": batch.errors / len(batch.written),
        "leaked": batch.leaked,
    }


def _weights(model: Any) -> dict[str, Tensor]:
    """Return the parameters, each once, however often they are used."""
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def _load(model: Any, tensors: Any, prefix: str) -> None:
    for name, weight in _weights(model).items():
        if prefix + name in tensors:
            weight.copy_(tensors[prefix + name])
