"""When to think, learned by a model of 1 M parameters: AutoThink's stages against what else there is.

Every seed gets a start of its own, made from nothing by imitation; all methods learn from it, with the same
number of steps and rollouts, and what they are after the last step counts: no step is chosen. Rows are
written one by one, the most telling ones first: a run that was stopped continues.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean

import torch
from reasoning_methods import LONG_START, LONGER, METHODS, MIXTURES, STEPS, TEACHING, Method
from reasoning_speed import speed
from rich.console import Console
from scoring import Results, Row

from prunepolicy.agents.thinking.lm.experiment import START
from prunepolicy.agents.thinking.lm.recipe import ThinkRecipe
from prunepolicy.agents.thinking.lm.think_report import ThinkReport
from prunepolicy.agents.training.recipe_file import load_recipe
from prunepolicy.agents.training.run_folder import METRICS
from prunepolicy.agents.training.run_report import REPORT
from prunepolicy.agents.training.train import train
from prunepolicy.commands.prune.job import PruneSettings
from prunepolicy.commands.prune.prune import prune
from prunepolicy.pruning.io.machine import device_name, versions
from prunepolicy.pruning.io.progress import ProgressReporter
from prunepolicy.pruning.plan import Budget

RECIPES = Path("configs/think")
SEEDS = (0, 1, 2)
PARTS = ("methods", "longer", "speed", "pruned", "mixtures")
CONTROLS = ("shuffled", "naive")
LAST_STEP = "evaluation.every=100000"
KEEP = 0.7
TASKS = {
    "knights_knaves": (),
    # Word problems are long and hard for so small a model: more room, and the same number of steps.
    "gsm_symbolic": (
        "problems.tasks=[{task: gsm_symbolic, levels: [2, 2]}]",
        "new={layers: 2, hidden: 192, ffn: 640, heads: 4, merges: 600, context: 320}",
        "reinforcement.max_tokens=[96]",
    ),
}
"""What mixtures of imitation and reinforcement are compared on, as overrides of one recipe."""
AFTERWARDS = (
    "warm_up.steps=20",
    "warm_up.check_every=20",
    "imitation.learning_rate=0.0002",  # at which the start ended
    "reinforcement.learning_rate=0.00005",  # gently: in most groups all answers are worth the same
    "max_steps=160",
)
SHARES = {"drawn": "imitation", "wanted": "p_imitation"}


@dataclass(frozen=True)
class Workshop:
    """Where starts and runs lie."""

    folder: Path

    def start(self, recipe: ThinkRecipe, name: str = "start") -> Path:
        """Return the folder of the model that imitated long enough, from which all methods learn."""
        folder = self.folder / f"{name}-{recipe.seed}"
        if not (folder / START).is_dir():
            self.learned(name, recipe)
        return folder / START

    def learned(self, name: str, recipe: ThinkRecipe) -> ThinkReport:
        """Return the report of a run, learning first where it is missing."""
        folder = self.folder / f"{name}-{recipe.seed}"
        if (folder / REPORT).is_file():
            return ThinkReport.load(folder)
        report = train(recipe, folder, resume=True, progress=ProgressReporter(Console()))
        assert isinstance(report, ThinkReport)
        return report

    def pruned(self, model: Path) -> Path:
        """Return the folder of the same model with fewer feed-forward channels."""
        target = model.with_name(f"{model.name}-pruned")
        if not target.is_dir():
            prune(str(model), target, keep=Budget(KEEP, of="ffn"), settings=PruneSettings(measure=False))
        return target


def first_recipe(seed: int) -> ThinkRecipe:
    """Return the recipe that makes a start, and takes one step from it."""
    steps = "reinforcement.steps=1"
    recipe = load_recipe(RECIPES / "tiny.yaml", [f"seed={seed}", steps, LAST_STEP])
    assert isinstance(recipe, ThinkRecipe)
    return recipe


def recipe_for(method: Method, start: Path, seed: int) -> ThinkRecipe:
    """Return the recipe of a method that learns from the same start."""
    base = first_recipe(seed)
    changed = {
        **base.model_dump(),
        "model": str(start),
        "warm_up": {},
        "stages": method.stages,
        "reinforcement": {
            **base.reinforcement.model_dump(),
            "steps": None,
            "min_mixed_groups": 0.0,
            **TEACHING,
            **method.reinforcement,
        },
        "alarms": {"dead_reward": "warn"},
        "max_steps": sum(method.steps),
    }
    return ThinkRecipe.model_validate(changed)


def mending_recipe(model: Path, seed: int) -> ThinkRecipe:
    """Return the recipe that mends a pruned model by imitation, and teaches it when to think."""
    recipe = load_recipe(RECIPES / "after_pruning.yaml", [f"model={model}", f"seed={seed}", LAST_STEP])
    assert isinstance(recipe, ThinkRecipe)
    return recipe


def mixing_recipe(workshop: Workshop, task: str, seed: int) -> ThinkRecipe:
    """Return the recipe that mixes imitation and reinforcement, from nothing or after a long start."""

    def recipe(*changes: str) -> ThinkRecipe:
        made = load_recipe(RECIPES / "sasr.yaml", [f"seed={seed}", LAST_STEP, *TASKS[task], *changes])
        assert isinstance(made, ThinkRecipe)
        return made

    if task not in LONG_START:
        return recipe()
    steps = LONG_START[task]
    long = (
        f"warm_up.steps={steps}",
        f"warm_up.check_every={steps}",
        "warm_up.final_lr_fraction=0.1",
        f"max_steps={steps + 1}",
    )
    start = workshop.start(recipe("seed=0", *long), f"start-{task}")
    return recipe(f"model={start}", *AFTERWARDS)


@dataclass(frozen=True)
class Job:
    """One row to measure."""

    part: str
    method: str
    seed: int
    task: str = "modular_chain"

    @property
    def key(self) -> Row:
        """The columns that tell rows apart."""
        return {"part": self.part, "task": self.task, "method": self.method, "seed": self.seed}


def jobs(seeds: tuple[int, ...]) -> Iterator[Job]:
    """Yield jobs, the most telling ones first."""
    yield from (Job("methods", "autothink", seed) for seed in seeds)
    yield Job("speed", "against TRL", seeds[0])
    yield from (Job("methods", "autothink_longer", seed) for seed in seeds)
    yield from (Job("methods", "autothink_solved", seed) for seed in seeds)
    yield from (Job("methods", name, seed) for seed in seeds for name in CONTROLS)
    first, *others = TASKS
    yield from (Job("mixtures", name, seed, first) for seed in seeds for name in MIXTURES)
    yield from (Job("methods", name, seed) for seed in seeds for name in METHODS)
    yield from (Job("longer", name, seed) for name in LONGER for seed in seeds)
    yield from (Job("pruned", model, seed) for seed in seeds for model in ("pruned", "whole"))
    yield from (Job("mixtures", name, seed, task) for task in others for seed in seeds for name in MIXTURES)


def row_for(workshop: Workshop, job: Job) -> Row:
    """Do one job."""
    if job.part == "mixtures":
        return {**job.key, **mixture(workshop, job)}
    start = workshop.start(first_recipe(job.seed))
    if job.part == "speed":
        return {**job.key, **speed(recipe_for(METHODS["naive"], start, job.seed))}
    if job.method == "pruned":
        recipe = mending_recipe(workshop.pruned(start), job.seed)
    elif job.part == "pruned":
        recipe = recipe_for(METHODS["autothink"], start, job.seed)
    else:
        methods = LONGER if job.part == "longer" else METHODS
        recipe = recipe_for(methods[job.method], start, job.seed)
    return {**job.key, **examined(workshop.learned(f"{job.part}-{job.method}", recipe))}


def examined(report: ThinkReport) -> Row:
    """Return what the tables need of a run."""
    exams = {"start": report.start, "learned": report.learned}
    return {
        "best_step": report.best_step,
        "figures": {name: round(value, 4) for name, value in report.figures.items()},
        **{which: {mode: asdict(exam) for mode, exam in by_mode.items()} for which, by_mode in exams.items()},
    }


def mixture(workshop: Workshop, job: Job) -> Row:
    """Return what one way to mix imitation and reinforcement came to, and the share of imitation it drew."""
    base = mixing_recipe(workshop, job.task, job.seed)
    recipe = ThinkRecipe.model_validate({**base.model_dump(), **MIXTURES[job.method](base)})
    began = time.process_time()
    report = workshop.learned(f"mixtures-{job.task}-{job.method.replace(' ', '-')}", recipe)
    spent = time.process_time() - began
    rows = Path(report.folder, METRICS).read_text(encoding="utf-8").splitlines()
    drawn = [row for row in map(json.loads, rows) if "p_imitation" in row]
    shares = {name: mean(row[column] for row in drawn) for name, column in SHARES.items()}
    return {**examined(report), "imitation": shares, "cpu_seconds": round(spent, 1)}


def main() -> None:
    """Do all jobs that have no row yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("runs/reasoning"))
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/reasoning.json"))
    parser.add_argument("--seeds", type=int, default=len(SEEDS))
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--tasks", nargs="+", default=["modular_chain", *TASKS])
    options = parser.parse_args()
    torch.set_num_threads(1)
    described = {
        "versions": versions("prunepolicy", "torch", "transformers", "trl", "reasoning-gym"),
        "steps": sum(STEPS),
        "long_starts": LONG_START,
    }
    results = Results(options.json, ("part", "task", "method", "seed"), described)
    workshop = Workshop(options.folder)
    for job in jobs(SEEDS[: options.seeds]):
        wanted = job.part in options.parts and job.task in options.tasks
        if wanted and job.key not in results:
            results.add({**row_for(workshop, job), "machine": device_name(torch.device("cpu"))})


if __name__ == "__main__":
    main()
