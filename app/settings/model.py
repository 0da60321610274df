"""`Settings`: all sections together, and the rules between them."""

from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from app.settings import files, urls, values
from app.settings.rules import Contradiction, contradictions
from app.settings.sections.fields import AnyPath, Section, Whole
from app.settings.sections.limits import Limits
from app.settings.sections.modules import Git, Modules, Sumdb
from app.settings.sections.network import Metrics, Network, Otel, Tls
from app.settings.sections.releases import Fleet, Releases
from app.settings.sections.storage import Backup, DatabaseWaits, Retention, Storage
from app.settings.values import Form, Secret

CONTRADICTION: Final = "contradiction"


class Settings(Section):
    """Every setting, valid by itself and together with the others.

    `Settings(data_dir=Path("/srv/moorage"))` sets one setting; all others have their defaults.
    Only `load_settings` reads the environment.
    """

    data_dir: Annotated[
        AnyPath,
        AfterValidator(files.directory),
        Form("the path of a directory"),
        Field(description="Blobs, database, keys and staged files; one local file system."),
    ] = Path("data")
    database_url: Annotated[
        Annotated[str, AfterValidator(urls.database_url)] | None,
        Secret(),
        Form("sqlite:////absolute/path.db or postgresql+psycopg://user:password@host/name"),
        Field(repr=False, description="The database. None: SQLite, moorage.db in the data dir."),
    ] = None
    secrets_key: Annotated[
        Annotated[str, AfterValidator(values.secrets_key)] | None,
        Secret(),
        Form("32 bytes in base64, as `openssl rand -base64 32` prints them"),
        Field(
            repr=False,
            description="Key that seals upstreams' credentials in the database. None: the file"
            " keys/secrets.key in the data dir, made at the first start.",
        ),
    ] = None
    secrets_key_before: Annotated[
        Annotated[str, AfterValidator(values.secrets_key)] | None,
        Secret(),
        Form("32 bytes in base64, as `openssl rand -base64 32` prints them"),
        Field(
            repr=False,
            description="The key before MOORAGE_SECRETS_KEY; it still opens what it sealed, until"
            " `moorage secrets rotate` has ended.",
        ),
    ] = None
    public_url: Annotated[
        Annotated[str, AfterValidator(urls.public_url)] | None,
        BeforeValidator(values.none_if_empty),
        Form('an https:// URL without path: "https://moorage.example"'),
        Field(
            description="Where clients find this service, for their configuration. None: taken"
            " from the request that asks for it."
        ),
    ] = None
    host: Annotated[
        Annotated[str, AfterValidator(values.listen_host)],
        Form('an address or a host name: "127.0.0.1"'),
        Field(description="Address that the HTTP listener binds to."),
    ] = "127.0.0.1"
    port: Annotated[
        Whole, Field(ge=0, le=65535, description="TCP port of the listener. 0: any free one.")
    ] = 8080
    workers: Annotated[Whole, Field(ge=1, le=64, description="Processes that serve HTTP.")] = 1
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Field(description="The least severe events that are logged."),
    ] = "info"
    log_format: Annotated[
        Literal["auto", "json", "text"],
        Field(description="How events are written. auto: text on a terminal, else JSON."),
    ] = "auto"
    drain_s: Annotated[
        Whole,
        Field(
            ge=0,
            le=3600,
            description="Seconds after SIGTERM during which new connections are still accepted.",
        ),
    ] = 5
    shutdown_s: Annotated[
        Whole,
        Field(ge=0, le=3600, description="Seconds that running requests get to end after that."),
    ] = 30
    releases: Annotated[Releases, Field(description="Go releases.")] = Releases()
    modules: Annotated[Modules, Field(description="The module proxy.")] = Modules()
    git: Annotated[Git, Field(description="Modules from git.")] = Git()
    sumdb: Annotated[Sumdb, Field(description="Checksum databases.")] = Sumdb()
    fleet: Annotated[Fleet, Field(description="Nodes that follow channels.")] = Fleet()
    network: Annotated[Network, Field(description="Upstream connections.")] = Network()
    database: Annotated[DatabaseWaits, Field(description="Time limits of PostgreSQL.")] = (
        DatabaseWaits()
    )
    storage: Annotated[Storage, Field(description="The blob store.")] = Storage()
    otel: Annotated[Otel, Field(description="Traces of requests.")] = Otel()
    retention: Annotated[Retention, Field(description="What is let go to make space.")] = (
        Retention()
    )
    backup: Annotated[Backup, Field(description="Backups.")] = Backup()
    tls: Annotated[Tls, Field(description="TLS without a proxy.")] = Tls()
    metrics: Annotated[Metrics, Field(description="A listener for metrics.")] = Metrics()
    limits: Annotated[Limits, Field(description="Limits on load and sizes.")] = Limits()

    @model_validator(mode="after")
    def _refuse_contradictions(self) -> Self:
        errors = [_line_error(rule) for rule in contradictions(self)]
        if errors:
            raise ValidationError.from_exception_data("Settings", errors)
        return self

    @property
    def resolved_database_url(self) -> str:
        """The database's URL: the one that is set, or "sqlite:////srv/moorage/moorage.db"."""
        return self.database_url or f"sqlite:///{self.data_dir / 'moorage.db'}"


def _line_error(rule: Contradiction) -> InitErrorDetails:
    context = {"text": rule.text, "others": rule.others}
    error = PydanticCustomError(CONTRADICTION, "{text}", context)
    return InitErrorDetails(type=error, loc=rule.path, input=None)
