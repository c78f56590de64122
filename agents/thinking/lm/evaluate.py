"""Evaluate when a model thinks: the work behind `prunepolicy eval RUN --think`."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.table import Table

from prunepolicy.agents.thinking.lm.engines import engines
from prunepolicy.agents.thinking.lm.plots import plot_think
from prunepolicy.agents.thinking.lm.policy_model import PolicyModel
from prunepolicy.agents.thinking.lm.problem_set import ProblemSet, ProblemsRecipe, TaskRecipe
from prunepolicy.agents.thinking.lm.recipe import ThinkRecipe
from prunepolicy.agents.thinking.lm.rollout_batch import RolloutWorker
from prunepolicy.agents.thinking.lm.tasks import Problem
from prunepolicy.agents.thinking.lm.think_eval import Think, ThinkEval, ThinkEvaluator
from prunepolicy.agents.training.recipe_file import load_recipe
from prunepolicy.agents.training.run_folder import BEST, RECIPE
from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.io.atomic import write_text
from prunepolicy.pruning.io.console import Console
from prunepolicy.pruning.session.opened_model import Hardware

REPORT, PICTURE = "think_eval.json", "think_eval.png"
PROBLEMS = 160
MODES: dict[str, Think] = {"auto": "auto", "always": "always", "never": "never"}


@dataclass(frozen=True)
class ThinkEvalRequest:
    """What to evaluate.

    Attributes:
        think: `auto` lets the model decide whether to think, `always` and `never` force it.
        tasks: names of tasks, each with `:LOW-HIGH` for its difficulties; none takes the run's own.
        limit: problems at most; None takes all held-out ones.
        samples: answers per problem.
        max_tokens: of a completion; None takes the run's.
    """

    think: str = "auto"
    tasks: tuple[str, ...] = ()
    limit: int | None = None
    samples: int = 1
    max_tokens: int | None = None

    def check(self) -> None:
        """Raise `UsageError` for an unknown mode, a task that there isn't, or a senseless limit."""
        if self.limit is not None and self.limit < 1:
            raise UsageError(f"--limit must be at least 1; got {self.limit}.")
        for task in self.tasks:
            _task(task).range()
        self.mode  # noqa: B018  # It checks itself.

    @property
    def mode(self) -> Think:
        """The checked mode."""
        if self.think not in MODES:
            raise UsageError(f"--think takes {', '.join(MODES)}; got {self.think!r}.")
        return MODES[self.think]


@dataclass(frozen=True)
class ThinkEvalReport:
    """The result for one model.

    Attributes:
        settings: everything that the numbers depend on.
    """

    model: str
    think: str
    result: ThinkEval
    settings: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return the report as JSON text."""
        return json.dumps(asdict(self), indent=1, sort_keys=True) + "\n"

    def save(self, out: Path | None) -> Path | None:
        """Write numbers and picture into a folder, by default one inside the run; nowhere without either.

        Returns:
            The folder.
        """
        if out is None and not (Path(self.model) / RECIPE).is_file():
            return None
        folder = out or Path(self.model) / f"eval-{self.think}"
        write_text(folder / REPORT, self.to_json())
        plot_think({f"think {self.think}": self.result}, folder / PICTURE)
        return folder

    def render(self, console: Console) -> None:
        """Print a row per difficulty."""
        grid = Table(title=f"{self.model}, thinking: {self.think}")
        for heading in ("difficulty", "answers", "accuracy", "tokens", "thinks"):
            grid.add_column(heading, justify="right")
        for one in self.result.bins:
            shares = (f"{one.accuracy:.1%}", f"{one.tokens:.1f}", f"{one.think:.0%}")
            grid.add_row(str(one.difficulty), str(one.answers), *shares)
        whole, count = self.result, sum(one.answers for one in self.result.bins)
        shares = (f"{whole.accuracy:.1%}", f"{whole.tokens:.1f}", f"{whole.think:.0%}")
        grid.add_row("all", str(count), *shares, style="bold")
        console.print(grid)
        listing = ", ".join(f"{name} {value}" for name, value in self.settings.items())
        console.print(listing, style="dim")


def evaluate_thinking(model: str, request: ThinkEvalRequest, hardware: Hardware) -> ThinkEvalReport:
    """Evaluate a model on held-out problems; of a run, its best model.

    Args:
        model: a run, a folder with a model, or a hub id. A run has its own tasks by default.

    Raises:
        UsageError: when a model that is no run comes without tasks.
    """
    request.check()
    mode, recipe = request.mode, recipe_of(model)
    folder = str(Path(model) / BEST) if recipe else model
    if recipe is None:
        if not request.tasks:
            raise UsageError("Name the tasks: --tasks modular_chain, or --tasks addition:1-4,parity.")
        recipe = ThinkRecipe(algorithm="grpo", problems=problems_of(request), stages=_NO_STAGES)
    chosen, how = problems_of(request) if request.tasks else recipe.problems, recipe.reinforcement
    problems = evaluation_problems(chosen, request.limit)
    policy_model = PolicyModel.named(folder, recipe.prompt, hardware)
    rollout_worker = RolloutWorker(
        engines[how.generator].open(policy_model.model), policy_model.prompting, how.chunk
    )
    longest = request.max_tokens or max(how.max_tokens)
    sampling = policy_model.sampling(longest, recipe.evaluation.temperature)
    result = ThinkEvaluator(problems, request.samples).evaluate(rollout_worker, sampling, mode)
    settings: dict[str, Any] = {
        "problems": len(problems),
        "samples": request.samples,
        "max_tokens": sampling.max_tokens,
    }
    settings |= {"temperature": sampling.temperature, "tasks": str(chosen)}
    return ThinkEvalReport(model, request.think, result, {**settings, **hardware.described()})


_NO_STAGES: tuple[dict[str, Any], ...] = ({"name": "none", "terms": [{"name": "naive"}]},)


def recipe_of(model: str) -> ThinkRecipe | None:
    """Return the recipe of a run of this kind; None where `model` is no such run."""
    file = Path(model) / RECIPE
    if not file.is_file() or not (Path(model) / BEST).is_dir():
        return None
    recipe = load_recipe(file)
    if not isinstance(recipe, ThinkRecipe):
        raise UsageError(f"{model} learned no model that thinks; --think is for runs of configs/think.")
    return recipe


def evaluation_problems(recipe: ProblemsRecipe, limit: int | None) -> tuple[Problem, ...]:
    """Return the first test problems of a recipe, `limit` at most.

    All are drawn whatever the limit: a smaller draw holds others, the run's validation problems among them.
    """
    return ProblemSet.draw(recipe.model_copy(update={"train": 1}), 0).test[:limit]


def problems_of(request: ThinkEvalRequest) -> ProblemsRecipe:
    """Return the problems that a request names."""
    tasks = tuple(_task(word) for word in request.tasks)
    return ProblemsRecipe(tasks=tasks, train=1, held_out=request.limit or PROBLEMS)


def _task(word: str) -> TaskRecipe:
    name, sign, levels = word.partition(":")
    low, dash, high = levels.partition("-")
    if not sign:
        return TaskRecipe(task=name)
    if not low.isdigit() or (dash and not high.isdigit()):
        raise UsageError(f"--tasks takes NAME or NAME:LOW-HIGH, such as addition:1-4; got {word!r}.")
    return TaskRecipe(task=name, levels=(int(low), int(high or low)))
