"""`moorage`: the commands put together, and the one place where their errors end."""

import gc
import os
import sys
from collections.abc import Callable
from functools import cache
from typing import Annotated

import typer

from app import __version__
from app.cli.apply import apply
from app.cli.audit import audit
from app.cli.backup import backup, restore
from app.cli.channel import channel
from app.cli.completion import completion, prepare
from app.cli.config import config
from app.cli.credential import credential
from app.cli.doctor import doctor
from app.cli.explain import explain, refresh
from app.cli.fsck import fsck
from app.cli.gc import gc as collect
from app.cli.group import Group
from app.cli.health import health
from app.cli.hook import hook
from app.cli.interrupt import take_signals
from app.cli.job import job
from app.cli.module import module
from app.cli.node import node
from app.cli.output import complain, exit_for
from app.cli.owner import owner
from app.cli.releases import releases
from app.cli.rollout import rollout
from app.cli.route import route
from app.cli.rule import rule
from app.cli.secrets import secrets
from app.cli.serve import migrate, serve
from app.cli.sumdb import sumdb
from app.cli.tenant import tenant
from app.cli.tls import tls
from app.cli.token import token
from app.cli.webhook import webhook
from app.core.errors import MoorageError

program = typer.Typer(
    name="moorage",
    cls=Group,
    help="A private mirror of Go toolchains and modules that verifies once, at ingestion.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
program.command()(serve)
program.command()(migrate)
program.add_typer(config, cls=Group)
program.add_typer(releases, cls=Group)
program.command()(fsck)
program.command()(health)
program.command()(doctor)
program.command("gc")(collect)
program.add_typer(backup, cls=Group)
program.command()(restore)
program.add_typer(secrets, cls=Group)
program.add_typer(channel, cls=Group)
program.add_typer(tenant, cls=Group)
program.add_typer(token, cls=Group)
program.add_typer(credential, cls=Group)
program.add_typer(owner, cls=Group)
program.add_typer(rule, cls=Group)
program.add_typer(route, cls=Group)
program.add_typer(sumdb, cls=Group)
program.command()(explain)
program.command()(refresh)
program.command("apply")(apply)
program.add_typer(module, cls=Group)
program.add_typer(hook, cls=Group)
program.add_typer(rollout, cls=Group)
program.add_typer(node, cls=Group)
program.add_typer(webhook, cls=Group)
program.add_typer(audit, cls=Group)
program.add_typer(job, cls=Group)
program.add_typer(tls, cls=Group)
program.command()(completion)


def _show_version(is_set: bool) -> None:
    if is_set:
        print(f"moorage {__version__}")
        raise typer.Exit


@program.callback()
def _options(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=_show_version, is_eager=True),
    ] = False,
    server_url: Annotated[
        str | None,
        typer.Option("--server", metavar="URL", help="As behind a command that takes it."),
    ] = None,
) -> None:
    """Take the options that come before the command."""
    if server_url is None:
        return
    context.obj = server_url
    os.environ["MOORAGE_SERVER"] = server_url  # where the command's own --server looks, too


@cache
def commands() -> Callable[..., object]:
    """Return the whole command line, ready to run; a process makes it once."""
    return typer.main.get_command(program)


def main() -> None:
    """Run the command line and exit."""
    # Imports make a hundred thousand objects that stay; looking through them again and again is a
    # quarter of a command's CPU time. What runs longer ends the pause: `end_start`.
    gc.disable()
    prepare()
    take_signals()
    try:
        commands()(prog_name="moorage")
    except MoorageError as error:
        complain(str(error))
        sys.exit(exit_for(error))
