"""Problems from files: read whole, or refused with the line that is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from prunepolicy.agents.thinking.lm.evaluate import evaluation_problems
from prunepolicy.agents.thinking.lm.problem_file import Columns, read_problems
from prunepolicy.agents.thinking.lm.problem_set import ProblemSet, ProblemsRecipe
from prunepolicy.agents.thinking.lm.prompting import Prompting, PromptRecipe
from prunepolicy.agents.thinking.lm.recipe import ThinkRecipe
from prunepolicy.agents.thinking.lm.rollout_batch import AnswerVerifier, Group
from prunepolicy.agents.thinking.lm.tokens import reasoning_tokenizer
from prunepolicy.pruning.errors import UsageError

Make = Callable[..., ThinkRecipe]


def written(file: Path, rows: list[dict[str, Any]]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n\n" for row in rows))
    return file


def sums(count: int, start: int = 0) -> list[dict[str, Any]]:
    return [
        {"problem": f"What is {n} + 1?", "solution": n + 1, "level": n % 3}
        for n in range(start, start + count)
    ]


COLUMNS = {"question": "problem", "answer": "solution", "difficulty": "level"}


def test_a_files_problems_are_split_and_never_trained_on_where_they_are_held_out(tmp_path: Path) -> None:
    file = written(tmp_path / "train.jsonl", [*sums(20), *sums(20)])
    recipe = ProblemsRecipe(file=file, held_out=4, train=10, **COLUMNS)
    drawn, other = ProblemSet.draw(recipe, 0), ProblemSet.draw(recipe, 1)
    assert [len(part) for part in (drawn.train, drawn.validation, drawn.test)] == [10, 4, 4]
    texts = [{one.question for one in part} for part in (drawn.train, drawn.validation, drawn.test)]
    assert not texts[0] & texts[1] | texts[0] & texts[2] | texts[1] & texts[2]
    assert (drawn.test, drawn.validation) == (other.test, other.validation)
    assert drawn.train != other.train
    assert {one.difficulty for one in drawn.train} == {0, 1, 2}
    apart = written(tmp_path / "held_out.jsonl", sums(5, 15))
    drawn = ProblemSet.draw(recipe.model_copy(update={"held_out_file": apart, "train": 99}), 0)
    assert [len(part) for part in (drawn.train, drawn.validation, drawn.test)] == [15, 3, 2]
    assert evaluation_problems(drawn.recipe, 1) == drawn.test[:1]


def test_answers_to_a_files_problems_are_checked_by_the_verifier_named(tmp_path: Path) -> None:
    problem = read_problems(written(tmp_path / "a.jsonl", sums(1, 17)), Columns(**COLUMNS))[0]
    tokenizer = reasoning_tokenizer()
    verifier = AnswerVerifier(Prompting(tokenizer, PromptRecipe(answer="boxed")))
    texts = ("</think>\\boxed{18.0}", "</think>\\boxed{19}")
    rows = [[*tokenizer(text)["input_ids"], tokenizer.eos_token_id] for text in texts]
    rows.append(tokenizer("so 17 + 1 is")["input_ids"])
    table = verifier.verified([Group(problem, 0)] * 3, rows).table
    assert table.correct.tolist() == [True, False, False]
    assert table.unfinished.tolist() == [False, False, True]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "holds no problems"),
        (b"\xff", "Can't read the problems in"),
        (b'{"question": "a", "answer": "b"}\n{"question": ', "line 2 is no JSON"),
        (b"[1]", "line 1 must be a JSON object"),
        (b'{"question": "a", "solution": 1}', "line 1 has no text under 'answer'; it has question, solution"),
        (b'{"question": "a", "answer": true}', "no text under 'answer'"),
        (b'{"question": " ", "answer": 1}', "no text under 'question'"),
        (b'{"question": "a", "answer": 1}', "1 problems; 1 are held out and 0 are left to train on"),
    ],
)
def test_a_file_that_is_wrong_gets_one_sentence(content: bytes, sentence: str, tmp_path: Path) -> None:
    file = tmp_path / "train.jsonl"
    file.write_bytes(content)
    with pytest.raises(UsageError) as refused:
        ProblemSet.draw(ProblemsRecipe(file=file), 0)
    assert sentence in str(refused.value)


def test_recipes_name_one_source_and_do_not_imitate_answers_alone(recipe: Make, tmp_path: Path) -> None:
    for problems, sentence in (
        ({}, "either tasks or a file"),
        ({"file": "a", "tasks": [{"task": "parity"}]}, "either tasks or a file"),
        ({"held_out_file": "a", "tasks": [{"task": "parity"}]}, "goes with problems.file"),
        ({"file": "a"}, "without steps to imitate"),
    ):
        with pytest.raises(ValidationError, match=sentence):
            recipe(problems=problems)
    with pytest.raises(UsageError, match="Unknown verifier"):
        ProblemsRecipe(file=tmp_path, verifier="maths").check()
    assert recipe(problems={"file": "a"}, warm_up={}).inputs == ("a",)
