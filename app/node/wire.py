"""One server and its connection: a request goes out, a body comes back bit by bit.

Redirects are not followed and proxies of the environment are not used: a node knows its servers.
Not here: which server is asked, retries, deadlines (`fetch`).
"""

from __future__ import annotations

import http.client
import re
import ssl
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from .errors import NetworkError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

BROKEN = (OSError, http.client.HTTPException)
"""What http.client raises when a connection or an answer is broken."""


def is_private_way(url: str) -> bool:
    """Return whether nobody in between reads or changes: https, or loopback."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    is_loopback = host in ("localhost", "::1") or re.fullmatch(r"127(?:\.\d+){3}", host)
    return parts.scheme == "https" or bool(is_loopback)


def why(error: Exception) -> str:
    """Return the reason of a broken connection for people."""
    if isinstance(error, (TimeoutError, OSError)) and "timed out" in str(error):
        return "no byte came in time"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not valid: {error.verify_message}"
    return ascii(str(error)[:160])[1:-1] or type(error).__name__


class Body:
    """The body of an answer.

    Attributes:
        status: of the answer, 2xx.
    """

    def __init__(self, server: Server, response: http.client.HTTPResponse) -> None:
        self._server = server
        self._response = response
        self.status = response.status
        # Counted here: HTTPResponse.read1 of Python before 3.12 does not stop at the length.
        self._left = response.length

    @property
    def content_range(self) -> str:
        """Return the header Content-Range; "" without one."""
        return self._response.getheader("Content-Range") or ""

    def read_some(self, most: int) -> bytes:
        """Return at least one byte as soon as there is one; no byte at the end.

        Raises:
            NetworkError: the connection broke, or ended before the body did.
        """
        if self._left is not None:
            most = min(most, self._left)
        try:
            part = self._response.read1(most) if most else b""
        except BROKEN as error:
            self._server.close()
            raise NetworkError(f"{self._server.name}: cut off: {why(error)}") from error
        if self._left is not None:
            self._left -= len(part)
        if not part:
            if self._left:
                self._server.close()
                raise NetworkError(f"{self._server.name}: the answer was cut off")
            self._response.close()  # its connection takes the next request
        return part


class Server:
    """One server and its connection, which is kept open between requests.

    Attributes:
        name: scheme, host and port, for messages.
    """

    def __init__(self, url: str, *, ca: str, idle_s: float) -> None:
        parts = urlsplit(url)
        try:
            port = parts.port
        except ValueError:
            port = 0
        if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
            raise UsageError(f"{url[:120]!a} is no server; write https://moorage.example")
        if parts.username or parts.query or parts.fragment:
            raise UsageError("a server's URL has neither user nor query; tokens come by enrolment")
        self.name = f"{parts.scheme}://{parts.netloc}"
        self._base = parts.path.rstrip("/")
        self._idle_s = idle_s
        if parts.scheme == "https":
            self._connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                parts.hostname, port, timeout=idle_s, context=_context(ca)
            )
        else:
            self._connection = http.client.HTTPConnection(parts.hostname, port, timeout=idle_s)

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None,
        headers: Mapping[str, str],
        head_s: float | None = None,
    ) -> Body:
        """Return the body of a 2xx answer; every other answer is a NetworkError with its status.

        Args:
            method: "GET", "POST".
            path: below the server's URL.
            body: of the request, or None.
            headers: of the request.
            head_s: seconds until the answer begins; None is as for each later byte.
        """
        try:
            response = self._response(method, path, body, headers, head_s or self._idle_s)
            if response.status // 100 == 2:
                return Body(self, response)
            line = response.read(1 << 10).decode("utf-8", "replace").strip().partition("\n")[0]
        except BROKEN as error:
            self.close()
            raise NetworkError(f"{self.name}: {path}: {why(error)}") from error
        self.close()
        raise NetworkError(
            f"{self.name} answers {path} with {response.status}: {ascii(line[:200])[1:-1]}",
            response.status,
            _retry_after_s(response),
        )

    def _response(
        self,
        method: str,
        path: str,
        body: bytes | None,
        headers: Mapping[str, str],
        head_s: float,
    ) -> http.client.HTTPResponse:
        was_open = self._connection.sock is not None
        try:
            return self._one_response(method, path, body, headers, head_s)
        except (http.client.RemoteDisconnected, ConnectionError):
            self.close()
            if not was_open:
                raise
        # The server has ended a kept connection: that is no failure.
        return self._one_response(method, path, body, headers, head_s)

    def _one_response(
        self,
        method: str,
        path: str,
        body: bytes | None,
        headers: Mapping[str, str],
        head_s: float,
    ) -> http.client.HTTPResponse:
        self._connection.request(method, self._base + path, body, dict(headers))
        connection = self._connection.sock  # the answer may take it over
        connection.settimeout(head_s)
        response = self._connection.getresponse()
        if connection.fileno() >= 0:  # an answer without a body may have closed it
            connection.settimeout(self._idle_s)
        return response

    def close(self) -> None:
        """End the connection; the next request opens another one."""
        self._connection.close()


def _retry_after_s(response: http.client.HTTPResponse) -> int:
    """Return the seconds of Retry-After; 0 without them, and for a date."""
    value = response.getheader("Retry-After") or ""
    return int(value) if re.fullmatch(r"[0-9]{1,9}", value) else 0


def _context(ca: str) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if ca:
        try:
            context.load_verify_locations(cafile=ca)
        except OSError as error:
            raise UsageError(f"{ca} can't be read as certificates") from error
    return context
