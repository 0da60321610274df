"""`moorage credential`: what upstreams are shown. No secret is an argument: `ps` shows those."""

import getpass
import sys
from pathlib import Path
from typing import Annotated

import typer

from app.cli import tenants_text as text
from app.cli.api import path_of
from app.cli.output import emit
from app.cli.session import Json, ServerUrl, ask, ask_all
from app.core.errors import BadInputError

credential = typer.Typer(
    name="credential", help="What a tenant's upstreams are shown.", no_args_is_help=True
)

_Name = Annotated[str, typer.Argument(metavar="NAME", help="What routes call it.")]
_Tenant = Annotated[str, typer.Option("--tenant", help="Whose it is.")]
_MAX_BYTES = 64 * 1024


@credential.command("set")
def put(
    name: _Name,
    tenant: _Tenant,
    username: Annotated[
        str, typer.Option("--username", help="For Basic; without it, the secret is a Bearer token.")
    ] = "",
    secret_file: Annotated[
        Path | None,
        typer.Option("--secret-file", help="Where the secret is; without it, it comes on stdin."),
    ] = None,
    ssh_key_file: Annotated[
        Path | None,
        typer.Option("--ssh-key-file", help="A private key without a passphrase, for git+ssh."),
    ] = None,
    github_app: Annotated[
        str,
        typer.Option(
            "--github-app",
            metavar="APP/INSTALLATION",
            help="Ids of a GitHub App, for git+https; the secret is the app's private key.",
        ),
    ] = "",
    server_url: ServerUrl = None,
    as_json: Json = False,
) -> None:
    """Record a credential, or give it another secret; a terminal is asked without echo."""
    _check_exclusive(
        {
            "--username": bool(username),
            "--ssh-key-file": ssh_key_file is not None,
            "--github-app": bool(github_app),
        }
    )
    _check_exclusive(
        {"--secret-file": secret_file is not None, "--ssh-key-file": ssh_key_file is not None}
    )
    kind = "basic" if username else "bearer"
    if ssh_key_file is not None:
        kind, secret_file = "ssh_key", ssh_key_file
    if github_app:
        kind, username = "github_app", github_app
    body = {"kind": kind, "username": username, "secret": _secret(name, secret_file)}
    result = ask(server_url, "PUT", path_of("tenants", tenant, "credentials", name), body)
    emit(result, as_json, lambda r: _recorded(r, tenant))


def _check_exclusive(options: dict[str, bool]) -> None:
    """Return if at most one of the options was given.

    Raises:
        BadInputError: several were; one of them would have no effect.
    """
    names = [name for name, is_there in options.items() if is_there]
    if len(names) > 1:
        raise BadInputError(f"{' and '.join(names)} exclude each other")


def _recorded(result: dict[str, object], tenant: str) -> str:
    name = result["name"]
    return (
        f"credential {name} of tenant {tenant} is recorded; "
        f"`moorage route add --credential {name}` uses it"
    )


def _secret(name: str, path: Path | None) -> str:
    """Return the secret without the line break at its end."""
    if path is not None:
        return read_secret(path)
    if sys.stdin.isatty():
        secret = getpass.getpass(f"Secret of {name}: ")
    else:
        secret = sys.stdin.read(_MAX_BYTES)
    return secret.rstrip("\r\n")


def read_secret(path: Path) -> str:
    """Return the secret in a file without the line break at its end.

    Raises:
        BadInputError: the file can't be read, or holds what is no secret; it is not shown.
    """
    try:
        with path.open("rb") as file:
            return file.read(_MAX_BYTES).decode("ascii").rstrip("\r\n")
    except OSError as error:
        raise BadInputError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadInputError(f"{path}: a secret is visible ASCII") from error


@credential.command("list")
def list_credentials(tenant: _Tenant, server_url: ServerUrl = None, as_json: Json = False) -> None:
    """List a tenant's credentials; secrets are never shown."""
    credentials = ask_all(server_url, path_of("tenants", tenant, "credentials"))
    emit(credentials, as_json, text.credentials)


@credential.command()
def remove(
    name: _Name, tenant: _Tenant, server_url: ServerUrl = None, as_json: Json = False
) -> None:
    """Remove a credential that no route uses."""
    ask(server_url, "DELETE", path_of("tenants", tenant, "credentials", name))
    emit({"name": name, "removed": True}, as_json, lambda _: f"credential {name} is removed")
