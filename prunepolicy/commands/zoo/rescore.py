"""Run the cheapest benchmark of a policy's card again, and compare."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from prunepolicy.agents.learned_pruning.evaluator import Evaluator, place_of
from prunepolicy.agents.learned_pruning.policy_card import PolicyCard, Witness, check_portable, read_card
from prunepolicy.agents.training.recipe import Recipe
from prunepolicy.agents.training.recipe_file import current_recipe
from prunepolicy.policy.base import Policy
from prunepolicy.policy.load import load_policy_folder
from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.checkpoint.no_model import SMOLLM2
from prunepolicy.pruning.checkpoint.source import resolve
from prunepolicy.pruning.errors import PrunePolicyError, UsageError
from prunepolicy.pruning.io.config import checked
from prunepolicy.pruning.io.progress import ProgressReporter
from prunepolicy.pruning.plan import Budget
from prunepolicy.pruning.session.model_session import ModelSession
from prunepolicy.pruning.session.opened_model import Hardware

TOLERATED_NATS = 0.005
TOLERATED_SHARE = 0.1
"""Another processor, number type or library rounds in another way: scores within the larger of both agree."""


@dataclass(frozen=True)
class Rescore:
    """A number of a card, and what it is when it is measured here.

    Attributes:
        where: model and budget.
        card: excess log-perplexity by the card, nats per token.
        here: by the measurement.
        same_model: whether the card says by its fingerprint that it was this very model.
    """

    name: str
    where: str
    card: float
    here: float
    same_model: bool

    @property
    def tolerance(self) -> float:
        """Largest difference that counts as agreement, nats per token."""
        return max(TOLERATED_NATS, TOLERATED_SHARE * abs(self.card))

    @property
    def agrees(self) -> bool:
        """Whether the card is confirmed."""
        return abs(self.here - self.card) <= self.tolerance

    @property
    def sentence(self) -> str:
        """What was found."""
        found = (
            f"Reproduced {self.where}: {self.here:.4f} nats per token over the dense model where the "
            f"card says {self.card:.4f} (tolerance {self.tolerance:.4f})"
        )
        if self.agrees:
            return f"{found}: confirmed."
        if self.same_model:
            return f"{found}: contradicted, with the very model that the card names."
        return (
            f"{found}: not confirmed. The card doesn't say by fingerprint which model it was, so this one "
            "may be another of that name."
        )


def rescore(policy: Policy, card: PolicyCard, progress: ProgressReporter) -> Rescore:
    """Measure one number of a policy's card.

    It is that of the card's witness, where that model can be had. Else it is that of the smallest evaluation
    model that is here, at the budget with the largest score, which is the hardest to hit by chance.

    Raises:
        PrunePolicyError: when the card is damaged, or none of its models is here.
    """
    check_portable(card)
    if card.measure:
        raise PrunePolicyError(f"The card of {card.name} can't be reproduced: {card.measure}")
    recipe = _recipe_of(card)
    if card.witness is not None and (here := _checkpoint_here(card.witness.model, card.witness.fingerprint)):
        session, claimed = _session(here, recipe, progress), {card.witness.where: card.witness.score}
        same_model = True
    else:
        session, claimed = _smallest(card, recipe, progress), card.chosen
        same_model = session.name in card.evaluation_models
    budget = _hardest(card.name, claimed, recipe, session)
    place = place_of(session, budget)
    return Rescore(card.name, place, claimed[place], _score(policy, recipe, session, budget), same_model)


def witness_of(folder: Path, model: str, progress: ProgressReporter) -> Witness:
    """Score the policy in a folder on a model that others can get, at the smallest budget of its recipe.

    Raises:
        UsageError: when the model is a place on this machine.
    """
    if Path(model).exists():
        raise UsageError(f"{model} is a folder here, which others don't have; name a hub id or {SMOLLM2}.")
    recipe = _recipe_of(read_card(folder))
    session = _session((model, Checkpoint.open(resolve(model))), recipe, progress)
    budget = min(recipe.every_budget, key=lambda budget: budget.keep)
    score = _score(load_policy_folder(folder), recipe, session, budget)
    fingerprint = session.checkpoint.fingerprint
    return Witness(model=model, fingerprint=fingerprint, where=place_of(session, budget), score=score)


def _recipe_of(card: PolicyCard) -> Recipe:
    where = f"the recipe of {card.name}"
    return checked(Recipe, current_recipe(card.recipe, where), where)


def _session(found: tuple[str, Checkpoint], recipe: Recipe, progress: ProgressReporter) -> ModelSession:
    return ModelSession(*found, Hardware(recipe.device, recipe.dtype), progress)


def _score(policy: Policy, recipe: Recipe, session: ModelSession, budget: Budget) -> float:
    """Return the excess of a model at a budget, as at the end of a training."""
    evaluator = Evaluator((session,), (budget,), recipe.evaluation, recipe.seed).for_the_end()
    return evaluator.scores(policy)[place_of(session, budget)]


def _smallest(card: PolicyCard, recipe: Recipe, progress: ProgressReporter) -> ModelSession:
    names = card.held_out or card.models
    here = [place for name in names if (place := _checkpoint_here(name, card.evaluation_models.get(name)))]
    if not here:
        made = (
            " (`make models` trains those in models/)" if any(n.startswith("models/") for n in names) else ""
        )
        raise PrunePolicyError(
            f"The card of {card.name} can't be reproduced here: it needs one of {', '.join(names)}, "
            f"and none, or another of that name, is in this folder{made}."
        )
    return _session(min(here, key=lambda item: item[1].nbytes), recipe, progress)


def _checkpoint_here(name: str, fingerprint: str | None) -> tuple[str, Checkpoint] | None:
    """Open a model that needs no download, if it is the one of that fingerprint; a card may name anything."""
    if not Path(name).is_dir() and name.lower() != SMOLLM2:
        return None
    try:
        checkpoint = Checkpoint.open(resolve(name))
    except PrunePolicyError:
        return None
    return (name, checkpoint) if fingerprint in (None, checkpoint.fingerprint) else None


def _hardest(name: str, claimed: Mapping[str, float], recipe: Recipe, session: ModelSession) -> Budget:
    scores = {budget: claimed.get(place_of(session, budget)) for budget in recipe.every_budget}
    known = {budget: abs(score) for budget, score in scores.items() if score is not None}
    if not known:
        raise PrunePolicyError(f"The card of {name} has no score of {session.name}, so it is damaged.")
    return max(known, key=known.__getitem__)
