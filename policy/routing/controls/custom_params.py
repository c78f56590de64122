"""SGLang with strict thinking: thinking ends after so many tokens."""

from __future__ import annotations

from prunepolicy.policy.routing.controls.registry import BudgetControl, controls


@controls.register
class CustomParams(BudgetControl):
    """Needs a server with `--enable-strict-thinking` and a reasoning parser."""

    path = ("custom_params", "thinking_budget")
