"""The switch in the chat template of hybrid models such as Qwen3, with a budget where templates know it."""

from __future__ import annotations

from typing import Any

from prunepolicy.policy.routing.controls.registry import (
    BudgetControl,
    Request,
    ThinkBudget,
    controls,
    placed,
)

TEMPLATE = "chat_template_kwargs"


@controls.register
class EnableThinking(BudgetControl):
    """0 and `off` switch thinking off; a number of tokens is a hint, which templates without it ignore."""

    path = (TEMPLATE, "enable_thinking")
    words = ("off", "on")

    def put(self, request: Request, budget: ThinkBudget) -> dict[str, Any]:
        """Return a request with the switch, and the budget in tokens if it is one."""
        switched = super().put(request, budget not in (0, "off"))
        hinted = isinstance(budget, int) and budget > 0
        return placed(switched, (TEMPLATE, "thinking_budget"), budget) if hinted else switched
