"""What is known about a learned policy, as data: `card.json`, from which its README.md is written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from prunepolicy.agents.learned_pruning.evaluator import Scores, mean
from prunepolicy.policy.base import sentence_of
from prunepolicy.pruning.errors import PrunePolicyError, UsageError
from prunepolicy.pruning.io import bounded
from prunepolicy.pruning.io.atomic import write_text

CARD_DATA = "card.json"
Word = Literal["beats", "ties", "loses", "alone"]
"""What a policy does to the best heuristic; alone where there was none to compare with."""


EvaluationModels = Annotated[
    dict[str, str], Field(validation_alias=AliasChoices("evaluation_models", "judges"))
]
"""Fingerprints by name; `judges` is what signed cards and reports of version 0.1 call them."""


class CardPart(BaseModel):
    """A part of a card; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="constants")


class SeedSpread(CardPart):
    """A number over all seeds: the median, and the ends of its range."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> SeedSpread:
        """Describe `values`, one per seed."""
        return cls(median=median(values), least=min(values), most=max(values))

    def __str__(self) -> str:
        """Return the median, and the range where there is one."""
        middle, least, most = (f"{value:.4f}" for value in (self.median, self.least, self.most))
        return middle if least == most else f"{middle} ({least} to {most})"


class CardScores(CardPart):
    """Excess log-perplexity over the dense model in nats per token, over all seeds, or the card's measure.

    Attributes:
        mean: over models and budgets.
        cells: by `model, budget`.
    """

    mean: SeedSpread
    cells: dict[str, SeedSpread]

    @classmethod
    def of(cls, scores: Sequence[Scores]) -> CardScores:
        """Describe the scores of every seed."""
        cells = {place: SeedSpread.of([by_place[place] for by_place in scores]) for place in scores[0]}
        return cls(mean=SeedSpread.of([mean(by_place) for by_place in scores]), cells=cells)


class Failure(CardPart):
    """A model and budget at which a heuristic is better; both scores are medians over seeds."""

    where: str
    score: float
    heuristic: str
    heuristic_score: float


class Witness(CardPart):
    """A score that others can measure again, since they can get the very same model.

    Attributes:
        model: a hub id, or a model that comes as a package.
        fingerprint: of its checkpoint.
        where: the model and the budget.
        score: excess log-perplexity over the dense model in nats per token.
    """

    model: str
    fingerprint: str
    where: str
    score: float


class PolicyCard(CardPart):
    """Everything a user should know before trusting a learned policy.

    Attributes:
        word: the verdict in one word.
        verdict: the verdict in one sentence.
        measure: what its scores are, where that isn't excess log-perplexity right after the cut.
        seeds: those it was learned with.
        chosen_seed: that of the policy in this folder.
        chosen: scores of the policy in this folder, by `model, budget`.
        learned: scores of what was learned, over the seeds.
        heuristics: scores at the same models and budgets, the best heuristic first.
        leads: by heuristic, the number of seeds in which what was learned has the better mean.
        failures: where the best heuristic is better.
        evidence: what the algorithm measured about itself, such as a surrogate's correlation.
        recipe: of the chosen seed.
        cpu_seconds: of training and evaluation, over all seeds; None where it isn't known.
        evaluation_models: fingerprints of the models that the scores are of, by name; empty in cards of early
            versions.
        witness: a further score, which others can measure again; None where none was asked for.
    """

    schema_version: Literal[1] = 1
    name: str
    kind: str
    word: Word
    verdict: str
    measure: str = ""
    models: tuple[str, ...]
    held_out: tuple[str, ...]
    seeds: tuple[int, ...]
    chosen_seed: int
    steps: int
    best_step: int
    chosen: dict[str, float]
    learned: CardScores
    heuristics: dict[str, CardScores]
    leads: dict[str, int]
    failures: tuple[Failure, ...]
    evidence: dict[str, float]
    recipe: dict[str, Any]
    cpu_seconds: float | None = None
    evaluation_models: EvaluationModels = {}
    witness: Witness | None = None

    @property
    def best_heuristic(self) -> str | None:
        """The heuristic with the lowest mean; None when none was asked for."""
        return next(iter(self.heuristics), None)


def write_card_data(card: PolicyCard, folder: Path) -> None:
    """Write `card.json` into a policy's folder."""
    write_text(folder / CARD_DATA, card.model_dump_json(indent=1) + "\n")


def read_card(folder: Path) -> PolicyCard:
    """Read the `card.json` of a policy's folder.

    Raises:
        PrunePolicyError: when it is missing, damaged, or of another schema.
    """
    file = folder / CARD_DATA
    try:
        text = bounded.read_bytes(file)
    except (OSError, ValueError) as error:
        raise PrunePolicyError(f"Can't read the card {file}: {bounded.why(error)}.") from error
    return parsed_card(text, str(file))


def parsed_card(text: bytes, where: str) -> PolicyCard:
    """Check the content of a `card.json`, which `where` is called.

    Raises:
        PrunePolicyError: when it is damaged, or of another schema.
    """
    try:
        return PolicyCard.model_validate(bounded.parsed_json(text))
    except ValidationError as error:
        raise PrunePolicyError(f"{where} is no card: {sentence_of(error, PolicyCard)}.") from error
    except ValueError as error:
        raise PrunePolicyError(f"{where} is no card: {bounded.why(error)}.") from error


def check_portable(card: PolicyCard) -> None:
    """Raise `UsageError` when a card is of a smoke run, or names places that only this machine has."""
    if card.recipe.get("smoke"):
        raise UsageError(f"{card.name} comes from a smoke run, which learns nothing: train the whole recipe.")
    data, family = card.recipe.get("data") or {}, card.recipe.get("family") or {}
    files = (
        card.recipe["evaluation"].get("text"),
        data.get("source"),
        data.get("text"),
        family.get("folder"),
    )
    for place in (*card.models, *card.held_out, *filter(None, files)):
        if Path(place).is_absolute():
            raise UsageError(f"The card names {place}, which others don't have; train with a relative name.")
