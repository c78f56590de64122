"""Fit text scorers, one a step, to domains of text that the model wrote; others choose among them."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from prunepolicy.agents.for_text.known import Texts
from prunepolicy.agents.for_text.recipe import ForTextRecipe
from prunepolicy.agents.training.learner import LearnerState, SteppedLearner
from prunepolicy.agents.training.recipe import RunRecipe
from prunepolicy.policy.kinds.text import Text, TextConfig
from prunepolicy.policy.text_scores import TextScorer, text_scorers
from prunepolicy.policy.text_scores.agreement import lost_energy
from prunepolicy.pruning.session.model_session import ModelSession


class TextLearner(SteppedLearner):
    """Fits one scorer after the other.

    Attributes:
        measure: what `lost` returns.
        unit: of it, for the progress shown.
        fitted: the scorers so far, by name.
    """

    recipe_type: ClassVar[type[RunRecipe]] = ForTextRecipe
    measure: ClassVar[str] = "lost_energy"
    unit: ClassVar[str] = "times the least energy that a choice can lose"

    @classmethod
    def check(cls, recipe: ForTextRecipe) -> None:
        """Raise `UsageError` where a recipe names what isn't there, or its parts contradict each other."""
        recipe.policy_settings("text", TextConfig)
        recipe.check_parts()

    def __init__(self, recipe: ForTextRecipe, session: ModelSession, texts: Texts, tokens: Tensor) -> None:
        self.settings = recipe.policy_settings("text", TextConfig)
        self.names, self.texts = recipe.fitting.names, texts
        self.network = session.checkpoint.fingerprint
        self.fitted: dict[str, TextScorer] = {}

    @property
    def steps_left(self) -> float:
        """The scorers that weren't fitted yet."""
        return len(self.names) - len(self.fitted)

    @property
    def latest(self) -> str:
        """Name of the scorer that was fitted last."""
        return list(self.fitted)[-1]

    def policy(self, name: str) -> Text:
        """Return the policy that decides by one of the fitted scorers."""
        settings = self.settings.model_dump(exclude={"scorer", "network", "numbers"})
        return Text.fitted(name, self.fitted[name].numbers, self.network, **settings)

    def step(self) -> dict[str, float]:
        """Fit the next scorer, and return what its choices lose on the validation domains."""
        self.fit(self.names[len(self.fitted)])
        return {"reward": -self.lost(self.latest)}

    def fit(self, name: str) -> None:
        """Fit a scorer to the training domains."""
        scorer = text_scorers[name]()
        scorer.fit(self.texts.known(self.texts.parts.train))
        self.fitted[name] = scorer

    def lost(self, name: str) -> float:
        """Return what a scorer's choices lose on validation domains, as a multiple of the least."""
        known = self.texts.known(self.texts.parts.validation)
        losses = [
            lost_energy(self.fitted[name].energy(few), text.rest, known.norms)
            for text in known.texts
            for few in text.shown
        ]
        return sum(losses) / len(losses)

    def state(self) -> LearnerState:
        """Return how many scorers were fitted; fitting them again gives the same numbers."""
        return LearnerState({"fitted": torch.tensor([len(self.fitted)])})

    def restore(self, state: LearnerState) -> None:
        """Fit those again that were fitted."""
        for name in self.names[: int(state.tensors["fitted"])]:
            self.fit(name)
