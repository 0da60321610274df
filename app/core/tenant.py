"""A tenant: a team, business unit or customer with its own view.

Not here: its rules (`acl`), and what a name may be (`tenantname`).
"""

from collections.abc import Iterable
from typing import Annotated

from app.core.channel import ChannelName
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
from app.core.privatehost import MAX_PRIVATE_HOST_CHARS, check_private_host
from app.core.tenantname import check_host, check_tenant_name

DEFAULT_TENANT = "default"
MAX_TITLE_CHARS = 200
MAX_HOSTS = 20
MAX_LIMIT = 1_000_000
MAX_QUOTA_BYTES = 1 << 60


def _each_once(hosts: Iterable[str]) -> tuple[str, ...]:
    hosts = tuple(hosts)
    if len(set(hosts)) < len(hosts):
        raise refuse("a host comes twice")
    return tuple(sorted(hosts))


_Limit = Annotated[StrictInt, Field(ge=1, le=MAX_LIMIT)] | None
_Name = Annotated[str, Field(max_length=63), AfterValidator(passes(check_tenant_name))]
_Host = Annotated[str, Field(max_length=253), AfterValidator(passes(check_host))]
_PrivateHost = Annotated[
    str, Field(max_length=MAX_PRIVATE_HOST_CHARS), AfterValidator(passes(check_private_host))
]
_PrivateHosts = Annotated[
    tuple[_PrivateHost, ...], Field(max_length=MAX_HOSTS), AfterValidator(_each_once)
]
_Hosts = Annotated[tuple[_Host, ...], Field(max_length=MAX_HOSTS), AfterValidator(_each_once)]


class TenantLimits(Noun):
    """What one tenant may take; null means the setting's value for all tenants.

    streams: bodies sent at once.
    cold: fetches from upstreams at once.
    rate: requests a second that are not answered from memory.
    quota_bytes: of module files that were fetched or published for it; null means none.
    """

    streams: _Limit = None
    cold: _Limit = None
    rate: _Limit = None
    quota_bytes: Annotated[StrictInt, Field(ge=1, le=MAX_QUOTA_BYTES)] | None = None


class TenantSettings(Noun):
    """All that an admin decides about a tenant, besides its name.

    default: what happens to modules that no rule is about.
    anonymous_read: whether reading needs no token.
    enabled: false refuses every request.
    hosts: lower-case host names, without port, that lead to this tenant.
    private_hosts: hosts in the own network that its upstreams may have: "athens.corp.example:3000",
        "*.corp.example", "10.1.2.3". They are closed to every tenant that does not list them.
    toolchains: the channel whose releases are the only toolchains for `go`; null leaves them to
        the rules.
    """

    title: Annotated[str, *line("title", MAX_TITLE_CHARS)] = ""
    default: Effect = Effect.DENY
    anonymous_read: StrictBool = False
    enabled: StrictBool = True
    hosts: _Hosts = ()
    private_hosts: _PrivateHosts = ()
    toolchains: ChannelName | None = None
    limits: TenantLimits = TenantLimits()


class Tenant(TenantSettings):
    """A tenant: its name, and what an admin decides about it."""

    name: _Name


class RecordedTenant(Tenant, Recorded):
    """One tenant; revision is what its ETag says."""

    id: int = Field(exclude=True)
