"""`moorage sumdb`: tenants' own logs, proofs from them, and the public logs that are relayed."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli import sumdb_text as text
from app.cli.api import Api, path_of
from app.cli.output import Exit, agreed, emit
from app.cli.prefetch import prefetch
from app.cli.progress import counted
from app.cli.session import Anywhere, Json, ServerUrl, admin_api, ask, ask_all
from app.core.errors import BadInputError, UnknownError, VerificationError

sumdb = typer.Typer(
    name="sumdb", help="Checksum databases: tenants' own, and relayed ones.", no_args_is_help=True
)

Tenant = Annotated[str, typer.Option("--tenant", help="Whose log.")]
Yes = Annotated[bool, typer.Option("--yes", help="Don't ask, on a terminal.")]
sumdb.command()(prefetch)


@sumdb.command()
def create(tenant: Tenant, server_url: ServerUrl = None, as_json: Json = False) -> None:
    """Make a tenant's own log with a new key, or show the one that is there."""
    result = ask(server_url, "POST", path_of("tenants", tenant, "log"))
    emit(result, as_json, text.made)


@sumdb.command()
def show(tenant: Tenant, server_url: ServerUrl = None, as_json: Json = False) -> None:
    """Show a tenant's own log: its vkey, size and signed head."""
    result = ask(server_url, "GET", path_of("tenants", tenant, "log"))
    emit(result, as_json, text.log)


@sumdb.command()
def prove(
    name: Annotated[str, typer.Argument(metavar="MODULE@VERSION")],
    tenant: Tenant,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write the proof there.")
    ] = None,
    server_url: ServerUrl = None,
    as_json: Json = False,
) -> None:
    """Print the proof that a version is in the log; `sumdb check` needs only it and the vkey."""
    from urllib.parse import urlencode

    module, _, version = name.rpartition("@")
    if not module:
        raise BadInputError(f"{name[:200]!a} is not MODULE@VERSION")
    query = urlencode({"module": module, "version": version})
    result = ask(server_url, "GET", f"{path_of('tenants', tenant, 'log', 'proof')}?{query}")
    if out is None:
        emit(result, as_json, lambda r: str(r["text"]).removesuffix("\n"))
        return
    try:
        out.write_bytes(result["text"].encode())
    except OSError as error:
        raise BadInputError(f"{out}: {error.strerror}") from error
    emit(result, as_json, lambda r: text.proof(r, str(out)))


@sumdb.command()
def check(
    proof: Annotated[Path, typer.Argument(metavar="PROOFFILE", help="As `prove` wrote it.")],
    vkey: Annotated[str, typer.Option("--vkey", help="The log's key, from a trusted place.")],
    _anywhere: Anywhere = None,
    as_json: Json = False,
) -> None:
    """Check a proof with nothing but the log's key; ends with 1 if it does not hold."""
    from app.core.notekey import parse_vkey
    from app.core.proof import check_proof

    verifier = parse_vkey(vkey)
    try:
        raw = proof.read_bytes()
    except OSError as error:
        raise BadInputError(f"{proof}: {error.strerror}") from error
    try:
        included = check_proof(raw, verifier)
    except BadInputError as error:
        raise VerificationError(f"{proof} proves nothing: {error}") from error
    emit(text.included(included), as_json, text.holds)


@sumdb.command()
def verify(
    tenant: Annotated[str | None, typer.Option("--tenant", help="Whose log.")] = None,
    every: Annotated[bool, typer.Option("--all", help="The logs of all tenants.")] = False,
    server_url: ServerUrl = None,
    as_json: Json = False,
) -> None:
    """Check whole logs against themselves and what is stored; ends with 1 if one is not whole."""
    if every is (tenant is not None):
        raise typer.BadParameter("give --tenant NAME, or --all")
    with (
        counted("records") as progress,
        admin_api(server_url, progress=progress) as api,
    ):
        reports = _all_verified(api) if tenant is None else [_verified(api, tenant)]
    emit(reports if every else reports[0], as_json, lambda _: text.reports(reports))
    if not all(report["intact"] for report in reports):
        raise typer.Exit(Exit.FAILED)


def _verified(api: Api, tenant: str) -> dict[str, Any]:
    return dict(api.ask("POST", path_of("tenants", tenant, "log", "verify")))


def _all_verified(api: Api) -> list[dict[str, Any]]:
    reports = []
    for tenant in api.list("/tenants"):
        try:
            reports.append(_verified(api, tenant["name"]))
        except UnknownError:
            continue  # the tenant has no log
    return reports


@sumdb.command()
def recover(
    tenant: Tenant,
    accept: Annotated[
        bool | None,
        typer.Option("--accept/--new-log", help="Go on as it is, or with another name and key."),
    ] = None,
    yes: Yes = False,
    server_url: ServerUrl = None,
    as_json: Json = False,
) -> None:
    """Decide how a log goes on after an older database was restored.

    --accept goes on with the records that the database has, under the same name and key. --new-log
    starts another log; the old one answers, and takes no more records.
    """
    if accept is None:
        typer.echo(text.BOTH_WAYS, err=True)
        raise typer.BadParameter("give --accept or --new-log")
    if not yes and sys.stdin.isatty():
        typer.echo(text.ACCEPTING if accept else text.STARTING_ANEW, err=True)
        if not agreed("Go on?"):
            raise typer.Exit(Exit.FAILED)
    result = ask(
        server_url,
        "POST",
        path_of("tenants", tenant, "log", "recover"),
        {"accept": accept},
    )
    emit(result, as_json, text.log if accept else text.made)


@sumdb.command()
def logs(server_url: ServerUrl = None, as_json: Json = False) -> None:
    """List the public logs that are relayed, and their newest heads."""
    emit(ask_all(server_url, "/sumdb"), as_json, text.relayed)


@sumdb.command()
def evidence(
    name: Annotated[str | None, typer.Argument(help="A log's name; without it, all.")] = None,
    server_url: ServerUrl = None,
    as_json: Json = False,
) -> None:
    """Show what relayed logs answered that was refused, with the signed heads that prove it."""
    items = []
    with admin_api(server_url) as api:
        names = [name] if name else [log["name"] for log in api.list("/sumdb") if log["evidence"]]
        for log in names:
            items += api.list(path_of("sumdb", log, "evidence"))
    emit(items, as_json, text.evidence)
