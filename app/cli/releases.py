"""`moorage releases`: what is mirrored, and mirroring more."""

from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode

import typer

from app.cli import releases_text as text
from app.cli.api import path_of
from app.cli.group import Group
from app.cli.job import followed
from app.cli.output import Exit, complain, emit
from app.cli.progress import busy
from app.cli.releases_upload import planned_uploads, send_file
from app.cli.session import Json, ServerUrl, admin_api, ask, ask_all, local
from app.core.errors import KeyringError
from app.core.ownrelease import own_name
from app.core.releasename import is_filename

_Names = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="VERSION|FILE",
        show_default=False,
        help="Instead of the selection: 1.27.1, 1.27 (its newest patch), or a file's name.",
    ),
]

releases = typer.Typer(name="releases", help="Mirror and verify Go releases.", no_args_is_help=True)
keys = typer.Typer(name="keys", help="The key that signatures are judged by.", no_args_is_help=True)
releases.add_typer(keys, cls=Group)


@releases.command()
def plan(names: _Names = None, server_url: ServerUrl = None, as_json: Json = False) -> None:
    """Tell what `sync` would fetch, how many bytes, and why each file is chosen."""
    query = urlencode([("name", name) for name in names or []])
    result = ask(server_url, "GET", f"/releases/plan?{query}" if query else "/releases/plan")
    emit(result, as_json, text.plan)
    if result["index_error"]:
        complain(f"the index could not be read anew: {result['index_error']}")


@releases.command()
def sync(names: _Names = None, server_url: ServerUrl = None, as_json: Json = False) -> None:
    """Mirror the selection, or what is named: fetch, verify and store what is missing.

    A named release stands for its files of the selected platforms and kinds.
    """
    result = _sync_there(server_url, names or []) if server_url else _sync_here(names or [])
    emit(result, as_json, text.synced)
    if result["index_error"]:
        complain(f"the index could not be read anew: {result['index_error']}")
    if result["failed"]:
        raise typer.Exit(Exit.FAILED)


def _sync_here(names: list[str]) -> Any:
    from app.cli.progress import downloads
    from app.core.principal import OPERATOR
    from app.services.releases.sync import sync_report

    with downloads() as report:
        return sync_report(
            local(
                lambda services: services.releases.sync.sync(
                    names, actor=OPERATOR.actor, report=report
                )
            )
        )


def _sync_there(server_url: str, names: list[str]) -> Any:
    with admin_api(server_url) as api:
        job = api.ask("POST", "/releases/sync", {"names": names})
        complain(f"job {job['id']} was queued; waiting for it (Ctrl-C leaves it running)")
        job = followed(api, job)
    if job["state"] == "failed":
        complain(job["result"]["error"])
        raise typer.Exit(Exit.FAILED)
    return job["result"]


@releases.command("list")
def list_releases(
    server_url: ServerUrl = None,
    as_json: Json = False,
    known: Annotated[bool, typer.Option("--all", help="Also what is not offered.")] = False,
) -> None:
    """List releases, newest first: support, and how many files are here."""
    path = f"/releases?offered={str(not known).lower()}"
    emit(ask_all(server_url, path), as_json, text.releases)


@releases.command()
def show(name: str, server_url: ServerUrl = None, as_json: Json = False) -> None:
    """Show a release ("1.27.1"), or one file with its verdict and where it came from."""
    is_file = is_filename(name)
    path = path_of("releases", "files", name) if is_file else path_of("releases", name)
    result = ask(server_url, "GET", path)
    emit(result, as_json, text.file if is_file else text.release)


@releases.command()
def verify(filename: str, server_url: ServerUrl = None, as_json: Json = False) -> None:
    """Fetch and verify a file, or judge it again if it is held back."""
    with busy(f"fetching and verifying {filename}"):
        result = ask(server_url, "POST", path_of("releases", "files", filename, "verify"))
    emit(result, as_json, text.file)
    if not result["offered"]:
        raise typer.Exit(Exit.FAILED)


@releases.command()
def publish(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE…", help="Archives, installers, the source.")
    ],
    version: Annotated[
        str, typer.Option("--version", help="The release: go1.25.9-corp1. Every FILE is of it.")
    ],
    signatures: Annotated[
        list[Path] | None,
        typer.Option(
            "--signature",
            metavar="FILE.asc",
            show_default=False,
            help="A detached signature, for each FILE in turn. Default: FILE.asc, where it exists.",
        ),
    ] = None,
    sums: Annotated[
        list[str] | None,
        typer.Option(
            "--sha256",
            metavar="HEX",
            show_default=False,
            help="What each FILE in turn must have, where nobody signs it.",
        ),
    ] = None,
    server_url: ServerUrl = None,
    as_json: Json = False,
) -> None:
    """Publish files of a release of your own, which go.dev does not have.

    Files never change: the same file again is accepted, another one of the same name is refused.
    """
    release = own_name(version)
    planned = planned_uploads(files, release, signatures or [], sums or [])
    with admin_api(server_url) as api:
        results = [send_file(api, one) for one in planned]
    emit(results, as_json, text.published)


@releases.command()
def retire(
    version: Annotated[str, typer.Argument(help="A release of your own: go1.25.9-corp1.")],
    reason: Annotated[str, typer.Option("--reason", help="One line for people.")] = "",
    gone: Annotated[
        bool,
        typer.Option(
            "--gone", help="For a leak: remove the bytes and answer 410 for ever. Not undone."
        ),
    ] = False,
    server_url: ServerUrl = None,
    as_json: Json = False,
) -> None:
    """Take a release of your own out of every list; whoever names a file of it still gets it.

    A channel that offers the release is set to another one first. Retiring is not undone.
    """
    body = {"reason": reason, "gone": gone}
    path = path_of("releases", own_name(version), "retire")
    emit(ask(server_url, "POST", path, body), as_json, text.withdrawal)


@keys.command("list")
def list_keys(server_url: ServerUrl = None, as_json: Json = False) -> None:
    """Show the active keyring and its signing subkeys."""
    result = ask(server_url, "GET", "/releases/keys")
    emit(result, as_json, text.keyring)


@keys.command()
def refresh(
    export: Annotated[
        Path | None, typer.Argument(help="An armored export; without it the configured one.")
    ] = None,
    fetch: Annotated[
        bool, typer.Option("--fetch", help="Read it from MOORAGE_RELEASES__KEYRING_URL.")
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Accept an export that lacks known subkeys.")
    ] = False,
    server_url: ServerUrl = None,
    as_json: Json = False,
) -> None:
    """Take over a newer export of the pinned key, and judge again what was held back."""
    body = {"armored": _armored(export), "fetch": fetch, "replace": replace}
    with busy("judging again what was held back"):
        result = ask(server_url, "POST", "/releases/keys", body)
    emit(result, as_json, text.key_change)


def _armored(export: Path | None) -> str | None:
    if export is None:
        return None
    try:
        return export.read_text("ascii")
    except OSError as error:
        raise KeyringError(f"{export}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise KeyringError(f"{export} is not an armored export") from error
