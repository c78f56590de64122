"""What every way to put a budget into a request must hold."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from prunepolicy.policy.routing.controls.registry import ThinkBudget, checked_budgets, controls
from prunepolicy.pruning.errors import UsageError

REQUEST = {
    "model": "m", "messages": [{"role": "user", "content": "2 + 2"}], "stream": True,
    "chat_template_kwargs": {"other": 1}, "custom_params": {"other": 2}, "unknown": {"deep": [None]},
}  # fmt: skip


def budgets_of(name: str) -> list[ThinkBudget]:
    control = controls[name]()
    return [*control.words, *([] if control.least is None else [control.least, 512])]


def without(request: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    """The request without anything below the first key of a control's path, and without its limits."""
    return {key: value for key, value in request.items() if key not in (path[0], "max_completion_tokens")}


@pytest.mark.parametrize("name", controls)
def test_budgets_differ_and_nothing_else_changes(name: str) -> None:
    control, before = controls[name](), copy.deepcopy(REQUEST)
    put = {budget: control.put(REQUEST, budget) for budget in budgets_of(name)}
    assert before == REQUEST
    assert len({json.dumps(request) for request in put.values()}) >= 2
    for request in put.values():
        assert without(request, control.path) == without(REQUEST, control.path)
        kept = REQUEST.get(control.path[0])
        assert not isinstance(kept, dict) or kept.items() <= request[control.path[0]].items()


@pytest.mark.parametrize("name", controls)
def test_a_budget_that_is_there_is_seen(name: str) -> None:
    control = controls[name]()
    assert not control.is_set(REQUEST)
    for budget in budgets_of(name):
        assert control.is_set(control.put(REQUEST, budget)) == (name != "max_tokens")
    assert not control.is_set({control.path[0]: None})


@pytest.mark.parametrize("name", controls)
def test_budgets_that_no_request_could_carry_are_refused(name: str) -> None:
    control = controls[name]()
    for budget in (-1, "nonsense", "", "512"):
        with pytest.raises(UsageError, match=control.path[0]):
            control.check(budget)
    for same in (budgets_of(name)[:1], budgets_of(name)[:1] * 2):
        with pytest.raises(UsageError, match="at least two different"):
            checked_budgets(name, same)


@pytest.mark.parametrize(
    ("name", "budget", "request_", "expected"),
    [
        ("thinking_token_budget", 9, {}, {"thinking_token_budget": 9}),
        ("thinking_budget_tokens", 9, {}, {"thinking_budget_tokens": 9}),
        ("custom_params", 9, {"custom_params": {"a": 1}}, {"custom_params": {"a": 1, "thinking_budget": 9}}),
        ("reasoning_effort", "low", {}, {"reasoning_effort": "low"}),
        ("enable_thinking", 0, {}, {"chat_template_kwargs": {"enable_thinking": False}}),
        ("enable_thinking", "on", {}, {"chat_template_kwargs": {"enable_thinking": True}}),
        ("enable_thinking", 9, {}, {"chat_template_kwargs": {"enable_thinking": True, "thinking_budget": 9}}),
        ("max_tokens", 9, {}, {"max_tokens": 9}),
        ("max_tokens", 9, {"max_tokens": 4}, {"max_tokens": 4}),
        ("max_tokens", 9, {"max_completion_tokens": 40}, {"max_completion_tokens": 9}),
    ],
)
def test_servers_find_it_where_they_look(
    name: str, budget: ThinkBudget, request_: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert controls[name]().put(request_, budget) == expected
