"""`moorage`: the commands put together, and the one place where their errors end."""

import gc
import sys
from typing import Annotated

import typer

from app import __version__
from app.cli.apply import apply
from app.cli.audit import audit
from app.cli.config import config
from app.cli.credential import credential
from app.cli.explain import explain, refresh
from app.cli.fsck import fsck
from app.cli.output import complain, exit_for
from app.cli.owner import owner
from app.cli.releases import releases
from app.cli.route import route
from app.cli.rule import rule
from app.cli.serve import migrate, serve
from app.cli.sumdb import sumdb
from app.cli.tenant import tenant
from app.cli.token import token
from app.core.errors import MoorageError

program = typer.Typer(
    name="moorage",
    help="A private mirror of Go toolchains and modules that verifies once, at ingestion.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
program.command()(serve)
program.command()(migrate)
program.add_typer(config)
program.add_typer(releases)
program.command()(fsck)
program.add_typer(tenant)
program.add_typer(token)
program.add_typer(credential)
program.add_typer(owner)
program.add_typer(rule)
program.add_typer(route)
program.add_typer(sumdb)
program.command()(explain)
program.command()(refresh)
program.command("apply")(apply)
program.add_typer(audit)


def _show_version(is_set: bool) -> None:
    if is_set:
        print(f"moorage {__version__}")
        raise typer.Exit


@program.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    """Take the options that come before the command."""


def main() -> None:
    """Run the command line and exit."""
    # Imports make a hundred thousand objects that stay; looking through them again and again is a
    # quarter of a command's CPU time. What runs longer ends the pause: `end_start`.
    gc.disable()
    try:
        program()
    except MoorageError as error:
        complain(str(error))
        sys.exit(exit_for(error))
