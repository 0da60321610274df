"""`moorage sumdb`: tenants' own logs, proofs from them, and the public logs that are relayed."""

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli import sumdb_text as text
from app.cli.output import Exit, emit
from app.cli.prefetch import prefetch
from app.cli.progress import counted
from app.cli.session import PAGE, Json, ServerUrl, ask, ask_all, checked, path_of
from app.core.errors import BadInputError, UnknownError, VerificationError
from app.core.principal import OPERATOR

if TYPE_CHECKING:
    from app.services.assembly import Services

sumdb = typer.Typer(
    name="sumdb", help="Checksum databases: tenants' own, and relayed ones.", no_args_is_help=True
)

Tenant = Annotated[str, typer.Option("--tenant", help="Whose log.")]
Yes = Annotated[bool, typer.Option("--yes", help="Don't ask, on a terminal.")]
sumdb.command()(prefetch)


@sumdb.command()
def create(tenant: Tenant, server_url: ServerUrl = None, as_json: Json = False) -> None:
    """Make a tenant's own log with a new key, or show the one that is there."""
    from app.web.admin.operations import sumdb as operations

    async def work(services: "Services") -> Any:
        return (await operations.create_log(services, OPERATOR, tenant))[0]

    result = ask(server_url, "POST", path_of("tenants", tenant, "log"), work)
    emit(result, as_json, text.made)


@sumdb.command()
def show(tenant: Tenant, server_url: ServerUrl = None, as_json: Json = False) -> None:
    """Show a tenant's own log: its vkey, size and signed head."""
    from app.web.admin.operations import sumdb as operations

    result = ask(
        server_url,
        "GET",
        path_of("tenants", tenant, "log"),
        lambda c: operations.show_log(c, OPERATOR, tenant),
    )
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

    from app.web.admin.operations import sumdb as operations

    module, _, version = name.rpartition("@")
    if not module:
        raise BadInputError(f"{name[:200]!a} is not MODULE@VERSION")
    query = urlencode({"module": module, "version": version})
    result = ask(
        server_url,
        "GET",
        f"{path_of('tenants', tenant, 'log', 'proof')}?{query}",
        lambda c: operations.prove(c, OPERATOR, tenant, module, version),
    )
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
    with counted("records") as progress:
        if tenant is not None:
            found = [_verified(tenant, server_url, progress)]
        else:
            found = list(_all_verified(server_url, progress))
    emit(found if every else found[0], as_json, lambda _: text.reports(found))
    if not all(report["intact"] for report in found):
        raise typer.Exit(Exit.FAILED)


def _verified(tenant: str, server_url: str | None, progress: Any) -> dict[str, Any]:
    from app.web.admin.operations import sumdb as operations

    result = ask(
        server_url,
        "POST",
        path_of("tenants", tenant, "log", "verify"),
        lambda c: operations.verify(c, OPERATOR, tenant, progress),
        may_be_new=False,
    )
    return dict(result)


def _all_verified(server_url: str | None, progress: Any) -> list[dict[str, Any]]:
    from app.web.admin.operations import tenants as operations

    tenants = ask_all(
        server_url,
        "/tenants",
        lambda c, cursor: operations.list_tenants(c, OPERATOR, cursor=cursor, limit=PAGE),
        may_be_new=False,
    )
    found = []
    for tenant in tenants:
        try:
            found.append(_verified(tenant["name"], server_url, progress))
        except UnknownError:
            continue  # it has no log
    return found


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
    from app.web.admin.models.sumdb import RecoverIn
    from app.web.admin.operations import sumdb as operations

    if accept is None:
        typer.echo(text.BOTH_WAYS, err=True)
        raise typer.BadParameter("give --accept or --new-log")
    if not yes and sys.stdin.isatty():
        typer.echo(text.ACCEPTING if accept else text.STARTING_ANEW, err=True)
        typer.confirm("Go on?", abort=True, err=True)
    wanted = checked(RecoverIn, {"accept": accept})
    result = ask(
        server_url,
        "POST",
        path_of("tenants", tenant, "log", "recover"),
        lambda c: operations.recover(c, OPERATOR, tenant, wanted),
        wanted.model_dump(mode="json"),
        may_be_new=False,
    )
    emit(result, as_json, text.log if accept else text.made)


@sumdb.command()
def logs(server_url: ServerUrl = None, as_json: Json = False) -> None:
    """List the public logs that are relayed, and their newest heads."""
    emit(_relayed(server_url), as_json, text.relayed)


def _relayed(server_url: str | None) -> list[Any]:
    from app.web.admin.operations import sumdb as operations

    return ask_all(
        server_url,
        "/sumdb",
        lambda c, cursor: operations.list_relayed(c, OPERATOR, cursor=cursor, limit=PAGE),
    )


@sumdb.command()
def evidence(
    name: Annotated[str | None, typer.Argument(help="A log's name; without it, all.")] = None,
    server_url: ServerUrl = None,
    as_json: Json = False,
) -> None:
    """Show what relayed logs answered that was refused, with the signed heads that prove it."""
    asked = [name] if name else [one["name"] for one in _relayed(server_url) if one["evidence"]]
    found = []
    for log in asked:
        work = partial(_evidence_page, log)
        found += ask_all(server_url, path_of("sumdb", log, "evidence"), work)
    emit(found, as_json, text.evidence)


async def _evidence_page(log: str, services: "Services", cursor: str | None) -> Any:
    from app.web.admin.operations import sumdb as operations

    return await operations.list_evidence(services, OPERATOR, log, cursor=cursor, limit=PAGE)
