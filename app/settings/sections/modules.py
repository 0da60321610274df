"""Settings of the module proxy and of checksum databases."""

from typing import Annotated

from pydantic import AfterValidator, Field

from app.settings import urls, values
from app.settings.sections.fields import Section, Unique, Whole
from app.settings.values import Form


class Modules(Section):
    """The module proxy."""

    upstream: Annotated[
        Annotated[str, AfterValidator(urls.upstream_url)],
        Form('an https:// URL without user, query and fragment: "https://proxy.golang.org"'),
        Field(description="GOPROXY upstream of a new tenant's route for everything."),
    ] = "https://proxy.golang.org"
    redirect_to: Annotated[
        tuple[Annotated[str, AfterValidator(urls.redirect_target)], ...],
        Unique,
        Form('a JSON list of hosts or origins: ["cdn.example", "https://cdn.example:8443"]'),
        Field(
            max_length=20,
            description="Where that upstream may redirect to besides its own host, in a new"
            " tenant's route. The stores of known public proxies need no entry.",
        ),
    ] = ()
    max_age_s: Annotated[
        Whole,
        Field(
            ge=0,
            le=31_536_000,
            description="Seconds for which caches in front may keep module files of tenants with"
            " anonymous read. A denial takes up to that long to hold there.",
        ),
    ] = 3600


class Git(Section):
    """Modules from git."""

    repository_bytes: Annotated[
        Whole,
        Field(
            ge=1 << 20,
            le=1 << 40,
            description="Bytes of one repository at most: of each fetch, and of its mirror.",
        ),
    ] = 2 << 30
    mirrors_bytes: Annotated[
        Whole,
        Field(
            ge=1 << 20,
            le=1 << 50,
            description="Bytes of all mirrors together. Beyond it those that were used longest ago "
            "are removed; they are fetched again when they are needed.",
        ),
    ] = 50 << 30


class PublicLog(Section):
    """A checksum database that is relayed."""

    name: Annotated[str, AfterValidator(values.log_name)]
    vkey: str
    url: Annotated[str, AfterValidator(urls.upstream_url)]


SUM_GOLANG_ORG = PublicLog(
    name="sum.golang.org",
    vkey="sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8",
    url="https://sum.golang.org",
)


class Sumdb(Section):
    """Checksum databases: public ones that are relayed, and the tenants' own."""

    upstreams: Annotated[
        tuple[PublicLog, ...],
        AfterValidator(values.logs_by_name),
        Form('a JSON list of {"name": …, "vkey": …, "url": …}; [] relays none'),
        Field(
            description="Relayed checksum databases; the first one verifies modules of public"
            " routes."
        ),
    ] = (SUM_GOLANG_ORG,)
    log_name: Annotated[
        Annotated[str, AfterValidator(values.log_name_pattern)],
        Form('a host, with a port or path, that has {tenant} in it: "sum.corp.example/{tenant}"'),
        Field(
            description="The name of a tenant's own checksum database, given once when it is made."
        ),
    ] = "moorage.internal/{tenant}"
