"""The key of a prepared answer: decoded path, credential and, without a tenant, the Host.

So whoever asks with another credential, or by another host name, never meets this answer. The
query is no part of the key: it changes no answer, and with a query in the key a client could have
each request answered anew.
"""

from dataclasses import dataclass

from app.core.digest import Digest
from app.core.errors import BadInputError
from app.core.urlpath import decode
from app.web.responses import Header
from app.web.tenancy import names_tenant

_CREDENTIAL_BYTES = 512  # keys are in memory too, and what is no token may be long
_NOT_INSTANT = frozenset(
    {
        b"if-none-match",
        b"if-modified-since",
        b"range",
        b"if-range",
        b"x-tenant-id",
        b"disable-module-fetch",
    }
)


@dataclass(frozen=True, slots=True)
class KeyTail:
    """What follows the path in the key of an answer; it depends on the headers alone.

    Attributes:
        in_path: for a path that names its tenant: the credential.
        by_host: for another path: the credential and the Host.
    """

    in_path: bytes
    by_host: bytes


def key_tail(headers: list[Header], *, is_plain_only: bool) -> KeyTail | None:
    """Return what headers add to the key of an answer; None where no answer may be kept.

    None is for a request with several credentials. With `is_plain_only`, it is also for one with a
    header that changes the answer.

    Args:
        headers: of the request, with lower-case names.
        is_plain_only: refuse headers that make the answer a 304, a part, or another tenant's.
    """
    authorization: bytes | None = None
    host = b""
    for name, value in headers:
        if name == b"authorization":
            if authorization is not None:
                return None
            # An empty credential is refused where none is welcome: the two must not share a key.
            is_short = 0 < len(value) <= _CREDENTIAL_BYTES
            authorization = value if is_short else _digest_key(value)
        elif name == b"host":
            host = value
        elif is_plain_only and name in _NOT_INSTANT:
            return None
    in_path = b"\n" + (authorization or b"") + b"\n"
    return KeyTail(in_path, in_path + host)


def answer_key(url: bytes, tail: KeyTail) -> bytes | None:
    """Return the key of the answer to a request; None where its path is malformed.

    Args:
        url: path, perhaps with a query, as they came over the wire.
        tail: of the request's headers.
    """
    path = url.partition(b"?")[0]
    if b"%" in path:
        # Each spelling of a path has the same answer, or a client could fill the cache with one.
        try:
            path = decode(path)
        except BadInputError:
            return None
    return path + (tail.in_path if names_tenant(path) else tail.by_host)


def with_gateways_tenant(key: bytes, headers: list[Header]) -> bytes:
    """Return a key that also holds the X-Tenant-ID of a trusted gateway's request."""
    tenants = b",".join(value for name, value in headers if name == b"x-tenant-id")
    return key + b"\n" + tenants if tenants else key


def _digest_key(value: bytes) -> bytes:
    """Return what stands for a long or an empty credential; no header value has a line feed."""
    return b"\n" + Digest.of(value).hex.encode()
