"""The API's own field, for models that were trained with levels of effort, such as gpt-oss."""

from __future__ import annotations

from prunepolicy.policy.routing.controls.registry import BudgetControl, controls


@controls.register
class ReasoningEffort(BudgetControl):
    """Words; which of them a model knows is the server's to say."""

    path = ("reasoning_effort",)
    least = None
    words = ("none", "minimal", "low", "medium", "high", "xhigh")
