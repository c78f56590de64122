"""Help in panels: `--help` stands among the other output options, and a bare group prints its help."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperCommand

from prunepolicy.options import OUTPUT


class HelpCommand(TyperCommand):
    """A command whose `--help` is listed in the last panel, not in one of its own before all others."""

    def get_help_option(self, ctx: Any) -> Any:
        """Return the option, in its panel."""
        option: Any = super().get_help_option(ctx)
        if option is not None:
            option.rich_help_panel = OUTPUT
        return option


def help_without_command(context: typer.Context) -> None:
    """Print the help of a group that was called without a command."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
