"""vLLM's field, which Dynamo and others share: thinking ends after so many tokens."""

from __future__ import annotations

from prunepolicy.policy.routing.controls.registry import BudgetControl, controls


@controls.register
class ThinkingTokenBudget(BudgetControl):
    """Needs a server with a reasoning parser."""

    path = ("thinking_token_budget",)
