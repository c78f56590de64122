from __future__ import annotations

from typing import Any

import pytest

from prunepolicy.envs.thinking.isolated import Isolated, IsolatedError
from prunepolicy.envs.thinking.responses import degenerate, read_response
from prunepolicy.envs.thinking.verifiers import Question, Verifier, verifiers
from prunepolicy.pruning.errors import PrunePolicyError, UsageError


def accepted(verifier: Verifier, answer: str, right: str, **more: Any) -> bool:
    response = read_response(f"</think><answer>{answer}</answer>")
    return verifier.verify([response], [Question("", right, **more)])[0].correct


def test_integers_are_numbers_and_text_is_words() -> None:
    integer, exact = verifiers["integer"](), verifiers["exact"]()
    assert accepted(integer, "+042", "42")
    assert accepted(integer, "-0", "0")
    for answer in ("42.0", "4 2", "42!", "٤٢", "0x2a", "4_2", "1e3"):
        assert not accepted(integer, answer, "42")
    assert not accepted(integer, "42", "forty-two")
    assert integer.errors == 1
    assert accepted(exact, "Zoey is a Knight", "zoey is  a knight")
    assert not accepted(exact, "zoey is a knight.", "zoey is a knight")


def test_expressions_use_the_numbers_and_reach_the_target() -> None:
    expression = verifiers["expression"]()
    puzzle = {"metadata": {"numbers": [4, 4, 10, 10], "target": 24}}
    assert accepted(expression, "(10*10-4)/4", "", **puzzle)
    for answer in ("4*4+10-2", "24", "(10*10-4)/4+0", "10*10-4/4", "10//4", "10**4", "4/(4-4)+10+10", "((10"):
        assert not accepted(expression, answer, "", **puzzle)
    assert accepted(expression, "3/(1-3/4)*2", "", metadata={"numbers": [1, 2, 3, 3, 4]})
    assert accepted(expression, "8/(3-8/3)", "", metadata={"numbers": [3, 3, 8, 8]})
    assert expression.errors == 0
    assert not accepted(expression, "24", "")
    assert expression.errors == 1  # the question has no numbers


def test_reasoning_gym_pays_no_part() -> None:
    verifier = verifiers["reasoning_gym"]()
    knights = {"task": "knights_knaves", "metadata": {}}
    right = "Zoey is a knight, and Riley is a knave"
    assert accepted(verifier, "Riley is a knave, and Zoey is a knight", right, **knights)
    assert not accepted(verifier, "Riley is a knight, and Zoey is a knight", right, **knights)
    assert not accepted(verifier, "the sum is 7 I think", "7", task="chain_sum")
    assert verifier.errors == 0
    assert not accepted(verifier, "7", "7", task="no_such_task")
    assert verifier.errors == 1
    for task in ("countdown", "n_queens"):
        with pytest.raises(UsageError, match="runs answers as code"):
            accepted(verifier, "1", "1", task=task)


def test_math_verify_compares_expressions_and_survives_what_never_ends() -> None:
    verifier = verifiers["math_verify"](deadline=3)
    half = "\\frac{1}{2}"
    for answer in ("0.5", "\\dfrac12", "x = \\frac{2}{4}", "50\\%"):
        assert accepted(verifier, answer, half)
    for answer in ("0.1 = 0.5", "1 = 2 = 0.5", "0.5, 1", "\\{0.5, 1\\}", "x < 0.5", "x = 1 = 0.5", "0.51"):
        assert not accepted(verifier, answer, half)
    assert verifier.errors == 0
    assert not accepted(verifier, "10^{10^{10^{10}}}", half)
    assert verifier.errors == 1
    assert accepted(verifier, "0.5", half)


BOXED = (
    ("18", "18", True),
    ("18", "18.0", True),
    ("18", "18.", True),
    ("18", r"\$18", True),
    ("18", r"\$18.00", True),
    (r"\$18", "18", True),
    ("1800", "1{,}800", True),
    ("1800", "1,800", True),
    ("1800", r"\$1,800", True),
    ("18", r"18 \text{ dollars}", True),
    ("18", r"18\text{ dollars per day}", True),
    ("12", r"12 \, \text{hours}", True),
    ("3", r"3 \text{ cm}^2", True),
    ("45", r"45^\circ", True),
    ("18", r"\text{18}", True),
    ("18", r"\mathbf{18}", True),
    ("18", "x=18", True),
    ("18", "x = 18", True),
    ("18", r"18\%", True),
    ("0.5", r"\frac{1}{2}", True),
    (r"\frac{1}{2}", "0.5", True),
    (r"\frac{1}{2}", r"\dfrac{1}{2}", True),
    (r"\frac{3}{4}", r"\frac34", True),
    (r"\frac{1}{2}", "1/2", True),
    (r"\sqrt{2}", "2^{1/2}", True),
    (r"2\sqrt{3}", r"\sqrt{12}", True),
    ("x^2+1", "1+x^2", True),
    (r"\{1,2\}", r"\{2,1\}", True),
    (r"\text{Tuesday}", r"\text{Tuesday}", True),
    ("-7", "7", False),
    ("18", "81", False),
    ("18", "18.5", False),
    ("18", r"\$19", False),
    ("1800", "180", False),
    ("1800", "18{,}000", False),
    ("18", "x=19", False),
    ("18", "18 = 19", False),
    ("18", "17, 18, 19", False),
    ("18", "17 or 18", False),
    ("18", r"\text{dollars}", False),
    (r"\sqrt{2}", "1.41", False),
    ("x^2+1", "x^2-1", False),
    ("(1,2)", "(2, 1)", False),
    ("[0,1)", "(0, 1)", False),
    (r"\text{Tuesday}", r"\text{Monday}", False),
)


def test_boxed_answers_of_reasoning_models_are_read_as_people_read_them() -> None:
    verifier, wrongly = verifiers["math_verify"](), []
    for right, box, is_right in BOXED:
        response = read_response(f"thought</think>\n\nThe answer is $\\boxed{{{box}}}$.", "boxed")
        if verifier.verify([response], [Question("", right)])[0].correct != is_right:
            wrongly.append((right, box))
    assert not wrongly
    assert verifier.errors == 0


def test_a_process_is_replaced_and_errors_come_back() -> None:
    compare = Isolated("prunepolicy.envs.thinking.verifiers.math_verify:compare", 5)
    with pytest.raises(IsolatedError, match="TypeError"):
        compare("only one")
    assert compare("1", "1") is True
    compare._process.kill()
    compare._process.wait()
    assert compare("1", "2") is False
    compare.close()
    with pytest.raises(PrunePolicyError, match=r"No module named 'prunepolicy\.nowhere'"):
        Isolated("prunepolicy.nowhere:check", 5)("1", "1")


def test_boxed_answers_are_read_where_they_were_said() -> None:
    assert read_response("a</think>\\boxed{\\frac{1}{2}}", "boxed").answer == "\\frac{1}{2}"
    assert read_response("\\boxed{3}</think>so", "boxed").answer is None
    assert read_response("</think>\\boxed{1} then \\boxed{2}", "boxed").answer == "2"
    assert read_response("</think>\\boxed{1", "boxed").answer is None


def test_reasoning_after_its_place_is_seen() -> None:
    response = read_response("<think>\n...\n</think>\n\nLet me see: 4 and 3 <answer>7</answer> is it")
    assert (response.thought, response.answer, response.rest) == ("...", "7", 8)
    assert response.well_formed
    assert not read_response("<think>going on and on").well_formed


def test_text_that_goes_round_in_circles_is_degenerate() -> None:
    assert degenerate("so " * 10)
    assert degenerate("well " + "I mean that " * 10)
    assert not degenerate("I mean that " * 9)
    assert degenerate("x" * 120)
    assert not degenerate(" ".join(map(str, range(1000))))
    assert not degenerate("")
