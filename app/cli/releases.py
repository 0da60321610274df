"""`moorage releases`: what is mirrored, and mirroring more."""

import time
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from app.cli import releases_text as text
from app.cli.output import Exit, complain, emit
from app.cli.remote import server
from app.cli.session import Json, ServerUrl, ask, local
from app.core.errors import KeyringError

_POLL_S = 1.0
_API = "/api/v1"

releases = typer.Typer(name="releases", help="Mirror and verify Go releases.", no_args_is_help=True)
keys = typer.Typer(name="keys", help="The key that signatures are judged by.", no_args_is_help=True)
releases.add_typer(keys)


@releases.command()
def plan(server_url: ServerUrl = None, as_json: Json = False) -> None:
    """Tell what `sync` would fetch, how many bytes, and why each file is chosen."""
    from app.web.admin.operations import releases as operations

    result = ask(server_url, "GET", "/releases/plan", operations.plan)
    emit(result, as_json, text.plan)
    if result["index_error"]:
        complain(f"the index could not be read anew: {result['index_error']}")


@releases.command()
def sync(server_url: ServerUrl = None, as_json: Json = False) -> None:
    """Mirror the selection: fetch, verify and store what is missing."""
    result = _sync_there(server_url) if server_url else _sync_here()
    emit(result, as_json, text.synced)
    if result["index_error"]:
        complain(f"the index could not be read anew: {result['index_error']}")
    if result["failed"]:
        raise typer.Exit(Exit.FAILED)


def _sync_here() -> Any:
    from app.cli.progress import downloads
    from app.services.releases.sync import sync_report
    from app.web.admin.operations import releases as operations

    with downloads() as report:
        return sync_report(local(lambda s: operations.sync_now(s, "cli", report)))


def _sync_there(server_url: str) -> Any:
    there = server(server_url)
    job = there.call("POST", f"{_API}/releases/sync")
    complain(f"job {job['id']} was queued; waiting for it (Ctrl-C leaves it running)")
    try:
        while job["state"] in {"queued", "running"}:
            time.sleep(_POLL_S)
            job = there.call("GET", f"{_API}/jobs/{job['id']}")
    except KeyboardInterrupt:
        complain("interrupted; the job goes on there")
        raise typer.Exit(Exit.FAILED) from None
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
    pages: list[Any] = []
    cursor: str | None = None
    while True:
        page = _page(server_url, cursor, offered=not known)
        pages += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    emit(pages, as_json, text.releases)


def _page(server_url: str | None, cursor: str | None, *, offered: bool) -> Any:
    from app.web.admin.operations import releases as operations

    limit = operations.PAGE_MAX
    after = f"&cursor={quote(cursor)}" if cursor else ""
    path = f"/releases?limit={limit}&offered={str(offered).lower()}{after}"
    return ask(
        server_url,
        "GET",
        path,
        lambda c: operations.list_releases(c, cursor=cursor, limit=limit, offered_only=offered),
    )


@releases.command()
def show(name: str, server_url: ServerUrl = None, as_json: Json = False) -> None:
    """Show a release ("1.27.1"), or one file with its verdict and where it came from."""
    from app.web.admin.operations import releases as operations

    is_file = name.endswith((".gz", ".zip", ".msi", ".pkg"))
    if is_file:
        request = ("GET", f"/releases/files/{quote(name)}")
        result = ask(server_url, *request, lambda c: operations.show_file(c, name))
    else:
        request = ("GET", f"/releases/{quote(name)}")
        result = ask(server_url, *request, lambda c: operations.show_release(c, name))
    emit(result, as_json, text.file if is_file else text.release)


@releases.command()
def verify(filename: str, server_url: ServerUrl = None, as_json: Json = False) -> None:
    """Fetch and verify a file, or judge it again if it is held back."""
    from app.web.admin.operations import releases as operations

    request = ("POST", f"/releases/files/{quote(filename)}/verify")
    result = ask(server_url, *request, lambda c: operations.verify_file(c, filename, "cli"))
    emit(result, as_json, text.file)
    if not result["offered"]:
        raise typer.Exit(Exit.FAILED)


@keys.command("list")
def list_keys(server_url: ServerUrl = None, as_json: Json = False) -> None:
    """Show the active keyring and its signing subkeys."""
    from app.web.admin.operations import releases as operations

    result = ask(server_url, "GET", "/releases/keys", operations.show_keyring)
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
    from app.web.admin.models.releases import KeyringIn
    from app.web.admin.operations import releases as operations

    wanted = KeyringIn(armored=_armored(export), fetch=fetch, replace=replace)
    result = ask(
        server_url,
        "POST",
        "/releases/keys",
        lambda c: operations.refresh_keyring(c, wanted, "cli"),
        wanted.model_dump(mode="json"),
    )
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
