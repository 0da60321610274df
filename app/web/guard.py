"""What a request may look like, checked before any routing: its framing and its sizes.

uvicorn with httptools limits neither the number nor the size of headers, and takes any Host and
any version. llhttp itself refuses two lengths, a length beside chunks, folded lines and bare line
feeds. Sources: RFC 9112, sections 3.2 and 6; RFC 3986, section 3.2.2.
"""

import re

from app.settings.sections.limits import Limits
from app.web.responses import Header
from app.web.streaming import Scope

FRAMING = frozenset({b"host", b"content-length", b"transfer-encoding", b"upgrade"})
_HOST = re.compile(
    rb"(?:(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2}){1,255}|\[[0-9A-Fa-f:.]{2,45}\])"
    rb"(?::[0-9]{0,5})?"
)


def is_host(value: bytes) -> bool:
    """Whether it is a host and perhaps a port: b"go.example:8080", b"[::1]"; never empty."""
    return _HOST.fullmatch(value) is not None


def head_fault(method: bytes, version: str, framing: list[Header]) -> str:
    """Return why a head is malformed, or "" if it is not.

    Args:
        method: as it came: b"GET".
        version: of HTTP, "1.0" or "1.1" in a good head.
        framing: the headers whose names are in FRAMING, in their order.
    """
    hosts = [value for name, value in framing if name == b"host"]
    codings = [value.lower() for name, value in framing if name == b"transfer-encoding"]
    if version not in ("1.0", "1.1"):
        return "only HTTP/1.0 and HTTP/1.1 are spoken here"
    if method == b"CONNECT":
        return "this is no proxy for CONNECT"
    if len(hosts) > 1:
        return "the request has more than one Host"
    if not hosts and version == "1.1":
        return "the request has no Host"
    if hosts and not is_host(hosts[0]):
        return "the Host of the request is malformed"
    if codings and (codings != [b"chunked"] or version == "1.0"):
        return "the only Transfer-Encoding taken here is chunked, in HTTP/1.1"
    return ""


def announces_body(framing: list[Header]) -> bool:
    """Whether a body follows; framing as in `head_fault`, where it found nothing."""
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value.strip(b"0"))
        for name, value in framing
    )


class Guard:
    """Refuses requests that are larger than any of a client of ours."""

    def __init__(self, limits: Limits) -> None:
        self._max_url_bytes = limits.url_bytes
        self._max_header_bytes = limits.header_bytes
        self._max_headers = limits.headers

    def refusal(self, scope: Scope) -> tuple[int, str] | None:
        """Return (status, line) to refuse the request with, or None to let it pass."""
        path: bytes = scope["raw_path"]
        return self.refuses_url(path + scope["query_string"]) or self.refuses_headers(
            scope["headers"]
        )

    def refuses_url(self, url: bytes) -> tuple[int, str] | None:
        """Return (status, line) for path and query, or None to let them pass."""
        if not url.isascii():
            return 400, "the URL has a byte that is not ASCII; percent-encode it"
        if len(url) > self._max_url_bytes:
            return 414, f"the URL is longer than {self._max_url_bytes} bytes"
        return None

    def refuses_headers(self, headers: list[Header]) -> tuple[int, str] | None:
        """Return (status, line) for headers, or None to let them pass."""
        if len(headers) > self._max_headers:
            return 431, f"more than {self._max_headers} headers"
        size = 0
        for name, value in headers:
            size += len(name) + len(value)
        if size > self._max_header_bytes:
            return 431, f"the headers are larger than {self._max_header_bytes} bytes"
        return None
