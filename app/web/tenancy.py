"""Which tenant a request is for, and who sent it: from the path, the Host, or a trusted gateway.

"/goproxy/acme/…" names the tenant. A first element with a dot, or "sumdb", is not a tenant's name:
it begins the path below the tenant, whose name then comes from a gateway's X-Tenant-ID or the Host.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from app.core.errors import BadInputError
from app.core.tenantname import RESERVED
from app.web.responses import Header

PREFIX = b"/goproxy/"
_MAX_PEERS = 1024
_RESERVED = frozenset(name.encode() for name in RESERVED)


@dataclass(frozen=True, slots=True)
class TenantPath:
    """A path below /goproxy/, split at the tenant.

    Attributes:
        tenant: the tenant's name.
        rest: the path after the tenant, without a slash at its beginning.
    """

    tenant: str
    rest: bytes


class Gateways:
    """The gateways whose headers are believed.

    Args:
        networks: CIDRs.
    """

    def __init__(self, networks: Sequence[str]) -> None:
        self._networks: list[IPv4Network | IPv6Network] = [ip_network(n) for n in networks]
        self._trusts = lru_cache(_MAX_PEERS)(self._look)  # gateways are few, and send everything

    def trusts(self, client: str) -> bool:
        """Whether a peer address is a gateway's."""
        return bool(self._networks) and self._trusts(client)

    def _look(self, client: str) -> bool:
        try:
            address = ip_address(client)
        except ValueError:
            return False
        if isinstance(address, IPv6Address):  # as a listener on "::" sees IPv4 peers
            address = address.ipv4_mapped or address
        return any(address in network for network in self._networks)

    def client_behind(self, peer: str, headers: Sequence[Header]) -> str:
        """Return who sent a request: a gateway says so by the last X-Forwarded-For."""
        if not self.trusts(peer):
            return peer
        values = [value for name, value in headers if name == b"x-forwarded-for"]
        hops = values[-1].rsplit(b",", 1) if values else [b""]
        try:
            return str(ip_address(hops[-1].strip().decode("ascii", "replace")))
        except ValueError:
            return peer

    def tenant_named(self, peer: str, headers: Sequence[Header]) -> str | None:
        """Return the X-Tenant-ID of a gateway's request; the header of others is not read.

        Raises:
            BadInputError: the header comes more than once.
        """
        if not self.trusts(peer):
            return None
        tenants = {value for name, value in headers if name == b"x-tenant-id" and value}
        if len(tenants) > 1:
            raise BadInputError("X-Tenant-ID comes more than once")
        return tenants.pop().decode("ascii", "replace") if tenants else None


def client_block(client: str) -> str:
    """Return the addresses that count as one client: an IPv4 address, or an IPv6 /64.

    "10.1.2.3" stays as it is, "2001:db8::5" gives "2001:db8::/64": one machine has all of it.
    """
    if ":" not in client:
        return client
    try:
        address = ip_address(client.partition("%")[0])
    except ValueError:
        return client
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ip_network((address, 64), strict=False))


def in_path(path: bytes) -> TenantPath | None:
    """Return the tenant that a path names, or None if it names none."""
    if not names_tenant(path):
        return None
    first, _, rest = path.removeprefix(PREFIX).partition(b"/")
    return TenantPath(first.decode("ascii", "replace"), rest)


def names_tenant(path: bytes) -> bool:
    """Whether a path names its tenant. Cheaper than `in_path`: every hit calls this."""
    first = path.removeprefix(PREFIX).partition(b"/")[0]
    return first != b"" and b"." not in first and first not in _RESERVED


def parse_tenant_path(
    path: bytes,
    headers: Sequence[Header],
    peer: str,
    gateways: Gateways,
    hosts: Mapping[str, str],
) -> TenantPath:
    """Return which tenant a request is for.

    Args:
        path: as it came, beginning with "/goproxy/".
        headers: of the request, with lower-case names.
        peer: the address that the connection came from.
        gateways: whom to believe.
        hosts: tenants by host name.

    Raises:
        BadInputError: path and gateway name different tenants, or nothing names a tenant.
    """
    by_path, by_gateway = in_path(path), gateways.tenant_named(peer, headers)
    if by_path is not None:
        if by_gateway not in (None, by_path.tenant):
            raise BadInputError(f"the path is tenant {by_path.tenant}'s and X-Tenant-ID another's")
        return by_path
    rest = path.removeprefix(PREFIX)
    if by_gateway is not None:
        return TenantPath(by_gateway, rest)
    host = next((value for name, value in headers if name == b"host"), b"")
    name = hosts.get(host.decode("ascii", "replace").rsplit(":", 1)[0].lower())
    if name is None:
        # Not 404: `go` would ask the next proxy of its list, or the repository itself.
        raise BadInputError("the URL names no tenant; a GOPROXY ends in /goproxy/<tenant>")
    return TenantPath(name, rest)
