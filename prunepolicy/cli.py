"""The commands: they parse, call one function, and print. Heavy imports live inside them."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from prunepolicy.evaluation_cli import bench, doctor, evaluate
from prunepolicy.options import (
    Arch,
    AsJson,
    Context,
    Data,
    Device,
    DryRun,
    Dtype,
    Epochs,
    Keep,
    Model,
    MultipleOf,
    NoMeasure,
    NoVerify,
    Of,
    Out,
    Overwrite,
    PerLayer,
    PlanFile,
    PolicyName,
    Probe,
    Recover,
    Repair,
    Revision,
    Rounds,
    Seed,
    Shrink,
    Text,
    Trust,
    Units,
)
from prunepolicy.parsing import budget_of, hardware_of, numbers_of, recovery_of, settings_of
from prunepolicy.running import console_for, error_console, present, run
from prunepolicy.training_cli import data_models, fetch, policies, submit, train
from prunepolicy.zoo_cli import zoo_app

app = typer.Typer(
    name="prunepolicy",
    help="Prune networks with policies, into smaller ones that load anywhere.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
prune_app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)
out_console = console_for()


def prune(
    model: Model,
    out: Out,
    keep: Keep,
    policy: PolicyName = "default",
    of: Of = "params",
    units: Units = "",
    per_layer: PerLayer = False,
    multiple_of: MultipleOf = None,
    context: Context = 4096,
    probe: Probe = None,
    repair: Repair = None,
    recover: Recover = 0,
    rounds: Rounds = 1,
    text: Text = None,
    arch: Arch = None,
    data: Data = None,
    epochs: Epochs = "0,20",
    shrink: Shrink = 0.0,
    seed: Seed = 0,
    device: Device = "auto",
    dtype: Dtype = "auto",
    trust_remote_code: Trust = False,
    revision: Revision = None,
    overwrite: Overwrite = False,
    no_measure: NoMeasure = False,
    no_verify: NoVerify = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Prune MODEL, prove that the result loads, and write it with its evidence.

    [bold]Examples[/bold]

    prune-with-policy smollm2-135m --keep 0.9 --out smaller/

    prune-with-policy ./my-llama --keep 0.7 --of ffn --policy fisher --text held_out.txt --out smaller/

    prune-with-policy a.safetensors --arch resnet20 --keep 0.5 --of flops --data fashion-mnist --out smaller/
    """
    from prunepolicy.agents.prune.job import carry_out, changed, decide, holding, loaded, open_subject

    budget = budget_of(keep, of, units, per_layer, multiple_of, context)
    settings = replace(
        settings_of(_log(as_json), hardware_of(device, dtype, trust_remote_code), seed), revision=revision,
        repair=repair, recover=recover, probe=probe, rounds=rounds, text=text, arch=arch, overwrite=overwrite,
        recovery=recovery_of(data, epochs, shrink), measure=not no_measure, verify=not no_verify,
    )  # fmt: skip
    with nullcontext() if dry_run else holding(out, overwrite):
        subject, chosen = open_subject(model, settings, out), loaded(policy)
        with changed(subject, chosen, out, settings) as patient:
            decided = decide(patient.subject, chosen, budget, settings)
            if not as_json:
                _show_plan(subject, decided)
            elif dry_run:
                print(decided.to_json(), end="")
            if dry_run:
                return
            report = carry_out(patient.subject, decided, out, settings, patient)
    _show_report(report, as_json)


@app.command()
def plan(
    model: Model,
    keep: Keep,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Where plan.json goes.", show_default=False, dir_okay=False),
    ] = None,
    policy: PolicyName = "default",
    of: Of = "params",
    units: Units = "",
    per_layer: PerLayer = False,
    multiple_of: MultipleOf = None,
    context: Context = 4096,
    probe: Probe = None,
    repair: Repair = None,
    recover: Recover = 0,
    rounds: Rounds = 1,
    seed: Seed = 0,
    device: Device = "auto",
    dtype: Dtype = "auto",
    trust_remote_code: Trust = False,
    revision: Revision = None,
    as_json: AsJson = False,
) -> None:
    """Dry run: decide what would stay, show it, and write only the plan.

    [bold]Example[/bold]

    prunepolicy plan smollm2-135m --keep 0.8 --out plan.json
    """
    from prunepolicy.agents.prune.job import decide, open_subject

    budget = budget_of(keep, of, units, per_layer, multiple_of, context)
    settings = replace(
        settings_of(_log(as_json), hardware_of(device, dtype, trust_remote_code), seed),
        revision=revision, repair=repair, recover=recover, probe=probe, rounds=rounds,
    )  # fmt: skip
    subject = open_subject(model, settings)
    decided = decide(subject, policy, budget, settings)
    if out is not None:
        decided.save(out)
    if as_json:
        print(decided.to_json(), end="")
    else:
        _show_plan(subject, decided)
        if out is not None:
            out_console.print(
                f"Plan written to {out}; carry it out with: prunepolicy cut {model} {out} --out DIR"
            )


@app.command()
def cut(
    model: Model,
    plan_file: PlanFile,
    out: Out,
    text: Text = None,
    probe: Probe = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    trust_remote_code: Trust = False,
    revision: Revision = None,
    overwrite: Overwrite = False,
    no_measure: NoMeasure = False,
    no_verify: NoVerify = False,
    as_json: AsJson = False,
) -> None:
    """Carry out a plan: the same plan gives the same bytes. An interrupted run continues.

    [bold]Example[/bold]

    prunepolicy cut smollm2-135m plan.json --out smaller/
    """
    from prunepolicy.agents.prune.job import carry_out, open_subject
    from prunepolicy.agents.prune.stored_plan import stored_plan

    loaded = stored_plan(plan_file, probe)
    seed = int(loaded.settings.get("probe", {}).get("seed", 0))
    settings = replace(
        settings_of(_log(as_json), hardware_of(device, dtype, trust_remote_code), seed),
        revision=revision, text=text, probe=probe, overwrite=overwrite, measure=not no_measure,
        verify=not no_verify,
    )  # fmt: skip
    _show_report(carry_out(open_subject(model, settings, out), loaded, out, settings), as_json)


@app.command()
def frontier(
    model: Model,
    out: Out,
    policy: PolicyName = "default",
    of: Of = "params",
    keeps: Annotated[
        str, typer.Option("--keeps", help="Points of the frontier.")
    ] = "0.95,0.9,0.85,0.8,0.75,0.7,0.65,0.6,0.55,0.5",
    units: Units = "",
    per_layer: PerLayer = False,
    text: Text = None,
    probe: Probe = None,
    seed: Seed = 0,
    device: Device = "auto",
    dtype: Dtype = "auto",
    trust_remote_code: Trust = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Score once, then plan every size: nested plans, a table, and a plot of quality against size.

    [bold]Example[/bold]

    prunepolicy frontier smollm2-135m --out frontier/
    """
    from prunepolicy.agents.prune.frontier import draw_frontier
    from prunepolicy.agents.prune.job import open_subject

    budgets = [budget_of(keep, of, units, per_layer, None, 4096) for keep in numbers_of(keeps, "--keeps")]
    settings = replace(
        settings_of(_log(as_json), hardware_of(device, dtype, trust_remote_code), seed),
        text=text, probe=probe, overwrite=overwrite,
    )  # fmt: skip
    result = draw_frontier(open_subject(model, settings, out), policy, budgets, out, settings)
    present(result, as_json)


app.command("prune")(prune)
app.command("eval")(evaluate)
for command in (bench, doctor, train, data_models, submit, fetch, policies):
    app.command(command.__name__.replace("_", "-"))(command)
app.add_typer(zoo_app)
prune_app.command()(prune)


def _print_version(wanted: bool) -> None:
    if wanted:
        from prunepolicy import __version__

        print(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Prune networks with policies, into smaller ones that load anywhere."""


def main(arguments: list[str] | None = None) -> int:
    """Run `prunepolicy` and return its exit code: 0 done, 1 failed, 2 wrong usage."""
    return run(app, arguments)


def prune_main(arguments: list[str] | None = None) -> int:
    """Run `prune-with-policy`, which is `prunepolicy prune`."""
    return run(prune_app, arguments)


def _log(as_json: bool) -> Console:
    """Return where steps are told: beside the result, or apart from it where that is for programs."""
    return error_console if as_json else out_console


def _show_plan(subject: Any, plan: Any) -> None:
    from prunepolicy.agents.prune.plan_view import render_plan

    render_plan(subject.checkpoint, plan, out_console)


def _show_report(report: Any, as_json: bool) -> None:
    from prunepolicy.agents.prune.report_view import render

    if as_json:
        print(report.to_json(), end="")
    else:
        render(report, out_console)
