"""A tenant: a team, business unit or customer with its own view.

Not here: its rules (`acl`), and what a name may be (`tenantname`).
"""

from typing import Annotated

from app.core.effect import Effect
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
from app.core.tenantname import check_host, check_tenant_name

DEFAULT_TENANT = "default"
MAX_TITLE_CHARS = 200
MAX_HOSTS = 20
MAX_LIMIT = 1_000_000


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
