"""URLs of upstreams, and credentials that belong to one origin.

Not here: which addresses a URL may lead to (`address`).
"""

import base64
import re
from dataclasses import dataclass, field
from ipaddress import ip_address
from urllib.parse import urljoin, urlsplit

from app.core.errors import BadInputError
from app.core.hostname import DEFAULT_PORTS, HOST_NAME

_VISIBLE = re.compile(r"[\x21-\x7e]*", re.ASCII)
_HOST_NAME = re.compile(HOST_NAME, re.ASCII)
_HEADER_NAME = re.compile(r"[A-Za-z0-9-]{1,64}", re.ASCII)


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
        if parts.scheme not in DEFAULT_PORTS:
            raise BadInputError("the URL is neither http:// nor https://")
        if "@" in parts.netloc:
            raise BadInputError("the URL holds user information; configure a credential instead")
        is_bracketed = "[" in parts.netloc
        if not _is_host(host) or is_bracketed != (":" in host) or port == 0:
            raise BadInputError("the URL's host or port is malformed")
        return cls(
            parts.scheme,
            host,
            DEFAULT_PORTS[parts.scheme] if port is None else port,
            parts.path or "/",
            parts.query or None,
        )

    @property
    def origin(self) -> str:
        """Scheme, host and port, the default port left out: "https://go.dev"."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        if self.port == DEFAULT_PORTS[self.scheme]:
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


def _is_host(host: str) -> bool:
    """Return whether host is a possible DNS name, or an IP address without brackets."""
    if ":" not in host:
        return len(host) <= 253 and _HOST_NAME.fullmatch(host) is not None
    try:
        return "%" not in host and ip_address(host).version == 6
    except ValueError:
        return False
