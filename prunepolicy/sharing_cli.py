"""The command that hands a pruned model on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prunepolicy.entrypoint import present
from prunepolicy.options import OUTPUT, AsJson


def push(
    folder: Annotated[Path, typer.Argument(help="A result of prune.", show_default=False)],
    repo: Annotated[str, typer.Argument(metavar="USER/REPO", help="Made where it doesn't exist.")],
    private: Annotated[
        bool | None,
        typer.Option(
            "--private/--public", help="Who sees a new repository.", show_default="your hub settings"
        ),
    ] = None,
    message: Annotated[str, typer.Option("--message", help="Of the commit.", show_default="Add FOLDER")] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List what would be sent.", rich_help_panel=OUTPUT)
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Send a pruned model to the Hugging Face hub: weights, tokenizer, card, report and plan.

    The hub's page shows base model, licence and measured quality. Log in by `hf auth login` or HF_TOKEN.

    [bold]Examples[/bold]

    prunepolicy push smaller/ me/smollm2-pruned --dry-run

    prunepolicy push smaller/ me/smollm2-pruned --private
    """
    from prunepolicy.commands.push.push import push

    present(push(folder, repo, private, dry_run, message), as_json)
