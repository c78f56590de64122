"""The commands that train policies and list them: each parses, calls one function, and prints."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prunepolicy.entrypoint import console_for, continuing, error_console, invoked, invoked_without, present
from prunepolicy.option_parsing import add_plugins
from prunepolicy.options import AsJson, Plugin

if TYPE_CHECKING:
    from prunepolicy.agents.training.run_report import Report
    from prunepolicy.pruning.io.console import Console

RUNS = Path("runs")
RecipeFile = Annotated[Path, typer.Argument(metavar="RECIPE", help="A YAML recipe.", show_default=False)]
RecipeFiles = Annotated[
    list[Path], typer.Argument(metavar="RECIPE", help="One YAML recipe or several.", show_default=False)
]
RunName = Annotated[
    Path | None,
    typer.Option(
        "--out",
        help="Run folder; with several recipes, the folder of their runs.",
        show_default="runs/, and the recipe's name",
    ),
]
Resume = Annotated[bool, typer.Option("--resume", help="Resume from the last checkpoint.")]
PolicyToShow = Annotated[
    str | None, typer.Argument(metavar="NAME", help="Show the card of this policy.", show_default="list all")
]
Cluster = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        help="Where workers run: local (Ray, here), ray (at RAY_ADDRESS), processes, or a YAML file.",
        show_default="in this process",
    ),
]
Address = Annotated[
    str,
    typer.Option(
        "--address", help="Address of the Ray dashboard, such as http://HEAD:8265.", show_default=False
    ),
]
RunOfCluster = Annotated[
    str, typer.Argument(metavar="RUN", help="Name of the run that submit printed.", show_default=False)
]
Estimated = Annotated[
    bool,
    typer.Option("--dry-run", help="Estimate memory and time on 1, 4 and 8 GPUs, and start nothing."),
]
Smoke = Annotated[
    bool,
    typer.Option(
        "--smoke",
        help="Shrink the recipe to less than a minute, with tiny random models: shows that everything runs.",
    ),
]
LogTo = Annotated[
    str,
    typer.Option(
        "--log-to",
        help="Where metrics can be followed: tensorboard, wandb or trackio; the last two for one run.",
    ),
]
SeedOverride = Annotated[int | None, typer.Option("--seed", help="Random seed.", show_default="the recipe's")]
SeedCount = Annotated[
    int, typer.Option("--seeds", min=1, help="Number of seeds to train with, counting up from the first.")
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="Override a key of the recipe: --set max_steps=100; repeatable.",
        metavar="KEY=VALUE",
    ),
]


def train(
    recipes: RecipeFiles,
    out: RunName = None,
    resume: Resume = False,
    seed: SeedOverride = None,
    seeds: SeedCount = 1,
    set_: Set = None,
    cluster: Cluster = None,
    dry_run: Estimated = False,
    smoke: Smoke = False,
    log_to: LogTo = "tensorboard",
    plugin: Plugin = None,
    as_json: AsJson = False,
) -> None:
    """Train a policy from a recipe, evaluate it on held-out models, and save it with its card.

    [bold]Examples[/bold]

    prunepolicy train configs/train/prunenet.yaml --seed 1 --set max_steps=100

    prunepolicy train configs/train/prunenet.yaml --seeds 3 --resume

    prunepolicy train configs/train/prunenet.yaml configs/train/gradient_gates.yaml --cluster processes

    prunepolicy train configs/train/graph.yaml --smoke
    """
    from prunepolicy.agents.runtime.open_runner import open_runner
    from prunepolicy.agents.training.recipe_file import load_recipe
    from prunepolicy.agents.training.seeds import Seeds, how_to_go_on, train_detached
    from prunepolicy.agents.training.smoke import StepTimer, say_how_to_run_whole, smoked
    from prunepolicy.agents.training.train import estimate, train
    from prunepolicy.pruning.io.progress import ProgressReporter

    add_plugins(plugin)
    overrides = [*(set_ or ()), *([f"seed={seed}"] if seed is not None else ())]
    console = error_console if as_json else console_for()
    whole, timer = [load_recipe(recipe, overrides) for recipe in recipes], StepTimer()
    if dry_run:
        for recipe in whole:
            present(estimate(recipe), as_json)
        return
    settings, progress = [smoked(one) if smoke else one for one in whole], ProgressReporter(console, timer)
    alone, folders = len(recipes) == 1, _folders(recipes, out, smoke)
    _check_log(log_to, alone and seeds == 1)
    sets = [Seeds(*pair, seeds, resume) for pair in zip(settings, folders, strict=True)]
    again = [] if resume else ["--resume"]
    again += [] if out else ["--out", str(folders[0] if alone else RUNS)]
    reports: list[Report]
    with (
        continuing(lambda: how_to_go_on(sets, invoked(*again))),
        open_runner(cluster, progress.note) as runner,
    ):
        if alone and seeds == 1:
            reports = [train(settings[0], folders[0], resume, progress, invoked(), runner, log_to)]
        else:
            reports = train_detached(sets, progress, invoked(), runner)
    _show(reports, as_json, console)
    _say_where_metrics_are(log_to, folders, console)
    for recipe in whole if smoke else ():
        say_how_to_run_whole(recipe, invoked_without("--smoke", ("--out",)), timer, console)


def _check_log(log_to: str, one_run: bool) -> None:
    """Raise `UsageError` where a tracker isn't there, or would have to follow several runs."""
    from prunepolicy.agents.training.tracker import TENSORBOARD, check_logger
    from prunepolicy.pruning.errors import UsageError

    if log_to == TENSORBOARD:  # Its events are written where they can be.
        return
    check_logger(log_to)
    if not one_run:
        raise UsageError(f"--log-to {log_to} follows one run; start one per recipe and seed.")


def _say_where_metrics_are(log_to: str, folders: Sequence[Path], console: Console) -> None:
    """Print the command that shows the runs' TensorBoard events, where there are any."""
    for folder in folders:
        if log_to == "tensorboard" and any(folder.rglob("events.out.tfevents*")):
            console.print(f"Metrics: {shlex.join(['tensorboard', '--logdir', str(folder)])}", soft_wrap=True)


def _folders(recipes: Sequence[Path], out: Path | None, smoke: bool) -> list[Path]:
    """Return where every recipe's run goes."""
    names = [file.stem + ("-smoke" if smoke else "") for file in recipes]
    return [out or RUNS / names[0]] if len(names) == 1 else [(out or RUNS) / name for name in names]


def _show(reports: Sequence[Report], as_json: bool, console: Console) -> None:
    """Print reports for people, or for programs one as an object, several as a list."""
    if not as_json:
        for report in reports:
            report.render(console)
        return
    texts = [report.to_json().rstrip() for report in reports]
    print(texts[0] if len(texts) == 1 else "[" + ",\n".join(texts) + "]")


def data_models(
    recipe: RecipeFile,
    out: Annotated[Path, typer.Option("--out", help="Output folder for the networks.", show_default=False)],
    seed: SeedOverride = None,
    set_: Set = None,
    cluster: Cluster = None,
) -> None:
    """Train the networks that a metanetwork learns from; existing ones are kept.

    A recipe takes them with --set family.folder=DIR.

    [bold]Example[/bold]

    prunepolicy data-models configs/train/metanet_resnet20.yaml --out models/resnet20 --cluster processes
    """
    from prunepolicy.agents.metanet.family import Family, family_recipe
    from prunepolicy.agents.runtime.open_runner import open_runner
    from prunepolicy.agents.training.recipe_file import load_recipe
    from prunepolicy.pruning.io.progress import ProgressReporter

    overrides = [*(set_ or ()), *([f"seed={seed}"] if seed is not None else ())]
    settings, progress = family_recipe(load_recipe(recipe, overrides)), ProgressReporter(console_for())
    with open_runner(cluster, progress.note) as runner:
        Family(settings, out).train(runner, progress)
    progress.note(f"{settings.family.count} networks in {out}")


def submit(
    recipe: RecipeFile,
    address: Address,
    follow: Annotated[
        bool, typer.Option("--follow", help="Stream the log, and fetch the run folder at the end.")
    ] = False,
    out: RunName = None,
    resume: Annotated[
        str | None, typer.Option("--resume", help="Resume this run of the cluster.", metavar="RUN")
    ] = None,
    seed: SeedOverride = None,
    seeds: SeedCount = 1,
    set_: Set = None,
    workers: Annotated[
        str, typer.Option("--cluster", help="Where workers run on the cluster: ray, or a YAML file.")
    ] = "ray",
    include: Annotated[
        list[str] | None,
        typer.Option("--include", help="Also send this file or folder; repeatable.", metavar="PATH"),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List every file that would be sent, and send nothing.")
    ] = False,
) -> None:
    """Train on a Ray cluster as a job, and get the run folder back.

    Sent are the recipe, the models, texts and policies that it names by places in the working directory,
    and this package; anything else only by --include.

    [bold]Examples[/bold]

    prunepolicy submit configs/train/graph.yaml --address http://HEAD:8265 --follow

    prunepolicy submit configs/train/graph.yaml --address http://HEAD:8265 --dry-run
    """
    from prunepolicy.agents.runtime.settings import load_settings
    from prunepolicy.commands.submit import submit as cluster

    overrides = [*(set_ or ()), *([f"seed={seed}"] if seed is not None else ())]
    options = ["--cluster", workers, *(["--seeds", str(seeds)] if seeds > 1 else [])]
    files = [*(include or ()), *([workers] if workers.endswith((".yaml", ".yml")) else ())]
    gpus = load_settings(workers).learner.gpus
    submission = cluster.Submission(recipe, address, overrides, options, files, resume, gpus)
    console = console_for()
    target = out or RUNS / recipe.stem
    if follow:
        cluster.check_target(target)
    submission.describe(console, every=dry_run)
    if dry_run:
        return
    job = submission.send(console)
    if follow:
        with continuing(lambda: submission.how_to_go_on(target)):
            submission.follow(job, console)
            fetch(submission.run, address, target)


def fetch(run: RunOfCluster, address: Address, out: RunName = None) -> None:
    """Download the run folder of a submitted job, finished or not.

    [bold]Example[/bold]

    prunepolicy fetch graph-1a2b3c4d --address http://HEAD:8265 --out runs/graph
    """
    from prunepolicy.commands.submit import submit as cluster

    target = out or RUNS / run[:-9]
    cluster.fetch(run, address, target)
    console_for().print(f"The run is in {target}.")


def policies(name: PolicyToShow = None, as_json: AsJson = False) -> None:
    """List all available policies with their scores, or show the card of one.

    [bold]Examples[/bold]

    prunepolicy policies

    prunepolicy policies runs/prunenet
    """
    from prunepolicy.commands.zoo.catalogue import Catalogue, described

    if name is not None:
        print(described(name, RUNS, as_json).rstrip())
        return
    catalogue = Catalogue.of(RUNS)
    if as_json:
        print(catalogue.to_json(), end="")
    else:
        catalogue.render(console_for())
