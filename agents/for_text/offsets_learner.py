"""Train what a text scorer adds to its statistics by gradients through the network.

A step draws texts, scores the channels of each from its first tokens, keeps the best, and steps down the KL
divergence from the dense network on tokens that weren't shown.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cached_property
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from prunepolicy.agents.for_text.known import Texts
from prunepolicy.agents.for_text.learner import TextLearner
from prunepolicy.agents.for_text.recipe import ForTextRecipe
from prunepolicy.agents.learned_pruning.gradient_gates import kl_from_dense, straight_through
from prunepolicy.agents.training.learner import LearnerState
from prunepolicy.agents.training.optimiser_state import packed, unpack
from prunepolicy.agents.training.recipe import RunRecipe
from prunepolicy.policy.base import Instruments
from prunepolicy.policy.budgeting import spend, task_for
from prunepolicy.policy.text_scores.prior import SMALLEST
from prunepolicy.policy.text_scores.registry import KnownText, apart
from prunepolicy.pruning.io.config import StrictConfig
from prunepolicy.pruning.plan import Budget
from prunepolicy.pruning.session.model_session import ModelSession
from prunepolicy.pruning.statistics.gates import keep_values
from prunepolicy.pruning.statistics.stats import Stats
from prunepolicy.pruning.statistics.text_energy import TextEnergy

TRAINED = "offsets"


class OffsetsTraining(StrictConfig):
    """How the offsets are trained.

    Attributes:
        batch_size: texts of a step, each with gates of its own.
        temperature: width of the straight-through sigmoid, in logarithms of scores.
        ema_decay: of the exponential moving average of the offsets that the policy gets; 0 gives it the last.
        validation_texts: of the validation domains, on which the divergence chooses the best step, at most.
    """

    batch_size: int = Field(default=4, ge=1)
    learning_rate: float = Field(default=0.01, gt=0)
    temperature: float = Field(default=0.3, gt=0)
    ema_decay: float = Field(default=0.9, ge=0, lt=1)
    validation_texts: int = Field(default=12, ge=1)


class TextOffsetsRecipe(ForTextRecipe):
    """Everything that decides what offsets are trained; the scorers of `fitting` are shown beside them."""

    training: OffsetsTraining = OffsetsTraining()


class TextOffsets(TextLearner):
    """Moves one number per channel, the same for all texts, which starts at 0: as the scorer `ahead`."""

    recipe_type: ClassVar[type[RunRecipe]] = TextOffsetsRecipe
    measure: ClassVar[str] = "kl"
    unit: ClassVar[str] = "nats per token of KL divergence"

    def __init__(
        self, recipe: TextOffsetsRecipe, session: ModelSession, texts: Texts, tokens: Tensor
    ) -> None:
        super().__init__(recipe, session, texts, tokens)
        self.session, self.tokens, self.how = session, tokens, recipe.training
        self.budgets = recipe.budgets.listed()
        self.generator = torch.Generator().manual_seed(recipe.seed)
        for name in dict.fromkeys((*self.names, TRAINED)):
            self.fit(name)
        self.averaged = self.fitted[TRAINED].numbers[TRAINED]
        self.offsets = self.averaged.clone().requires_grad_()
        self.optimiser = torch.optim.Adam([self.offsets], lr=self.how.learning_rate)

    @property
    def steps_left(self) -> float:
        """No end."""
        return math.inf

    @property
    def latest(self) -> str:
        """Name of the scorer that is trained."""
        return TRAINED

    def step(self) -> dict[str, float]:
        """Keep what a few texts need at one of the budgets, and step down the KL divergence."""
        budget = self.budgets[self._drawn(len(self.budgets))]
        order = torch.randperm(len(self._trained_on), generator=self.generator)
        places = [self._trained_on[row] for row in order[: self.how.batch_size].tolist()]
        rows = [self._gates(self._shown(self.texts.texts[place]), budget) for place in places]
        values = {name: torch.stack([row[name] for row in rows]).to(self.session.device) for name in rows[0]}
        loss = kl_from_dense(self.session, self._unseen(places), values)
        self.optimiser.zero_grad()
        loss.log().backward()  # Relative to what is lost, so that small budgets don't outweigh the others.
        self.optimiser.step()
        self.averaged.lerp_(self.offsets.detach(), 1 - self.how.ema_decay)
        kl = float(loss.detach())
        return {"reward": -kl, "loss": kl, "keep": budget.keep}

    def lost(self, name: str) -> float:
        """Return the KL divergence on validation domains that a scorer's choices cause, nats per token."""
        places = self._places(self.texts.parts.validation)[: self.how.validation_texts]
        policy, graph = self.policy(name), self.session.checkpoint.graph
        losses = []
        for place in places:
            few = self._with_others(self.texts.texts[place], -1)
            for budget in self.budgets:
                plan = policy.shown(few, self.texts.norms).plan(graph, self._stats, budget)
                values = keep_values(graph, plan, self.session.dtype, self.session.device)
                with torch.no_grad():
                    losses.append(float(kl_from_dense(self.session, self._unseen([place]), values)))
        return sum(losses) / len(losses)

    def state(self) -> LearnerState:
        """Return the offsets, their running mean, optimiser moments and the generator's state."""
        learned = {"offsets": self.offsets.detach(), "averaged": self.averaged}
        return LearnerState({**learned, **packed(self.optimiser), "generator": self.generator.get_state()})

    def restore(self, state: LearnerState) -> None:
        """Continue from what `state` returned."""
        self.offsets.detach().copy_(state.tensors["offsets"])
        self.averaged.copy_(state.tensors["averaged"])
        unpack(self.optimiser, state.tensors)
        self.generator.set_state(state.tensors["generator"])

    @cached_property
    def _trained_on(self) -> list[int]:
        return self._places(self.texts.parts.train)

    @property
    def _stats(self) -> Stats:
        return Stats(fingerprint=self.network)

    def _places(self, domains: frozenset[int]) -> list[int]:
        return [place for place, text in enumerate(self.texts.texts) if text.domain in domains]

    def _drawn(self, count: int) -> int:
        return int(torch.randint(count, (1,), generator=self.generator))

    def _unseen(self, places: list[int]) -> Tensor:
        """Return the tokens of some texts that no showing has, shape (texts, tokens)."""
        seen = self.texts.texts[places[0]].shown[-1].tokens
        return self.tokens[places, seen:].to(self.session.device)

    def _shown(self, text: KnownText) -> TextEnergy:
        return self._with_others(text, self._drawn(len(text.shown)))

    def _with_others(self, text: KnownText, showing: int) -> TextEnergy:
        """Return a showing; other texts of its domain stand for what the model would go on with."""
        others = [
            TextEnergy.pooled([other.shown[-1], other.rest])
            for other in self.texts.texts
            if other.domain == text.domain and other is not text
        ]
        return replace(text.shown[showing], ahead=TextEnergy.pooled(others) if others else None)

    def _gates(self, few: TextEnergy, budget: Budget) -> dict[str, Tensor]:
        """Return the multipliers of the channels, 0 or 1, for one text, with gradients for the offsets."""
        logits = self._logits(few)
        scores = {name: values.detach().exp() for name, values in logits.items()}
        graph = self.session.checkpoint.graph
        kept = spend(task_for(graph, scores, budget, Instruments(), comparable=False))
        return {
            name: straight_through(logits[name], units, self.how.temperature) for name, units in kept.items()
        }

    def _logits(self, few: TextEnergy) -> dict[str, Tensor]:
        """Return the logarithms of the scores, as a function of the offsets."""
        base = self.fitted[TRAINED].energy(few)
        offsets = apart(self.offsets, base)
        return {
            name: energy.clamp(min=SMALLEST).log() / 2 + self.texts.norms[name].log() + offsets[name]
            for name, energy in base.items()
        }
