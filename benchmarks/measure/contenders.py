"""Who takes part in the comparison of policies, and which rows that makes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from scoring import Row

from prunepolicy.pruning.plan import Budget, Of

OFS: tuple[Of, ...] = ("ffn", "params")
BUDGETS = [Budget(keep, of, uniform=u) for u in (True, False) for of in OFS for keep in (0.9, 0.8, 0.7)]
ASKED = Budget(0.7, "ffn")
"""The budget at which questions are answered."""
SEEDS = 3


@dataclass(frozen=True)
class Contender:
    """One way to choose what stays.

    Attributes:
        source: a criterion, a search, or run folders with `{seed}` in their name.
        group: `hand-made`, `search` or `learned`; `finished` is the default with its repair.
        seeds: how many probes, and trainings, it is repeated with.
        blocks: where else it takes part than in `selection`.
        repaired: the shapes (uniform or not) in which it is also measured with the default's repair.
        mixes: takes part in budgets of parameters only, and may take layers, too, as graph policies may.
        unlearned: as the policy was before it learned anything: what its statistics and rules are worth.
        varied: watches the network on varied text, whatever the policy would watch it on.
    """

    name: str
    source: str
    group: str = "hand-made"
    seeds: int = SEEDS
    blocks: tuple[str, ...] = ("selection", "small")
    repaired: tuple[bool, ...] = ()
    mixes: bool = False
    unlearned: bool = False
    varied: bool = False

    def asked(self, budget: Budget) -> Budget | None:
        """Return what it is asked for in the place of `budget`; None where it takes no part."""
        if not self.mixes:
            return budget
        kinds = ("ffn", "layers") if budget.uniform else ("ffn", "heads", "layers")
        return replace(budget, units=kinds) if budget.of == "params" else None


EVERYWHERE = ("selection", "small", "questions")
CONTENDERS = [
    Contender("random", "random", blocks=EVERYWHERE),
    Contender("magnitude", "magnitude", seeds=1),
    Contender("activation", "activation", blocks=EVERYWHERE, repaired=(True,)),
    Contender("taylor", "taylor"),
    Contender("fisher", "fisher", repaired=(False,)),
    Contender("fisher, layers too", "fisher", repaired=(True,), mixes=True),
    Contender("fisher x activation", "fisher_activation", blocks=EVERYWHERE, repaired=(True,)),
    Contender("fisher, varied text", "fisher", repaired=(False,), varied=True),
    Contender("fisher x activation, varied text", "fisher_activation", repaired=(True,), varied=True),
    Contender("greedy search", "greedy", "search"),
    Contender("quadratic search", "qubo", "search"),
    Contender("default", "default", "finished", blocks=("questions",)),
]


def learned(option: str) -> list[Contender]:
    """Read `--run NAME=FOLDERS`; row policies learn at equal widths only, and their repair isn't shown.

    Graph policies take part twice, for they start from more than any criterion.
    """
    name, _, folders = option.partition("=")
    shapes = () if "prunenet" in name.lower() else (True, False)
    found = [Contender(name, folders, "learned", blocks=EVERYWHERE, repaired=shapes)]
    if "graph" in name.lower():
        before = replace(found[0], name=f"{name}, unlearned", group="rule", unlearned=True)
        found.append(replace(before, blocks=("selection", "small"), repaired=(True,)))
    return found


@dataclass(frozen=True)
class Job:
    """One row to measure."""

    block: str
    contender: Contender
    budget: Budget
    seed: int
    model: str = "smollm2-135m"

    @property
    def place(self) -> Row:
        """The columns that tell the row apart."""
        return {
            "block": self.block, "model": self.model, "method": self.contender.name,
            "group": self.contender.group, "of": self.budget.of, "keep": self.budget.keep,
            "uniform": self.budget.uniform, "seed": self.seed,
        }  # fmt: skip


def jobs(contenders: list[Contender], models: list[str], multiple_of: int | None = None) -> Iterator[Job]:
    """Yield every row, the first seed of everything before the others.

    Args:
        multiple_of: for widths under budgets of parameters; without it the widest that come within 1 % of
            the budget are taken, so that methods which mix kinds of unit spend more of it than others.
    """
    budgets = [replace(b, multiple_of=multiple_of) if b.of == "params" else b for b in BUDGETS]
    for seed in range(SEEDS):
        here = [contender for contender in contenders if seed < contender.seeds]
        for budget in budgets:
            asked = [(c, c.asked(budget)) for c in here if "selection" in c.blocks]
            yield from (Job("selection", c, wanted, seed) for c, wanted in asked if wanted)
        for model in models:
            small = [budget for budget in budgets if budget.uniform]
            asked = [(c, c.asked(budget)) for budget in small for c in here if "small" in c.blocks]
            yield from (Job("small", c, wanted, seed, model) for c, wanted in asked if wanted)
        if not seed:
            yield from (Job("questions", c, ASKED, seed) for c in here if "questions" in c.blocks)
            asked = [(c, c.asked(b)) for b in budgets for c in here if b.uniform in c.repaired]
            yield from (Job("repaired", c, wanted, seed) for c, wanted in asked if wanted)
