"""The commands: each parses, calls one function, and prints. Heavy imports live inside them."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from prunepolicy.entrypoint import console_for, continuing, error_console, invoked, present, run
from prunepolicy.evaluation_cli import bench, chat, doctor, evaluate
from prunepolicy.help_panels import HelpCommand, help_without_command
from prunepolicy.option_parsing import (
    add_plugins,
    budget_of,
    budgets_of,
    hardware_of,
    numbers_of,
    recovery_of,
    settings_of,
    words_of,
)
from prunepolicy.options import (
    WHAT,
    Arch,
    AsJson,
    Context,
    Data,
    Device,
    DryRun,
    Dtype,
    Epochs,
    Exported,
    For,
    Keep,
    Keeps,
    Languages,
    Model,
    MultipleOf,
    NoMeasure,
    NoVerify,
    Of,
    On,
    Out,
    Overwrite,
    PerLayer,
    PlanFile,
    PlanOut,
    Plugin,
    PolicyName,
    Probe,
    Recover,
    RecoverWith,
    Repair,
    Revision,
    Rounds,
    Seed,
    Shrink,
    Text,
    Trust,
    Units,
)
from prunepolicy.pruning.io.console import Console
from prunepolicy.recovery_cli import recover
from prunepolicy.sharing_cli import export, push
from prunepolicy.think_cli import think_app
from prunepolicy.training_cli import data_models, fetch, policies, submit, train
from prunepolicy.zoo_cli import zoo_app

PRUNING, EVALUATING, LEARNING = "Prune a model", "Evaluate a model", "Learned policies"
"""Panels of `prunepolicy --help`."""

app = typer.Typer(
    name="prunepolicy",
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
prune_app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)
out_console = console_for()


@app.command(cls=HelpCommand, rich_help_panel=PRUNING)
@prune_app.command(cls=HelpCommand)
def prune(
    model: Model,
    *,
    keep: Keeps,
    of: Of = "params",
    policy: PolicyName = "default",
    units: Units = "",
    per_layer: PerLayer = False,
    multiple_of: MultipleOf = None,
    rounds: Rounds = 1,
    context: Context = 4096,
    probe: Probe = None,
    examples: For = None,
    languages: Languages = "",
    repair: Repair = None,
    recover: Recover = "0",
    recover_with: RecoverWith = "weights",
    on: On = None,
    text: Text = None,
    no_measure: NoMeasure = False,
    no_verify: NoVerify = False,
    arch: Arch = None,
    data: Data = None,
    epochs: Epochs = "0,20",
    shrink: Shrink = 0.0,
    out: Out,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    export: Exported = "",
    as_json: AsJson = False,
    seed: Seed = 0,
    device: Device = "auto",
    dtype: Dtype = "auto",
    plugin: Plugin = None,
    revision: Revision = None,
    trust_remote_code: Trust = False,
) -> None:
    """Prune MODEL, check that a clean process loads the result, and measure quality and speed.

    [bold]Examples[/bold]

    prune-with-policy smollm2-135m --keep 0.9 --out smaller/

    prune-with-policy smollm2-135m --keep 0.9,0.8,0.7 --out sizes/

    prune-with-policy ./my-llama --for examples.txt --keep 0.7 --of ffn --recover 20m --out smaller/

    prune-with-policy a.safetensors --arch resnet20 --keep 0.5 --of flops --data fashion-mnist --out smaller/
    """
    from prunepolicy.commands.prune.prune import decisions, targets_of

    add_plugins(plugin)
    budgets = budgets_of(keep, of, units, per_layer, multiple_of, context)
    settings = replace(settings_of(_log(as_json), hardware_of(device, dtype, trust_remote_code), seed),
        revision=revision, repair=repair, recover=recover, recover_with=recover_with, on=on, probe=probe,
        examples=examples, languages=languages, rounds=rounds, text=text, arch=arch, overwrite=overwrite,
        measure=not no_measure, verify=not no_verify, recovery=recovery_of(data, epochs, shrink))  # fmt: skip
    targets = targets_of(out, budgets)
    with continuing(lambda: _how_to_go_on(*targets)):
        _carry_out(decisions(model, targets, policy, settings, dry_run), targets, dry_run, as_json, export)


def _carry_out(
    decisions: Iterable[Any], targets: Collection[Path], dry_run: bool, as_json: bool, forms: str
) -> None:
    """Show plans and, unless nothing is to be written, what came of them, or print it for programs."""
    from prunepolicy.commands.export.export import check_forms, export

    check_forms(words_of(forms))
    results = []
    for decision in decisions:
        if not as_json:
            _show_plan(decision.session, decision.plan)
        results.append(decision.plan if dry_run else decision.carried_out())
        if not as_json and not dry_run:
            _show_report(results[-1])
        for written in () if dry_run else export(decision.target, words_of(forms)):
            written.render(_log(as_json))
    if as_json:
        _print_json(results)
    elif len(targets) > 1 and not dry_run:
        _show_sizes(targets)


@app.command(cls=HelpCommand, rich_help_panel=PRUNING)
def plan(
    model: Model,
    keep: Keep,
    of: Of = "params",
    policy: PolicyName = "default",
    units: Units = "",
    per_layer: PerLayer = False,
    multiple_of: MultipleOf = None,
    rounds: Rounds = 1,
    context: Context = 4096,
    probe: Probe = None,
    repair: Repair = None,
    recover: Recover = "0",
    recover_with: RecoverWith = "weights",
    on: On = None,
    out: PlanOut = None,
    as_json: AsJson = False,
    seed: Seed = 0,
    device: Device = "auto",
    dtype: Dtype = "auto",
    plugin: Plugin = None,
    revision: Revision = None,
    trust_remote_code: Trust = False,
) -> None:
    """Dry run: decide what to remove, show the plan, and write nothing else.

    [bold]Example[/bold]

    prunepolicy plan smollm2-135m --keep 0.8 --out plan.json
    """
    from prunepolicy.commands.prune.job import decide, open_session

    add_plugins(plugin)
    budget = budget_of(keep, of, units, per_layer, multiple_of, context)
    settings = replace(
        settings_of(_log(as_json), hardware_of(device, dtype, trust_remote_code), seed),
        revision=revision, repair=repair, recover=recover, recover_with=recover_with, on=on, probe=probe,
        rounds=rounds,
    )  # fmt: skip
    session = open_session(model, settings)
    decided = decide(session, policy, budget, settings)
    if out is not None:
        decided.save(out)
    if as_json:
        print(decided.to_json(), end="")
    else:
        _show_plan(session, decided)
        if out is not None:
            command = shlex.join(["prunepolicy", "cut", model, str(out), "--out", "DIR"])
            out_console.print(f"Plan written to {out}; carry it out with: {command}", soft_wrap=True)


@app.command(cls=HelpCommand, rich_help_panel=PRUNING)
def cut(
    model: Model,
    plan_file: PlanFile,
    *,
    probe: Probe = None,
    on: On = None,
    text: Text = None,
    no_measure: NoMeasure = False,
    no_verify: NoVerify = False,
    out: Out,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    device: Device = "auto",
    dtype: Dtype = "auto",
    revision: Revision = None,
    trust_remote_code: Trust = False,
) -> None:
    """Apply a plan: the same plan gives the same bytes, and an interrupted run continues.

    [bold]Example[/bold]

    prunepolicy cut smollm2-135m plan.json --out smaller/
    """
    from prunepolicy.commands.prune.job import carry_out, open_session
    from prunepolicy.commands.prune.stored_plan import stored_plan

    loaded = stored_plan(plan_file, probe, on)
    seed = int(loaded.settings.get("probe", {}).get("seed", 0))
    settings = replace(
        settings_of(_log(as_json), hardware_of(device, dtype, trust_remote_code), seed),
        revision=revision, text=text, probe=probe, overwrite=overwrite, measure=not no_measure,
        verify=not no_verify,
    )  # fmt: skip
    with continuing(lambda: _how_to_go_on(out)):
        report = carry_out(open_session(model, settings, out), loaded, out, settings)
    if as_json:
        print(report.to_json(), end="")
    else:
        _show_report(report)


@app.command(cls=HelpCommand, rich_help_panel=PRUNING)
def frontier(
    model: Model,
    *,
    keeps: Annotated[
        str,
        typer.Option(
            "--keeps", help="Fractions to keep, one point of the frontier each.", rich_help_panel=WHAT
        ),
    ] = "0.95,0.9,0.85,0.8,0.75,0.7,0.65,0.6,0.55,0.5",
    of: Of = "params",
    policy: PolicyName = "default",
    units: Units = "",
    per_layer: PerLayer = False,
    probe: Probe = None,
    text: Text = None,
    out: Out,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    seed: Seed = 0,
    device: Device = "auto",
    dtype: Dtype = "auto",
    trust_remote_code: Trust = False,
) -> None:
    """Plot perplexity against size: one scoring pass, a nested plan per size, a table and a figure.

    [bold]Example[/bold]

    prunepolicy frontier smollm2-135m --out frontier/
    """
    from prunepolicy.commands.prune.frontier import draw_frontier
    from prunepolicy.commands.prune.job import open_session

    budgets = [budget_of(keep, of, units, per_layer, None, 4096) for keep in numbers_of(keeps, "--keeps")]
    settings = replace(
        settings_of(_log(as_json), hardware_of(device, dtype, trust_remote_code), seed),
        text=text, probe=probe, overwrite=overwrite,
    )  # fmt: skip
    result = draw_frontier(open_session(model, settings, out), policy, budgets, out, settings)
    present(result, as_json)


app.command("export", cls=HelpCommand, rich_help_panel=PRUNING)(export)
app.command("push", cls=HelpCommand, rich_help_panel=PRUNING)(push)
app.command(cls=HelpCommand, rich_help_panel=PRUNING)(recover)
app.command("doctor", cls=HelpCommand, rich_help_panel=PRUNING)(doctor)
app.command("eval", cls=HelpCommand, rich_help_panel=EVALUATING)(evaluate)
app.command("bench", cls=HelpCommand, rich_help_panel=EVALUATING)(bench)
app.command("chat", cls=HelpCommand, rich_help_panel=EVALUATING)(chat)
for command in (policies, train, data_models, submit, fetch):
    app.command(command.__name__.replace("_", "-"), cls=HelpCommand, rich_help_panel=LEARNING)(command)
app.add_typer(think_app, rich_help_panel=LEARNING)
app.add_typer(zoo_app, rich_help_panel=LEARNING)


def _print_version(wanted: bool) -> None:
    if wanted:
        from prunepolicy import __version__

        print(__version__)
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Prune networks with policies, into smaller ones that plain transformers loads.

    [bold]Examples[/bold]

    prunepolicy prune smollm2-135m --keep 0.9 --out smaller/

    prunepolicy doctor smollm2-135m

    prunepolicy eval smaller/ --text held_out.txt --against smollm2-135m
    """
    help_without_command(context)


def main(arguments: list[str] | None = None) -> int:
    """Run `prunepolicy` and return its exit code: 0 done, 1 failed, 2 wrong usage."""
    return run(app, arguments)


def prune_main(arguments: list[str] | None = None) -> int:
    """Run `prune-with-policy`, which is `prunepolicy prune`."""
    return run(prune_app, arguments)


def _how_to_go_on(*targets: Path) -> str:
    """Return what the next run of this command finds beside its targets; nothing where there is nothing."""
    from prunepolicy.commands.prune.job import left_beside

    left = ", ".join(place for target in targets for place in left_beside(target))
    return f"{left} is kept; run the same command again to continue, {invoked()}" if left else ""


def _log(as_json: bool) -> Console:
    """Return where progress is printed: beside the result, or on standard error where that is JSON."""
    return error_console if as_json else out_console


def _show_plan(session: Any, plan: Any) -> None:
    from prunepolicy.commands.report.plan_view import render_plan

    render_plan(session.name, session.checkpoint, plan, out_console)


def _show_report(report: Any) -> None:
    from prunepolicy.commands.report.report_view import render

    render(report, out_console)


def _show_sizes(folders: Iterable[Path]) -> None:
    from prunepolicy.commands.report.report import PruneReport
    from prunepolicy.commands.report.report_view import render_sizes

    render_sizes([PruneReport.read(folder) for folder in folders], out_console)


def _print_json(results: Sequence[Any]) -> None:
    """Print one result as an object, several as a list."""
    texts = [result.to_json().rstrip() for result in results]
    print(texts[0] if len(texts) == 1 else "[" + ",\n".join(texts) + "]")
