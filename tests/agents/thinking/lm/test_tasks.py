from __future__ import annotations

from random import Random

import pytest

from prunepolicy.agents.thinking.lm.demonstrations import DemonstrationRecipe, Demonstrator
from prunepolicy.agents.thinking.lm.problem_set import ProblemSet, ProblemsRecipe, TaskRecipe
from prunepolicy.agents.thinking.lm.prompting import Prompting
from prunepolicy.agents.thinking.lm.rollout_batch import AnswerVerifier, Group
from prunepolicy.agents.thinking.lm.tasks import tasks
from prunepolicy.agents.thinking.lm.tokens import reasoning_tokenizer
from prunepolicy.envs.thinking.rollouts import Mode
from prunepolicy.pruning.errors import UsageError


@pytest.mark.parametrize("name", tasks)
def test_problems_repeat_with_their_seed_and_have_the_difficulty_asked_for(name: str) -> None:
    level = tasks[name].levels[-1]
    first, again = (tasks[name].make(Random(3), level) for _ in range(2))
    assert first == again
    assert first.task == name
    assert first.difficulty == level
    assert first.steps
    assert len({tasks[name].make(Random(seed), level).question for seed in range(20)}) > 10


@pytest.mark.parametrize("name", tasks)
def test_every_demonstration_is_accepted_by_the_tasks_own_verifier(name: str) -> None:
    verifier = AnswerVerifier(Prompting(reasoning_tokenizer()))
    generator, level = Random(0), tasks[name].levels[0]
    problems = [tasks[name].make(generator, level) for _ in range(4)]
    for share, mode in ((1.0, Mode.THINK), (0.0, Mode.ANSWER)):
        demonstrator = Demonstrator(verifier.prompting, DemonstrationRecipe(think=share))
        rows = [completion for _, completion in demonstrator.batch(iter(problems), 4, generator)]
        table, errors, leaked = verifier.verified([Group(problem, 0) for problem in problems], rows)
        assert table.correct.all()
        assert not errors
        assert not leaked
        assert (table.mode == mode).all()


def test_steps_of_the_own_tasks_follow_from_one_another() -> None:
    generator = Random(0)
    chain = tasks["modular_chain"].make(generator, 4)
    total = int(chain.steps[0][0])
    for step in chain.steps:
        before, digit, after = int(step[0]), int(step[2]), int(step[4])
        assert before == total
        assert after == (before + digit) % 5
        total = after
    assert str(total) == chain.answer
    bits = tasks["parity"].make(generator, 7)
    assert bits.steps[-1].endswith(bits.answer)
    added = tasks["addition"].make(generator, 3)
    digits = "".join(reversed([step.split("=")[1].split(" ")[0] for step in added.steps]))
    carry = added.steps[-1].split(" ")[-1]
    assert int(carry + digits) == int(added.answer)


def test_learned_and_held_out_problems_share_no_text() -> None:
    recipe = ProblemsRecipe(
        tasks=(TaskRecipe(task="modular_chain", levels=(1, 2)), TaskRecipe(task="chain_sum", levels=(2, 3))),
        train=150,
        held_out=40,
    )
    problems, others = ProblemSet.draw(recipe, 1), ProblemSet.draw(recipe, 2)
    texts = [{p.question for p in part} for part in (problems.train, problems.validation, problems.test)]
    assert not texts[0] & (texts[1] | texts[2])
    assert len(texts[1] | texts[2]) == len(problems.validation) + len(problems.test)
    assert problems.test == others.test
    assert problems.train != others.train
    fresh = problems.fresh(Random(0))
    assert not {next(fresh).question for _ in range(200)} & (texts[1] | texts[2])


def test_easy_problems_keep_their_share_where_there_are_few_texts_of_them() -> None:
    easy = TaskRecipe(task="modular_chain", levels=(1, 1), weight=3)
    recipe = ProblemsRecipe(
        tasks=(easy, TaskRecipe(task="modular_chain", levels=(2, 4))), train=600, held_out=60
    )
    problems = ProblemSet.draw(recipe, 0)
    for part in (problems.train, problems.validation, problems.test):
        assert sum(problem.difficulty == 1 for problem in part) == len(part) / 2
    drawn = problems.fresh(Random(0))
    assert sum(next(drawn).difficulty == 1 for _ in range(400)) == pytest.approx(200, abs=40)


def test_a_level_with_few_problems_gives_fewer_and_unknown_levels_are_refused() -> None:
    few = ProblemsRecipe(tasks=(TaskRecipe(task="parity", levels=(2, 2)),), train=50, held_out=2)
    assert len(ProblemSet.draw(few, 0).train) == 0
    with pytest.raises(UsageError, match="parity has the difficulties 2 to 24; got 1 to 3"):
        TaskRecipe(task="parity", levels=(1, 3)).range()


def test_the_coin_that_chooses_the_mode_does_not_see_the_difficulty() -> None:
    demonstrator = Demonstrator(Prompting(reasoning_tokenizer()))
    generator, shares = Random(0), []
    for level in (1, 8):
        problems = [tasks["modular_chain"].make(generator, level) for _ in range(200)]
        texts = [demonstrator.completion(problem, generator) for problem in problems]
        shares.append(sum(not text.startswith("</think>") for text in texts) / len(texts))
    assert shares[0] == pytest.approx(0.5, abs=0.12)
    assert shares[1] == pytest.approx(0.5, abs=0.12)
