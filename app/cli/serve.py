"""`moorage serve` and `moorage migrate`."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.output import complain, emit
from app.cli.progress import busy
from app.cli.session import Anywhere, Here, run_local

if TYPE_CHECKING:
    from app.services.assembly import Services
    from app.settings import Settings

_AFTERWARDS = (
    "if there is no token yet, `moorage token create --platform --scope admin` makes one then"
)
_LOOPBACK = ("127.", "::1", "localhost")


def serve(_anywhere: Anywhere = None) -> None:
    """Run the service. On SQLite the database is brought up to date first."""
    from app import logs
    from app.server import serve as run
    from app.settings import load_settings
    from app.sockets import bind, bind_metrics
    from app.tls import certificate_of
    from app.wiring import prerequisites

    settings = load_settings()
    logs.configure(settings.log_level, settings.log_format)
    prerequisites.require(settings)
    certificate = certificate_of(settings.tls)
    sock, metrics_socket = bind(settings), bind_metrics(settings)
    port = sock.getsockname()[1]
    settings = settings.model_copy(update={"port": port})  # with 0 the system has chosen one
    _prepare(settings)
    _greet(settings, port)
    if certificate is not None and (note := certificate.note()):
        complain(f"warning: {note}")
    raise typer.Exit(run(settings, sock, metrics_socket))


def _prepare(settings: "Settings") -> None:
    """Migrate SQLite and make the first token; the secret is printed this once."""
    from app.core.errors import DatabaseBusyError, SchemaError, StoreAwayError
    from app.db.sqlite import is_sqlite
    from app.wiring import migrate as bring_up

    if is_sqlite(settings.resolved_database_url):
        bring_up(settings)
    try:
        secret = run_local(settings, _first_start)
    except StoreAwayError as error:
        complain(f"warning: {error}; {_AFTERWARDS}")
        return
    except (SchemaError, DatabaseBusyError) as error:
        if is_sqlite(settings.resolved_database_url):
            raise
        # The processes wait for the database, and say so in /readyz.
        complain(f"warning: {error}; {_AFTERWARDS}")
        return
    if secret is not None:
        print(
            f"\nAdmin token, shown this once (only its hash is stored):\n\n    {secret}\n",
            file=sys.stderr,
        )


async def _first_start(services: "Services") -> str | None:
    """Make the first token, and with it the default tenant; return the secret, this once.

    A secret that the key does not open is told here, not at its first use.
    """
    if places := await services.upkeep.rotation.unopened():
        complain(
            f"warning: the key of secrets does not open {len(places)} of the database's secrets, "
            f"{places[0]} for one: they were sealed under another key; enter them again"
        )
    secret = await services.tenants.tokens.create_first()
    if secret is not None:
        await services.tenants.tenants.create_default()
    return secret


def _greet(settings: "Settings", port: int) -> None:
    """Tell what to do next."""
    from app.cli.inprocess import base_url

    here = base_url(settings, port)
    base = settings.public_url or here
    print(
        f"Moorage listens on {here}, data in {settings.data_dir}\n"
        f"  modules      go env -w GOPROXY={base}/goproxy/default\n"
        # The name of a release is the index's to say, which was perhaps not read yet.
        f"  toolchains   curl -fOL {base}/dl/$(curl -fsS {base}/VERSION | head -n 1).src.tar.gz\n"
        f"  for people   {base}/, downloads {base}/dl/, admin API {base}/docs",
        file=sys.stderr,
    )
    if not settings.host.startswith(_LOOPBACK):
        complain(
            f"warning: {settings.host} is not a loopback address; downloads, and tenants with "
            "anonymous reading, need no token: everybody who reaches it can read"
        )


def migrate(
    bind: Annotated[
        bool,
        typer.Option(
            "--bind",
            help="Declare that this database, the -wal beside it and this data folder belong "
            "together, after the start refused them.",
        ),
    ] = False,
    bind_store: Annotated[
        bool,
        typer.Option(
            "--bind-store",
            help="Declare that the store of MOORAGE_STORAGE__URL has all blobs of this database "
            "from now on, and of no other.",
        ),
    ] = False,
    new_secrets_key: Annotated[
        bool,
        typer.Option(
            "--new-secrets-key",
            help="Declare that the key of the database's secrets is lost: the present one, or a "
            "new one, takes its place, and the secrets are to be entered again.",
        ),
    ] = False,
    _here: Here = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Bring the database to the schema of this program."""
    from app import logs
    from app.settings import load_settings
    from app.wiring import migrate as bring_up

    settings = load_settings()
    # stdout has the result alone.
    logs.configure("warning", settings.log_format, sys.stderr)
    with busy("migrating"):
        before, after = bring_up(
            settings, bind=bind, bind_store=bind_store, new_secrets_key=new_secrets_key
        )
    emit({"before": before, "after": after}, as_json, _migrated)
    if new_secrets_key:
        complain(
            "the key of secrets is the present one from now on; `moorage doctor` and each start "
            "name what it does not open"
        )


def _migrated(result: dict[str, str | None]) -> str:
    if result["before"] == result["after"]:
        return f"the database is at {result['after']} already"
    return f"migrated from {result['before'] or 'an empty database'} to {result['after']}"
