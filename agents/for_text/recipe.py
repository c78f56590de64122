"""What a recipe says of policies that read text."""

from __future__ import annotations

from pydantic import Field, field_validator

from prunepolicy.agents.for_text.known import Dividing
from prunepolicy.agents.training.recipe import PolicyRecipe, RunEvaluation
from prunepolicy.policy.text_scores import text_scorers
from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.io.config import StrictConfig
from prunepolicy.pruning.plan import Budget
from prunepolicy.pruning.statistics.written_texts import KINDS, Writing


class WritingRecipe(StrictConfig):
    """Which texts the model writes to learn from: `Writing` says what each means."""

    texts: int = Field(default=260, ge=8)
    length: int = Field(default=256, ge=8)
    temperature: float = Field(default=0.9, gt=0)
    kinds: tuple[str, ...] = Field(default=KINDS, min_length=1)

    def settings(self, seed: int) -> Writing:
        """Return the texts of one seed."""
        return Writing(self.texts, self.length, self.temperature, self.kinds, seed)


class DomainsRecipe(StrictConfig):
    """How texts become domains, and domains parts: `Dividing` says what each means."""

    shown: tuple[int, ...] = Field(default=(32, 128), min_length=1)
    domains: int = Field(default=24, ge=3)
    directions: int = Field(default=8, ge=1)
    validation: float = Field(default=0.2, gt=0, lt=0.5)
    held_out: float = Field(default=0.2, gt=0, lt=0.5)

    @field_validator("shown")
    @classmethod
    def _ascending(cls, shown: tuple[int, ...]) -> tuple[int, ...]:
        if list(shown) != sorted(set(shown)) or shown[0] < 1:
            raise ValueError("numbers of tokens, each larger than the one before")
        return shown

    def settings(self, seed: int) -> Dividing:
        """Return the parts of one seed."""
        return Dividing(self.shown, self.domains, self.directions, self.validation, self.held_out, seed)


class TextEvaluation(RunEvaluation):
    """How scorers are compared in the end.

    Attributes:
        every: scorers between evaluations; every one is evaluated by default.
        texts: of held-out domains, at most.
        text: none; held-out domains are the test.
    """

    every: int = Field(default=1, ge=1)
    texts: int = Field(default=12, ge=1)
    text: None = None


class TextBudgets(StrictConfig):
    """The shares of feed-forward channels at which scorers are compared."""

    keep: tuple[float, ...] = Field(default=(0.7, 0.5), min_length=1)

    def listed(self) -> tuple[Budget, ...]:
        """Return the budgets, one for every size."""
        return tuple(Budget(keep, "ffn") for keep in self.keep)


class TextFitting(StrictConfig):
    """What is fitted.

    Attributes:
        scorers: names of text scorers, in the order in which they are tried; all when empty.
    """

    scorers: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The scorers' names.

        Raises:
            UsageError: when there is no such scorer.
        """
        for name in self.scorers:
            text_scorers[name]
        return self.scorers or tuple(text_scorers)


class ForTextRecipe(PolicyRecipe):
    """Everything that decides what a policy that reads text learns; `episodes` are scorers.

    Attributes:
        models: the one model whose channels it is about.
        held_out: no model; domains are held out.
    """

    models: tuple[str, ...] = Field(min_length=1, max_length=1)
    held_out: tuple[str, ...] = Field(default=(), max_length=0)
    writing: WritingRecipe = WritingRecipe()
    domains: DomainsRecipe = DomainsRecipe()
    budgets: TextBudgets = TextBudgets()
    fitting: TextFitting = TextFitting()
    evaluation: TextEvaluation = TextEvaluation()

    @property
    def inputs(self) -> tuple[str, ...]:
        """The model."""
        return self.models

    def check_parts(self) -> None:
        """Raise `UsageError` where parts contradict each other or name what isn't there."""
        self.fitting.names  # noqa: B018  # Names check themselves.
        self.writing.settings(0)
        self.budgets.listed()
        if self.writing.length <= self.domains.shown[-1]:
            raise UsageError(
                f"writing.length ({self.writing.length}) has to be more than the last of domains.shown "
                f"({self.domains.shown[-1]}), so that something of a text is left to evaluate on."
            )
