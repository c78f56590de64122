"""Plain OpenAI: the whole answer ends after so many tokens, for servers that know nothing else."""

from __future__ import annotations

from typing import Any

from prunepolicy.policy.routing.controls.registry import BudgetControl, Request, ThinkBudget, controls

NAMES = ("max_completion_tokens", "max_tokens")
"""Today's name of the limit, and the one that it had."""


@controls.register
class MaxTokens(BudgetControl):
    """A limit that a client sets is never raised, and doesn't keep the router from lowering it."""

    path = ("max_tokens",)
    least = 1

    def is_set(self, request: Request) -> bool:
        """Return False: a client's limit is an upper one."""
        return False

    def put(self, request: Request, budget: ThinkBudget) -> dict[str, Any]:
        """Return a request that is limited by the budget and by what the client said."""
        given = {name: request[name] for name in NAMES if request.get(name) is not None}
        return {
            **request,
            **{name: min(limit, budget) for name, limit in (given or {"max_tokens": budget}).items()},
        }
