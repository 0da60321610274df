"""A tenant: a team, business unit or customer with its own view. Its rules are `acl`'s.

Names are lower-case letters, digits and dashes, 1 to 63 of them, and have no dot: so the first
element after "/goproxy/" is either a tenant or, having a dot, a module path's beginning.
"""

import re
from dataclasses import dataclass
from datetime import datetime

from app.core.acl import Effect
from app.core.errors import BadInputError

DEFAULT_TENANT = "default"
RESERVED = frozenset({"sumdb", "cached-only", "platform"})
MAX_TITLE_CHARS = 200

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})*", re.ASCII)


@dataclass(frozen=True, slots=True)
class TenantLimits:
    """What one tenant may take; None means the setting's value for all tenants.

    Attributes:
        streams: bodies sent at once.
        cold: fetches from upstreams at once.
        rate: requests a second that are not answered from memory.
    """

    streams: int | None = None
    cold: int | None = None
    rate: int | None = None


@dataclass(frozen=True, slots=True)
class Tenant:
    """One tenant.

    Attributes:
        default: what happens to modules that no rule is about.
        anonymous_read: whether reading needs no token.
        enabled: False refuses every request.
        hosts: lower-case host names, without port, that lead to this tenant.
        revision: grows by one with each change; what an ETag shows.
    """

    id: int
    name: str
    title: str
    default: Effect
    anonymous_read: bool
    enabled: bool
    hosts: tuple[str, ...]
    limits: TenantLimits
    revision: int
    created_at: datetime


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
