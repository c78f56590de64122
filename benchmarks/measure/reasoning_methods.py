"""The methods that benchmarks/measure/reasoning.py compares, as differences from one recipe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from prunepolicy.agents.thinking.lm.recipe import ThinkRecipe

Terms = list[dict[str, Any]]
STEPS = (30, 10, 110)
"""Of the three stages, as in tiny.yaml."""
TEACHING: dict[str, Any] = {
    "learning_rate": [2e-4, 2e-4, 4e-4],
    "temperature": 1.0,
    "sampler": {"name": "random"},
    "objective": {"mode_weight": 0.5, "beta": 0.02},
}
"""What all methods have in common where they don't say otherwise, whatever tiny.yaml does."""
NAIVE, BALANCE, LENGTH = {"name": "naive"}, {"name": "balance"}, {"name": "length_aware"}


@dataclass(frozen=True)
class Method:
    """A way to reward, and what else it changes.

    Attributes:
        terms: of the three stages, and of the one that settles where it has its own; one list for all.
        more: steps of the last stage beyond those that all methods get.
        settle: steps of a stage after it.
    """

    terms: tuple[Terms, ...]
    reinforcement: dict[str, Any] = field(default_factory=dict)
    more: int = 0
    settle: int = 0

    @property
    def steps(self) -> tuple[int, ...]:
        """Of the stages."""
        last = STEPS[-1] + self.more
        return (*STEPS[:-1], last, self.settle) if self.settle else (*STEPS[:-1], last)

    @property
    def stages(self) -> list[dict[str, Any]]:
        """The stages as recipes say them; a single list of terms is paid in all of them."""
        terms = self.terms * len(STEPS) if len(self.terms) == 1 else self.terms
        terms = (*terms, terms[-1])[: len(self.steps)]
        return [
            {"name": f"stage {number}", "terms": paid, "until": {"steps": count}}
            for number, (paid, count) in enumerate(zip(terms, self.steps, strict=True), 1)
        ]


AUTOTHINK: tuple[Terms, ...] = ([NAIVE, BALANCE], [NAIVE], [NAIVE, LENGTH])
PRUNES: tuple[Terms, ...] = tuple([{"name": "think_prune", "limit": limit}] for limit in (64, 48, 32))
METHODS = {
    "autothink": Method(AUTOTHINK),
    "autothink_longer": Method(AUTOTHINK, more=50),
    # Chosen on a start that no row is about: lengths count where all answers are right, and advantages are
    # divided by the batch's deviation, so that a little brevity doesn't weigh as much as being right.
    "autothink_solved": Method(
        (*AUTOTHINK[:2], [NAIVE, {**LENGTH, "correct": 0.2, "wrong": 0.0, "solved": 1.0}]),
        {"objective": {"mode_weight": 0.5, "beta": 0.002, "advantage": "batch"}},
    ),
    "naive": Method(([NAIVE],)),
    "shuffled": Method(AUTOTHINK, {"shuffle_outcomes": True}),
    "brevity": Method(([NAIVE, {**LENGTH, "wrong": 0.0}],)),
    "think_prune": Method(PRUNES),
    "adapt_think": Method(
        ([{"name": "adapt_think"}],),
        {
            "force": "half",
            "reference_generations": 2,
            "objective": {"ratio": "sequence", "advantage": "raw", "mode_weight": 0.5, "beta": 0.02},
        },
    ),
    # Thinkless gives the mode token 0.001, about twice the share of one token among thousands; of the
    # tens of tokens here, twice a token's share is about this.
    "thinkless": Method(
        ([{"name": "thinkless"}],), {"objective": {"mode_weight": 0.08, "advantage": "none", "beta": 0.02}}
    ),
    "success_rate": Method(([NAIVE, {"name": "success_rate"}],)),
}

# How long, how gently and how warm was chosen on a start that no row is about.
_SOLVED = METHODS["autothink_solved"]
_RATES = {**_SOLVED.reinforcement, "learning_rate": [2e-4, 2e-4, 4e-4, 1e-4]}
# More brevity, which waits while accuracy is low, for answers that keep varying: slightly warmer ones, half
# of them to problems whose outcomes vary.
_WAITING: Terms = [NAIVE, {**LENGTH, "correct": 0.3, "wrong": 0.0, "solved": 1.0, "floor": 0.8}]
_VARIED = {**_RATES, "sampler": {"name": "variance_aware", "mixed": 0.5, "refresh": 10}}
LONGER = {
    "autothink_solved": replace(_SOLVED, more=350, settle=100, reinforcement=_RATES),
    "autothink_floor": Method(
        (*AUTOTHINK[:2], _WAITING),
        {**_VARIED, "temperature": [1.0, 1.0, 1.15, 1.0]},
        more=350,
        settle=100,
    ),
    "autothink_settled": Method(
        (*AUTOTHINK[:2], _WAITING, [NAIVE]),
        {**_VARIED, "temperature": [1.0, 1.0, 1.15, 1.15]},
        more=400,
        settle=100,
    ),
}
_SETTLED = LONGER["autothink_settled"]
LONGER["settled_shuffled"] = replace(
    _SETTLED, reinforcement={**_SETTLED.reinforcement, "shuffle_outcomes": True}
)

Change = Callable[[ThinkRecipe], dict[str, Any]]


def switched(**switch: Any) -> Change:
    """Return the change to another way of dividing steps."""
    return lambda _: {"switch": switch}


def after_warm_up(**switch: Any) -> Change:
    """Return the same for schedules, which end when the recipe does."""
    return lambda recipe: {"switch": {**switch, "steps": recipe.max_steps - recipe.warm_up.steps}}


def imitated_first(recipe: ThinkRecipe) -> dict[str, Any]:
    """Return a change that imitates for half of what follows the warm-up, and reinforces afterwards."""
    half = (recipe.max_steps + recipe.warm_up.steps) // 2
    return {
        "warm_up": {**recipe.warm_up.model_dump(), "steps": half, "check_every": half},
        "switch": _ONLY_GRPO,
    }


def longer(change: Change, times: int) -> Change:
    """Return a change with more steps after the warm-up: of steps that cost less."""

    def changed(recipe: ThinkRecipe) -> dict[str, Any]:
        warm_up = recipe.warm_up.steps
        return {**change(recipe), "max_steps": warm_up + times * (recipe.max_steps - warm_up)}

    return changed


LONG_START = {"gsm_symbolic": 2500}
"""Steps of imitation before the ways to mix part, where a model knows nothing for long; seeds share them."""
_ONLY_SFT = {"name": "constant", "imitation": 1.0}
_ONLY_GRPO = {"name": "constant", "imitation": 0.0}
MIXTURES: dict[str, Change] = {
    "sasr": lambda _: {},
    "sft only": switched(**_ONLY_SFT),
    "sft only, 4 times the steps": longer(switched(**_ONLY_SFT), 4),
    "grpo only": switched(**_ONLY_GRPO),
    "sft then grpo": imitated_first,
    "constant": switched(name="constant", imitation=0.5),
    "cosine": after_warm_up(name="cosine"),
    "chord": after_warm_up(name="chord"),
}
