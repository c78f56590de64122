"""The registry of budget controls: where in a request a kind of server expects the budget of thought."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, TypeAlias

from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.registry import Registry

ThinkBudget: TypeAlias = int | str
"""Tokens of thought, or a word such as `low`."""
Request = Mapping[str, Any]
"""The body of a request to `/chat/completions`."""


class BudgetControl:
    """Puts budgets into requests.

    Attributes:
        path: keys that lead to the budget's place in a request.
        least: smallest budget in tokens; None where budgets are words alone.
        words: budgets that are words.
    """

    path: ClassVar[tuple[str, ...]]
    least: ClassVar[int | None] = 0
    words: ClassVar[tuple[str, ...]] = ()

    def check(self, budget: ThinkBudget) -> None:
        """Raise `UsageError` for a budget that no request could carry."""
        number = isinstance(budget, int) and self.least is not None and budget >= self.least
        if not number and budget not in self.words:
            known = [f"numbers of tokens from {self.least}"] if self.least is not None else []
            known += [", ".join(self.words)] if self.words else []
            raise UsageError(f"{'.'.join(self.path)} takes {' or '.join(known)}; got {budget!r:.80}.")

    def is_set(self, request: Request) -> bool:
        """Return whether a request says itself how much to think."""
        inside: Any = request
        for key in self.path:
            if not isinstance(inside, Mapping) or inside.get(key) is None:
                return False
            inside = inside[key]
        return True

    def put(self, request: Request, budget: ThinkBudget) -> dict[str, Any]:
        """Return a request with a budget; every other field stays.

        Raises:
            TypeError: when something else stands where the budget's object should.
        """
        return placed(request, self.path, budget)


def placed(request: Request, path: tuple[str, ...], value: Any) -> dict[str, Any]:
    """Return a copy of nested objects with a value at the end of `path`."""
    first, *rest = path
    return {**request, first: placed(request.get(first) or {}, tuple(rest), value) if rest else value}


controls: Registry[type[BudgetControl]] = Registry("budget control", "prunepolicy.policy.routing.controls")


def checked_budgets(control: str, budgets: Iterable[ThinkBudget]) -> tuple[ThinkBudget, ...]:
    """Return the budgets between which a router may choose.

    Raises:
        UsageError: for an unknown control, budgets that it doesn't know, and fewer than two different ones.
    """
    found, known = tuple(budgets), controls[control]()
    for budget in found:
        known.check(budget)
    if len(found) < 2 or len(set(found)) < len(found):
        raise UsageError(f"Between at least two different budgets there is something to choose; got {found}.")
    return found
