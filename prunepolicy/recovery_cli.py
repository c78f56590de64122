"""The command that lets a result of pruning learn on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from prunepolicy.entrypoint import console_for, continuing, error_console, invoked
from prunepolicy.option_parsing import hardware_of, settings_of
from prunepolicy.options import AsJson, Device, Dtype, NoMeasure, NoVerify, On, RecoverWith, Text, Trust

Folder = Annotated[
    Path,
    typer.Argument(
        metavar="DIR", help="A folder that prune-with-policy wrote.", show_default=False, file_okay=False
    ),
]
From = Annotated[
    str, typer.Option("--from", help="The dense model that DIR was cut from.", show_default=False)
]
HowLong = Annotated[
    str,
    typer.Option(
        "--for",
        help="Budget: a time such as 20m or 2h, '500k tokens', '400 steps', or '3 epochs'.",
        show_default=False,
    ),
]


def recover(
    folder: Folder,
    *,
    teacher: From,
    budget: HowLong,
    recover_with: RecoverWith = "weights",
    on: On = None,
    text: Text = None,
    no_measure: NoMeasure = False,
    no_verify: NoVerify = False,
    as_json: AsJson = False,
    device: Device = "auto",
    dtype: Dtype = "auto",
    trust_remote_code: Trust = False,
) -> None:
    """Let a pruned model learn more from its dense model; DIR is replaced when all is proven.

    [bold]Example[/bold]

    prunepolicy recover smaller/ --from smollm2-135m --for 1h
    """
    from prunepolicy.commands.prune.recover import kept_beside
    from prunepolicy.commands.prune.recover import recover as learn_on
    from prunepolicy.commands.report.report_view import render

    console = error_console if as_json else console_for()
    settings = replace(
        settings_of(console, hardware_of(device, dtype, trust_remote_code), 0), recover=budget,
        recover_with=recover_with, on=on, text=text, measure=not no_measure, verify=not no_verify,
    )  # fmt: skip

    def how_to_go_on() -> str:
        left = kept_beside(folder)
        return f"{left} is kept; run the same command again to continue, {invoked()}" if left else ""

    with continuing(how_to_go_on):
        report = learn_on(folder, teacher, settings)
    if as_json:
        print(report.to_json(), end="")
    else:
        render(report, console)
