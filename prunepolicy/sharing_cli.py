"""The commands that hand a pruned model on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prunepolicy.entrypoint import present
from prunepolicy.option_parsing import words_of
from prunepolicy.options import OUTPUT, AsJson


def export(
    folder: Annotated[Path, typer.Argument(help="A model folder.", show_default=False)],
    to: Annotated[
        str,
        typer.Option(
            "--to",
            help="Formats, separated by commas: gguf (by llama.cpp's converter, on PATH or in LLAMA_CPP_DIR) "
            "and onnx (by optimum-cli).",
            show_default=False,
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Write a language model in the format of another runtime, and compare its next tokens with the model's.

    gguf is F16, and Q4_K_M too where llama-quantize is installed. `prune --export` does the same at its end.

    [bold]Examples[/bold]

    prunepolicy export smaller/ --to gguf

    prunepolicy export smaller/ --to gguf,onnx
    """
    from prunepolicy.commands.export.export import export
    from prunepolicy.pruning.errors import UsageError

    forms = words_of(to)
    if not forms:
        raise UsageError("--to takes gguf, onnx, or both.")
    for written in export(folder, forms):
        present(written, as_json)


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
