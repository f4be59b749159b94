"""The command ``fairlead``: one module for each of its commands.

A command returns its exit status, or nothing where that can only be 0. What goes wrong is one line on stderr and
status 1; a wrong command line is status 2; Ctrl-C is 130, as a shell has it. What a command alone needs, it imports
itself, so that all start fast.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

import fairlead
from fairlead.cli.check import check
from fairlead.cli.demo import demo
from fairlead.cli.gateway import gateway
from fairlead.cli.new import new
from fairlead.cli.publish import publish
from fairlead.cli.routes import routes
from fairlead.cli.run import run
from fairlead.errors import FairleadError

_INTERRUPTED = 130

_app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
for _command in (new, run, routes, gateway, publish, check, demo):
    _app.command()(_command)


@_app.callback(invoke_without_command=True)
def _fairlead(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    """WebSockets and rooms for web applications, and for HTTP APIs that have none."""
    if version:
        typer.echo(f"fairlead {fairlead.__version__}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status. Without ``arguments`` it takes the process's."""
    try:
        status = _app(args=arguments, prog_name="fairlead", standalone_mode=False)
    except typer.TyperException as exc:
        return _fail(f"{exc.format_message()} (fairlead --help shows what there is)", 2)
    except FairleadError as exc:
        return _fail(str(exc), 1)
    except (typer.Abort, KeyboardInterrupt):
        return _INTERRUPTED
    return status or 0


def _fail(text: str, status: int) -> int:
    print("fairlead:", " ".join(text.split()), file=sys.stderr)
    return status
