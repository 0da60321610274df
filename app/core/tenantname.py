"""Names of tenants, and host names that lead to them.

Names are lower-case letters, digits and dashes, 1 to 63 of them, and have no dot: so the first
element after "/goproxy/" is either a tenant or, having a dot, a module path's beginning.
"""

import re

from app.core.errors import BadInputError

RESERVED = frozenset({"sumdb", "cached-only", "platform"})
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})*", re.ASCII)


def is_plain_name(name: str) -> bool:
    """Whether name is 1 to 63 lower-case letters, digits and dashes, no dash at either end."""
    return _NAME.fullmatch(name) is not None


def check_tenant_name(name: str) -> None:
    """Return if name can be a tenant's.

    Raises:
        BadInputError: the message says what is wrong.
    """
    if not is_plain_name(name):
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
