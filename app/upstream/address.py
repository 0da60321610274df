"""The address guard: which addresses an upstream may have.

The guard prevents server-side request forgery. It resolves an upstream's name and checks *every*
address; the connection goes to a checked address. So neither a redirect nor a second DNS answer
leads inside. The ranges are those of the IANA special-purpose registries (RFC 6890). The standard
library's `is_global` is not used: Python 3.11 calls 64:ff9b::7f00:1, 2002:7f00:1::, 224.0.0.1 and
fec0::1 global.

Not here: URLs (`url`), the connections themselves (`wire`).
"""

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

from app.core.errors import BadInputError, DeniedError
from app.core.privatehost import PrivateHosts

Address = IPv4Address | IPv6Address
Resolver = Callable[[str, int], Awaitable[Sequence[str]]]

_ALLOWED = re.compile(
    r"(?P<open>\[)?(?P<address>[0-9A-Fa-f:.]+)(?(open)\])/(?P<prefix>[0-9]{1,3})"
    r"(?::(?P<port>[0-9]{1,5}))?",
    re.ASCII,
)

_LOOPBACK = "a loopback address"
_PRIVATE = "a private address"
_LINK_LOCAL = "a link-local address"
_DOCUMENTATION = "an address reserved for documentation"
_RESERVED = "a reserved address"
_MULTICAST = "a multicast address"
# The first network that an address lies in names its kind.
_KINDS_V4 = tuple(
    (IPv4Network(text), kind)
    for text, kind in (
        ("0.0.0.0/8", _LOOPBACK),  # this network: Linux connects 0.0.0.0 to loopback
        ("10.0.0.0/8", _PRIVATE),
        # Carrier-grade NAT, and the metadata service of some clouds.
        ("100.64.0.0/10", "an address shared behind carrier-grade NAT"),
        ("127.0.0.0/8", _LOOPBACK),
        ("169.254.0.0/16", _LINK_LOCAL),  # and the metadata service of most clouds
        ("172.16.0.0/12", _PRIVATE),
        ("192.0.0.0/24", _RESERVED),
        ("192.0.2.0/24", _DOCUMENTATION),
        ("192.88.99.0/24", _RESERVED),  # 6to4 relays
        ("192.168.0.0/16", _PRIVATE),
        ("198.18.0.0/15", "an address reserved for benchmarks"),
        ("198.51.100.0/24", _DOCUMENTATION),
        ("203.0.113.0/24", _DOCUMENTATION),
        ("224.0.0.0/4", _MULTICAST),
        ("240.0.0.0/4", _RESERVED),
    )
)
# The part of IPv6 that is assigned to the public. What is outside and has no name below is
# reserved, the local-use NAT64 prefix 64:ff9b:1::/48 too.
_PUBLIC_V6 = IPv6Network("2000::/3")
_KINDS_V6 = tuple(
    (IPv6Network(text), kind)
    for text, kind in (
        ("::/127", _LOOPBACK),  # :: is connected to loopback, too
        ("fc00::/7", _PRIVATE),
        ("fe80::/10", _LINK_LOCAL),
        ("fec0::/10", _PRIVATE),  # site-local, of old
        ("ff00::/8", _MULTICAST),
        ("2001::/23", _RESERVED),  # IETF protocol assignments; Teredo is 2001::/32
        ("2001:db8::/32", _DOCUMENTATION),
        ("3fff::/20", _DOCUMENTATION),
    )
)
_NAT64 = IPv6Network("64:ff9b::/96")


@dataclass(frozen=True, slots=True)
class AllowedNetwork:
    """A private network that connections may go to; port None means every port."""

    network: IPv4Network | IPv6Network
    port: int | None = None

    @classmethod
    def parse(cls, text: str) -> "AllowedNetwork":
        """Return the network of "CIDR" or "CIDR:port".

        Examples: "127.0.0.0/8", "10.1.2.0/24:8443", "fd00::/8", "[::1]/128:443".

        Raises:
            BadInputError: anything else, also bits set behind the prefix ("10.1.2.3/24").
        """
        match = _ALLOWED.fullmatch(text)
        if match is None:
            raise BadInputError(
                f"{text[:80]!r} is not a network like 10.1.2.0/24 or 10.1.2.0/24:8443"
            )
        try:
            network = ip_network(f"{match['address']}/{match['prefix']}")
        except ValueError as error:
            raise BadInputError(f"{text[:80]!r} is not a network: {error}") from error
        port = None if match["port"] is None else int(match["port"])
        if port is not None and not 1 <= port <= 65535:
            raise BadInputError(f"{text[:80]!r}: a port is 1 to 65535")
        if match["open"] and isinstance(network, IPv4Network):
            raise BadInputError(f"{text[:80]!r}: brackets are for IPv6")
        return cls(network, port)

    def admits(self, address: Address, port: int) -> bool:
        """Return whether address and port lie in the network."""
        return address in self.network and self.port in (None, port)


async def resolve(host: str, port: int) -> list[str]:
    """Return the addresses of host, in the system's order, as getaddrinfo gives them.

    getaddrinfo takes "2130706433", "0x7f.1" and "127.1" as names for "127.0.0.1".

    Raises:
        OSError: the name does not resolve.
    """
    loop = asyncio.get_running_loop()
    results = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in results))


def kind_of(address: Address) -> str:
    """Return what an address is in words, "" if it is an ordinary one of the public internet.

    10.0.0.1 is "a private address", 192.0.2.1 "an address reserved for documentation". For an IPv6
    address that holds an IPv4 address (mapped, NAT64, 6to4), the IPv4 address counts.
    """
    address = _unwrapped(address)
    if isinstance(address, IPv4Address):
        return next((kind for network, kind in _KINDS_V4 if address in network), "")
    kind = next((kind for network, kind in _KINDS_V6 if address in network), "")
    return kind or ("" if address in _PUBLIC_V6 else _RESERVED)


def is_public(address: Address) -> bool:
    """Return whether address is an ordinary address of the public internet; see `kind_of`."""
    return not kind_of(address)


@dataclass(frozen=True, slots=True)
class OwnListener:
    """Where this service itself listens: no upstream leads there, whatever is allowed.

    Attributes:
        port: of the listener, on any address of this machine; 0 for none.
        public: host and port of the URL that clients use; None for none.
    """

    port: int = 0
    public: tuple[str, int] | None = None

    def is_at(self, address: Address, port: int) -> bool:
        """Whether an address of this machine and the listener's port are meant."""
        return port == self.port and _is_of_this_machine(address)


NO_LISTENER = OwnListener()


def _is_of_this_machine(address: Address) -> bool:
    """Whether the address is one of this machine: only such an address can be bound."""
    family = socket.AF_INET if isinstance(address, IPv4Address) else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True


class AddressGuard:
    """Decides which addresses may be connected to.

    Args:
        allow: private networks.
        resolver: returns the addresses of a host.
        hosts: those that may have a private address of the allowed networks; None for all.
        own: where this service itself listens.
    """

    def __init__(
        self,
        allow: Sequence[AllowedNetwork] = (),
        resolver: Resolver = resolve,
        *,
        hosts: PrivateHosts | None = None,
        own: OwnListener = NO_LISTENER,
    ) -> None:
        self._allow = tuple(allow)
        self._resolver = resolver
        self._hosts = hosts
        self._own = own

    def is_allowed(self, address: str, port: int, *, is_listed_host: bool = True) -> bool:
        """Return whether connections may go to an address: "10.0.0.1", "fe80::1%eth0".

        Text that is no address is not allowed.

        Args:
            address: as getaddrinfo gives it.
            port: of the connection.
            is_listed_host: whether the host of the address may have a private one.
        """
        try:
            plain = ip_address(address.partition("%")[0])
        except ValueError:
            return False
        forms = {plain, _unwrapped(plain)}
        if any(self._own.is_at(form, port) for form in forms):
            return False
        if is_listed_host and any(
            network.admits(form, port) for network in self._allow for form in forms
        ):
            return True
        return is_public(plain)

    def is_listed(self, address: str, port: int) -> bool:
        """Return whether an address in text form lies in one of the allowed private networks."""
        try:
            plain = ip_address(address)
        except ValueError:
            return False
        return any(network.admits(plain, port) for network in self._allow)

    async def addresses(self, host: str, port: int) -> list[str]:
        """Return the addresses of host, all of them checked.

        Raises:
            DeniedError: at least one address is not allowed. A name with a public and a private
                address is an attempt to get inside with the second connection.
            OSError: the name does not resolve.
        """
        try:
            addresses = list(await self._resolver(host, port))
        except UnicodeError as error:
            raise OSError(f"{host[:80]!r} can't be a host name") from error
        if not addresses:
            raise OSError("the name has no address")
        is_listed = self._hosts is None or self._hosts.covers(host, port)
        if (host, port) == self._own.public:
            raise _leads_here(host, port)
        for address in addresses:
            if not self.is_allowed(address, port, is_listed_host=is_listed):
                raise self._refusal(host, port, address)
        return addresses

    def _refusal(self, host: str, port: int, address: str) -> DeniedError:
        """Return why an address of a host is refused.

        The message has the kind and not the address: clients could map the internal DNS with it.
        """
        try:
            plain = ip_address(address.partition("%")[0])
        except ValueError:
            return DeniedError(f"{host}:{port} has no address that can be used", "private host")
        if any(self._own.is_at(form, port) for form in (plain, _unwrapped(plain))):
            return _leads_here(host, port)
        return DeniedError(
            f"{host}:{port} has {kind_of(plain)}, which is not of the public internet; an"
            " administrator can allow a network with the setting MOORAGE_NETWORK__ALLOW, and a"
            " host for a tenant with `moorage tenant update --private-host`",
            "private host",
        )


def _leads_here(host: str, port: int) -> DeniedError:
    return DeniedError(
        f"{host}:{port} is this service itself: no upstream may lead here", "private host"
    )


def kind_of_text(host: str) -> str:
    """Return the kind of a host that is written as an address: see `kind_of`; "" for a name."""
    try:
        return kind_of(ip_address(host))
    except ValueError:
        return ""


def _unwrapped(address: Address) -> Address:
    """Return the IPv4 address inside a mapped, NAT64 or 6to4 address, or else the address."""
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address
