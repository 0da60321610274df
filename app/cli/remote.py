"""The transport of `--server`: the admin API of a server over the network.

It uses the standard library alone: httpx would cost more than all the rest of a command.
"""

import contextlib
import http.client
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from app import __version__
from app.core.errors import MoorageError, SettingsError

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Callable, Iterator, Mapping

    from app.cli.api import FileUpload
    from app.upstream.url import Url

_ANSWER_MAX_BYTES = 64 * 1024 * 1024
_CONNECT_S = 5.0  # with TLS; for each address of the server's name
_DEADLINE_S = 1200.0  # for all tries of a request: an ingestion may take a quarter of an hour
_STALL_S = 60.0  # without a byte that the server takes
_PAUSES_S = (0.25, 1.0, 2.0)  # before a GET is tried again


class Remote:
    """A server's admin API; one connection, opened at the first request.

    A connection that opens within `_CONNECT_S` may take the rest of `_DEADLINE_S` to answer. The
    deadline is one for all tries of a request. It is checked before each of them, and bounds each
    wait for the network.
    """

    is_remote = True

    def __init__(
        self,
        url: str,
        token: str | None,
        *,
        clock: "Callable[[], float]" = time.monotonic,
        sleep: "Callable[[float], None]" = time.sleep,
    ) -> None:
        """Take the server's address and a token.

        Args:
            url: "https://moorage.example", perhaps with a path.
            token: goes along with each request; None sends no token.
            clock: seconds that only grow.
            sleep: waits for some seconds.

        Raises:
            SettingsError: url is not the URL of a server.
            BadInputError: url or token has a character that can't be sent.
        """
        from app.upstream.url import Credential, Url

        if not url.startswith(("http://", "https://")):
            raise SettingsError(f"--server {url}: must begin with http:// or https://")
        self._url = Url.parse(url.rstrip("/"))
        self._base = "" if self._url.path == "/" else self._url.path
        self._headers = {"User-Agent": f"moorage/{__version__}"}
        if token:
            credential = Credential.bearer("cli", self._url.origin, token)
            self._headers |= credential.headers_for(self._url)
        self._connection = _connection(self._url)
        self._clock = clock
        self._sleep = sleep

    def send(self, method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        """Return status and body of the answer; redirects are not followed.

        A GET is tried again after a broken connection or an answer that broke off; no other
        request is.

        Raises:
            MoorageError: the server can't be reached, or its answer broke off or is too long.
        """
        pauses_s = list(_PAUSES_S) if method == "GET" else []
        ends_at = self._clock() + _DEADLINE_S
        while True:
            try:
                return self._exchange(method, self._base + path, body, ends_at)
            except (OSError, http.client.HTTPException) as error:
                self._connection.close()
                if not pauses_s or self._clock() + pauses_s[0] >= ends_at:
                    raise MoorageError(self._unreachable(path, error)) from error
            self._sleep(pauses_s.pop(0))

    def upload(self, path: str, upload: "FileUpload") -> tuple[int, bytes]:
        """Send a file by PUT; return status and body of the answer.

        Raises:
            MoorageError: the server can't be reached, or broke off.
        """
        headers = {"Content-Type": "application/octet-stream", **upload.headers}
        return self.put(path, upload.pieces(), upload.size_bytes, _DEADLINE_S, headers)

    def put(
        self,
        path: str,
        pieces: "Iterator[bytes]",
        size_bytes: int,
        answer_s: float,
        headers: "Mapping[str, str] | None" = None,
    ) -> tuple[int, bytes]:
        """Send a body piece by piece; return status and body of the answer.

        A server that refuses an upload answers before it has all of it, and reads no more.

        Raises:
            MoorageError: the server can't be reached, or broke off.
        """
        try:
            sock = self._connected(self._clock() + _CONNECT_S)
            sock.settimeout(_STALL_S)
            self._connection.putrequest("PUT", self._base + path)
            for name, value in {**self._headers, **(headers or {})}.items():
                self._connection.putheader(name, value)
            self._connection.putheader("Content-Length", str(size_bytes))
            self._connection.endheaders()
            with contextlib.suppress(ConnectionError):  # the answer says why
                for piece in pieces:
                    self._connection.send(piece)
            sock.settimeout(answer_s)
            with self._connection.getresponse() as response:
                return response.status, response.read(_ANSWER_MAX_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise MoorageError(self._unreachable(path, error)) from error
        finally:
            self._connection.close()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _exchange(
        self, method: str, path: str, body: bytes | None, ends_at: float
    ) -> tuple[int, bytes]:
        sock = self._connected(ends_at)
        headers = dict(self._headers)
        if body is not None:
            headers["Content-Type"] = "application/json"
        sock.settimeout(self._left_s(ends_at))
        self._connection.request(method, path, body, headers)
        sock.settimeout(self._left_s(ends_at))
        with self._connection.getresponse() as response:
            if not response.isclosed():  # an answer without a body may have closed the socket
                sock.settimeout(self._left_s(ends_at))
            answer = response.read(_ANSWER_MAX_BYTES + 1)
        if len(answer) > _ANSWER_MAX_BYTES:
            self._connection.close()  # the rest of the answer is not read
            raise MoorageError(f"{self._url.origin} answers more than {_ANSWER_MAX_BYTES} bytes")
        if response.length:
            # With a size, HTTPResponse.read returns what came before the server closed.
            raise http.client.IncompleteRead(answer, response.length)
        return response.status, answer

    def _connected(self, ends_at: float) -> "socket.socket":
        """Return the socket of the open connection; open the connection if it is closed.

        Raises:
            OSError: the server can't be reached within `_CONNECT_S`.
        """
        if self._connection.sock is None:
            timeout_s = min(_CONNECT_S, self._left_s(ends_at))
            self._connection.timeout = timeout_s
            try:
                self._connection.connect()
            except TimeoutError as error:
                raise ConnectionError(f"no connection within {timeout_s:.3g} s") from error
        sock: socket.socket = self._connection.sock
        return sock

    def _left_s(self, ends_at: float) -> float:
        """Return the seconds until a request has to end.

        Raises:
            TimeoutError: there are none.
        """
        left_s = ends_at - self._clock()
        if left_s <= 0:
            raise TimeoutError
        return left_s

    def _unreachable(self, path: str, error: Exception) -> str:
        where = f"{self._url.origin}{self._base}{path.partition('?')[0]}"
        if isinstance(error, TimeoutError):
            return f"{where} gave no answer within {_DEADLINE_S:g} s"
        if isinstance(error, http.client.IncompleteRead):
            return f"{where} broke off its answer after {len(error.partial)} bytes"
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        if "CERTIFICATE_VERIFY_FAILED" in reason:
            reason += "; SSL_CERT_FILE=FILE names the authority of your own that signed it"
        return f"{where} can't be reached: {reason}"


def _connection(url: "Url") -> http.client.HTTPConnection:
    """Return a connection that is not open yet."""
    if url.scheme == "http":
        return http.client.HTTPConnection(url.host, url.port)
    return http.client.HTTPSConnection(url.host, url.port, context=_ssl_context())


def _ssl_context() -> "ssl.SSLContext":
    """Return a verifying context that trusts the system's store and certifi's."""
    import ssl

    import certifi

    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(certifi.where())
    return context


def environment_token() -> str | None:
    """Return the token of MOORAGE_TOKEN or MOORAGE_TOKEN_FILE; None without one.

    Raises:
        SettingsError: the token file can't be read.
    """
    token = os.environ.get("MOORAGE_TOKEN") or None
    path = os.environ.get("MOORAGE_TOKEN_FILE")
    if token is None and path is not None:
        try:
            token = Path(path).read_text().strip()
        except OSError as error:
            raise SettingsError(f"MOORAGE_TOKEN_FILE: {path}: {error.strerror}") from error
    return token
