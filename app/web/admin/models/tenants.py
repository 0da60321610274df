"""Tenants."""

from datetime import datetime
from typing import Annotated

from pydantic import Field, StrictBool, StrictInt

from app.core.acl import Effect
from app.core.tenant import MAX_TITLE_CHARS, Tenant
from app.services.tenants.drafts import MAX_HOSTS, MAX_LIMIT
from app.web.admin.models.base import In, Out

_Limit = Annotated[StrictInt, Field(ge=1, le=MAX_LIMIT)] | None
_Title = Annotated[str, Field(max_length=MAX_TITLE_CHARS)]
_Hosts = Annotated[tuple[Annotated[str, Field(max_length=253)], ...], Field(max_length=MAX_HOSTS)]


class LimitsIn(In):
    """What one tenant may take; null means the setting's value for all tenants.

    streams: bodies sent at once.
    cold: fetches from upstreams at once.
    rate: requests a second that are not answered from memory.
    """

    streams: _Limit = None
    cold: _Limit = None
    rate: _Limit = None


class TenantIn(In):
    """A new tenant.

    default: what happens to modules that no rule is about.
    catch_all: begin with a route of everything to the public upstream of the settings.
    """

    name: str = Field(max_length=63)
    title: _Title = ""
    default: Effect = Effect.DENY
    anonymous_read: StrictBool = False
    enabled: StrictBool = True
    hosts: _Hosts = ()
    limits: LimitsIn = LimitsIn()
    catch_all: StrictBool = True


class TenantChangeIn(In):
    """What to change of a tenant; what is left out stays, single limits too."""

    title: _Title = ""
    default: Effect = Effect.DENY
    anonymous_read: StrictBool = False
    enabled: StrictBool = True
    hosts: _Hosts = ()
    limits: LimitsIn = LimitsIn()


class LimitsOut(Out):
    """What one tenant may take; null means the setting's value for all tenants."""

    streams: int | None
    cold: int | None
    rate: int | None


class TenantOut(Out):
    """One tenant; revision is what its ETag says."""

    name: str
    title: str
    default: str
    anonymous_read: bool
    enabled: bool
    hosts: list[str]
    limits: LimitsOut
    revision: int
    created_at: datetime


def tenant_out(tenant: Tenant) -> TenantOut:
    """Return one tenant for people and programs."""
    limits = tenant.limits
    return TenantOut(
        name=tenant.name,
        title=tenant.title,
        default=tenant.default,
        anonymous_read=tenant.anonymous_read,
        enabled=tenant.enabled,
        hosts=list(tenant.hosts),
        limits=LimitsOut(streams=limits.streams, cold=limits.cold, rate=limits.rate),
        revision=tenant.revision,
        created_at=tenant.created_at,
    )
