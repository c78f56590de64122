"""What every verifier must hold: ways to be paid without the right answer."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from prunepolicy.envs.thinking.responses import read_response
from prunepolicy.envs.thinking.verifiers import Question, Verdict, Verifier, verifiers

RIGHT, WRONG = Verdict(True), Verdict(False)
_made: dict[str, Verifier] = {}


def verifier(name: str) -> Verifier:
    """One of each is enough: some start a process."""
    return _made.setdefault(name, verifiers[name]())


@pytest.fixture(scope="module", autouse=True)
def _processes_end() -> Iterator[None]:
    yield
    _made.clear()


def verdict(name: str, text: str) -> Verdict:
    question, _ = verifiers[name].example()
    return verifier(name).verify([read_response(text)], [question])[0]


@pytest.mark.parametrize("name", verifiers)
def test_the_right_answer_is_accepted_where_it_belongs(name: str) -> None:
    _, right = verifiers[name].example()
    assert verdict(name, f"<think>hm</think><answer>{right}</answer>") == RIGHT
    assert verdict(name, f"...\n</think>\n\nSo it is\n<answer> {right}\n</answer>") == RIGHT
    assert verdict(name, f"</think><answer>nothing</answer> <answer>{right}</answer>") == RIGHT


@pytest.mark.parametrize("name", verifiers)
def test_what_was_not_answered_is_wrong(name: str) -> None:
    _, right = verifiers[name].example()
    for text in (
        "",
        f"{right}",
        f"<think>{right}</think>",
        f"<think><answer>{right}</answer>",
        f"<think><answer>{right}</answer></think>",
        f"<think>hm</think>{right}",
        f"<think>hm</think><answer>{right}",
        "<think>hm</think><answer></answer>",
        "<think>hm</think><answer> \n </answer>",
        f"<think>hm</think><answer>?</answer></think><answer>{right}</answer>",
        f"<think>hm</think><answer>{right}</answer><answer>?</answer>",
    ):
        assert verdict(name, text) == WRONG, text


@pytest.mark.parametrize("name", verifiers)
def test_many_answers_are_no_answer(name: str) -> None:
    _, right = verifiers[name].example()
    others = [str(number) for number in range(1, 30)]
    for answer in (
        ", ".join([*others, right]),
        " ".join([right, *others]),
        f"{right} or 99",
        f"{right}\n99",
        f"99 = {right}",
        f"{right}, {right}, 98",
        f"It is {right}, I am sure of that",
        f"[{right}, 99]",
        f"{right}}} \\boxed{{99",
        f"99}} \\boxed{{{right}",
        f"99$ ${right}",
        f"{right}; import os; os._exit(0)",
    ):
        assert verdict(name, f"</think><answer>{answer}</answer>") == WRONG, answer


@pytest.mark.parametrize("name", verifiers)
def test_very_long_answers_are_wrong_at_once(name: str) -> None:
    _, right = verifiers[name].example()
    for answer in (
        f"{right} " * 5000,
        right + " " * 5000 + "x",
        "9" * 100_000,
        "(" * 900 + ")" * 900,
        "9" * 999,
    ):
        assert verdict(name, f"</think><answer>{answer}</answer>") == WRONG


@pytest.mark.parametrize("name", verifiers)
def test_failing_checks_are_counted_and_pay_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    question, right = verifiers[name].example()
    fails = verifiers[name]()

    def check(answer: str, question: Question) -> bool:
        raise ZeroDivisionError("no way")

    monkeypatch.setattr(fails, "check", check)
    responses = [read_response(f"</think><answer>{right}</answer>")] * 3
    verdicts = fails.verify(responses, [question] * 3)
    assert [each.correct for each in verdicts] == [False] * 3
    assert verdicts[0].error == "ZeroDivisionError: no way"
    assert fails.errors == 3
