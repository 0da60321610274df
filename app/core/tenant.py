"""A tenant: a team, business unit or customer with its own view. Its rules are `acl`'s.

Names are lower-case letters, digits and dashes, 1 to 63 of them, and have no dot: so the first
element after "/goproxy/" is either a tenant or, having a dot, a module path's beginning.
"""

import re
from typing import Annotated

from app.core.acl import Effect
from app.core.errors import BadInputError
from app.core.noun import (
    AfterValidator,
    Field,
    Noun,
    Recorded,
    StrictBool,
    StrictInt,
    line,
    passes,
    refuse,
)

DEFAULT_TENANT = "default"
RESERVED = frozenset({"sumdb", "cached-only", "platform"})
MAX_TITLE_CHARS = 200
MAX_HOSTS = 20
MAX_LIMIT = 1_000_000

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})*", re.ASCII)


def check_tenant_name(name: str) -> None:
    """Return if name can be a tenant's.

    Raises:
        BadInputError: the message says what is wrong.
    """
    if not _NAME.fullmatch(name):
        raise BadInputError(
            f"{name[:80]!a} can't be a tenant's name: 1 to 63 lower-case letters, digits and "
            "dashes, no dash at either end"
        )
    if name in RESERVED:
        raise BadInputError(f"{name!r} has a meaning in URLs and can't be a tenant's name")


def check_host(host: str) -> None:
    """Return if host is a lower-case host name without a port.

    Raises:
        BadInputError: it is not.
    """
    if len(host) > 253 or not _HOST.fullmatch(host):
        raise BadInputError(f"{host[:80]!a} is not a lower-case host name without a port")


def _each_once(hosts: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(hosts)) < len(hosts):
        raise refuse("a host comes twice")
    return tuple(sorted(hosts))


_Limit = Annotated[StrictInt, Field(ge=1, le=MAX_LIMIT)] | None
_Name = Annotated[str, Field(max_length=63), AfterValidator(passes(check_tenant_name))]
_Host = Annotated[str, Field(max_length=253), AfterValidator(passes(check_host))]
_Hosts = Annotated[tuple[_Host, ...], Field(max_length=MAX_HOSTS), AfterValidator(_each_once)]


class TenantLimits(Noun):
    """What one tenant may take; null means the setting's value for all tenants.

    streams: bodies sent at once.
    cold: fetches from upstreams at once.
    rate: requests a second that are not answered from memory.
    """

    streams: _Limit = None
    cold: _Limit = None
    rate: _Limit = None


class TenantSettings(Noun):
    """All that an admin decides about a tenant, besides its name.

    default: what happens to modules that no rule is about.
    anonymous_read: whether reading needs no token.
    enabled: false refuses every request.
    hosts: lower-case host names, without port, that lead to this tenant.
    """

    title: Annotated[str, *line("title", MAX_TITLE_CHARS)] = ""
    default: Effect = Effect.DENY
    anonymous_read: StrictBool = False
    enabled: StrictBool = True
    hosts: _Hosts = ()
    limits: TenantLimits = TenantLimits()


class Tenant(TenantSettings):
    """A tenant: its name, and what an admin decides about it."""

    name: _Name


class RecordedTenant(Tenant, Recorded):
    """One tenant; revision is what its ETag says."""

    id: int = Field(exclude=True)
