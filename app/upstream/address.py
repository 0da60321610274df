"""URLs of upstreams, credentials that belong to one origin, and the address guard.

The guard prevents server-side request forgery. It resolves an upstream's name and checks *every*
address; the connection goes to a checked address. So neither a redirect nor a second DNS answer
leads inside. The ranges are those of the IANA special-purpose registries (RFC 6890). The standard
library's `is_global` is not used: Python 3.11 calls 64:ff9b::7f00:1, 2002:7f00:1::, 224.0.0.1 and
fec0::1 global.

Not here: the connections themselves (`wire`).
"""

import asyncio
import base64
import re
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from urllib.parse import urljoin, urlsplit

from app.core.errors import BadInputError, DeniedError
from app.core.privatehost import PrivateHosts

Address = IPv4Address | IPv6Address
Resolver = Callable[[str, int], Awaitable[Sequence[str]]]

_DEFAULT_PORTS = {"http": 80, "https": 443}
_VISIBLE = re.compile(r"[\x21-\x7e]*", re.ASCII)
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*", re.ASCII)
_HEADER_NAME = re.compile(r"[A-Za-z0-9-]{1,64}", re.ASCII)
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
class Url:
    """An absolute http or https URL, taken apart.

    A `Url` never has user information or a fragment.

    Attributes:
        scheme: "http" or "https".
        host: lower case, without brackets.
        port: always set.
        path: begins with "/"; percent-encoded, as it was written.
        query: the text after "?", or None.
    """

    scheme: str
    host: str
    port: int
    path: str
    query: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, text: str) -> "Url":
        """Return the parts of an absolute URL: "https://go.dev/dl/?mode=json" has port 443.

        Raises:
            BadInputError: not http or https, no host, user information ("user:pw@"), a host that
                is not ASCII, a bad port, a space, a backslash or a control character. The message
                does not repeat the URL, which may hold a secret.
        """
        if not _VISIBLE.fullmatch(text) or "\\" in text:
            raise BadInputError("the URL has a space, a backslash or a non-ASCII character")
        try:
            parts = urlsplit(text)
            host, port = parts.hostname or "", parts.port
        except ValueError as error:
            raise BadInputError("the URL's host or port is malformed") from error
        if parts.scheme not in _DEFAULT_PORTS:
            raise BadInputError("the URL is neither http:// nor https://")
        if "@" in parts.netloc:
            raise BadInputError("the URL holds user information; configure a credential instead")
        is_bracketed = "[" in parts.netloc
        if not _is_host(host) or is_bracketed != (":" in host) or port == 0:
            raise BadInputError("the URL's host or port is malformed")
        return cls(
            parts.scheme,
            host,
            _DEFAULT_PORTS[parts.scheme] if port is None else port,
            parts.path or "/",
            parts.query or None,
        )

    @property
    def origin(self) -> str:
        """Scheme, host and port, the default port left out: "https://go.dev"."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        if self.port == _DEFAULT_PORTS[self.scheme]:
            return f"{self.scheme}://{host}"
        return f"{self.scheme}://{host}:{self.port}"

    @property
    def is_at_usual_port(self) -> bool:
        """Whether the URL is https:// at port 443."""
        return (self.scheme, self.port) == ("https", 443)

    @property
    def shown(self) -> str:
        """Origin and path, for messages: a query may hold a signature or a token."""
        return self.origin + self.path

    @property
    def target(self) -> str:
        """Path and query as they were written, for the request line."""
        return self.path if self.query is None else f"{self.path}?{self.query}"

    def redirect(self, location: str, follow_to: frozenset[str] | None = None) -> "Url":
        """Return the target of a redirect: "/b" leads from https://go.dev/a?x to https://go.dev/b.

        Args:
            location: the header Location.
            follow_to: origins ("https://dl.google.com") and hosts ("dl.google.com") that are
                allowed besides this URL's own origin; None allows all.

        Raises:
            BadInputError: as `parse`, or from https to http, or to an origin not in follow_to.
        """
        if not _VISIBLE.fullmatch(location):
            raise BadInputError("the URL has a space, a backslash or a non-ASCII character")
        try:
            joined = urljoin(self.origin + self.target, location)
        except ValueError as error:
            raise BadInputError("the URL's host or port is malformed") from error
        url = Url.parse(joined)
        if self.scheme == "https" and url.scheme != "https":
            raise BadInputError("it leads from https to http")
        is_known = follow_to is None or bool(follow_to & {url.origin, url.host})
        if url.origin != self.origin and not is_known:
            raise BadInputError(f"{url.origin} is not among the origins that it may lead to")
        return url


@dataclass(frozen=True, slots=True)
class Credential:
    """A secret header for one origin, and for no other.

    Attributes:
        id: the name in metrics and breaker states; no secret.
        origin: scheme, host and port: "https://artifactory.corp.example:8443".
        header: "Authorization" or "PRIVATE-TOKEN".
        value: sent as it is: "Bearer …".

    Raises:
        BadInputError: origin is not an origin, or header or value can't be a header; the message
            does not repeat the value.
    """

    id: str
    origin: str
    header: str
    value: str = field(repr=False)

    def __post_init__(self) -> None:
        if Url.parse(self.origin).origin != self.origin:
            raise BadInputError(f"credential {self.id}: its origin must be like https://host:8443")
        if not _HEADER_NAME.fullmatch(self.header):
            raise BadInputError(f"credential {self.id}: malformed header name")
        if not self.value or not _VISIBLE.fullmatch(self.value.replace(" ", "_")):
            raise BadInputError(f"credential {self.id}: the value is empty or not visible ASCII")

    @classmethod
    def basic(cls, id: str, origin: str, user: str, password: str) -> "Credential":
        """Return a Basic credential (RFC 7617, UTF-8)."""
        pair = base64.b64encode(f"{user}:{password}".encode()).decode("ascii")
        return cls(id, origin, "Authorization", f"Basic {pair}")

    @classmethod
    def bearer(cls, id: str, origin: str, token: str) -> "Credential":
        """Return a Bearer credential (RFC 6750)."""
        return cls(id, origin, "Authorization", f"Bearer {token}")

    def headers_for(self, url: Url) -> dict[str, str]:
        """Return the header to send to url: none unless url is of the credential's origin."""
        return {self.header: self.value} if url.origin == self.origin else {}


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


def _is_host(host: str) -> bool:
    """Return whether host is a possible DNS name, or an IP address without brackets."""
    if ":" not in host:
        return len(host) <= 253 and _HOST_NAME.fullmatch(host) is not None
    try:
        return "%" not in host and ip_address(host).version == 6
    except ValueError:
        return False
