"""The field of llama.cpp's server: thinking ends after so many tokens."""

from __future__ import annotations

from prunepolicy.policy.routing.controls.registry import BudgetControl, controls


@controls.register
class ThinkingBudgetTokens(BudgetControl):
    """Needs a server without a budget of its own (`--reasoning-budget`)."""

    path = ("thinking_budget_tokens",)
