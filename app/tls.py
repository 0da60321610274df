"""TLS without a proxy: the server's certificate, renewed while it serves, and the listener.

`TlsListener` accepts and counts connections; the event loop speaks TLS, and a connection with a
complete handshake becomes one of `protocol.py`. TLS 1.2 and 1.3, and HTTP/1.1 by ALPN (RFC 7301).

Not here: making a certificate for trying (`cli/tls.py`).
"""

import asyncio
import socket
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from stat import S_IROTH, S_IWOTH
from typing import Final, Protocol

from app import logs, metrics
from app.core.errors import SettingsError
from app.settings.sections.network import Tls

LOOK_S: Final = 10.0
"""Seconds between two looks at the files of the certificate."""

_WARN_DAYS = 14
_SHUTDOWN_S = 5.0  # for the client's half of the end of TLS
_FILE_MAX_BYTES = 1 << 20
_ACCEPTS = 16  # at once: the rest is for the other processes, or for the next turn of the loop
_REST_S = 1.0
_log = logs.get("tls")


class Certificate:
    """The certificate that new connections get. The files are read anew when they change.

    A renewal that can't be used (a missing file, a key that does not fit) changes nothing: the
    earlier certificate stays, `note` says what is wrong, and each look tries again. Clients'
    connections are not touched: each keeps the certificate of its handshake.

    Args:
        files: where certificate, key and the authorities of clients are.

    Raises:
        SettingsError: a file is missing or wrong; the message names the setting.
    """

    def __init__(self, files: Tls) -> None:
        self._files = files
        self._seen = _state_of(files)
        self._current, self._expires = _load(files)
        self._trouble = ""
        # Each handshake changes from this context to the newest one. Loading a second certificate
        # into one context would leave the first one there if its key is of another kind.
        self.context = _new_context(files)
        self.context.sni_callback = self._choose

    @property
    def expires(self) -> datetime:
        """When the certificate expires; of a chain, the server's own one."""
        return self._expires

    def _choose(
        self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext
    ) -> None:
        connection.context = self._current

    def refresh(self) -> bool:
        """Read the files again if they changed; return whether new connections get another one.

        Blocks: call it in a thread.
        """
        seen = _state_of(self._files)
        if seen == self._seen and not self._trouble:
            return False
        try:
            self._current, self._expires = _load(self._files)
        except SettingsError as error:
            if str(error) != self._trouble:
                _log.error("renewed certificate can't be used", error=str(error))
            self._trouble = str(error)
            return False
        self._seen, self._trouble = seen, ""
        _log.info("certificate renewed", expires=self._expires.isoformat())
        return True

    async def watch(self) -> None:
        """Look at the files every `LOOK_S` seconds, until cancelled."""
        while True:
            metrics.set_certificate_expiry(self._expires.timestamp())
            await asyncio.sleep(LOOK_S)
            await asyncio.to_thread(self.refresh)

    def note(self, now: datetime | None = None) -> str | None:
        """Return what an operator has to do about the certificate; None for nothing."""
        if self._trouble:
            return f"the renewed certificate can't be used, the earlier one is: {self._trouble}"
        left = self._expires - (now or datetime.now(UTC))
        if left <= timedelta(0):
            return f"the TLS certificate expired on {self._expires:%Y-%m-%d}: renew it"
        if left < timedelta(days=_WARN_DAYS):
            return f"the TLS certificate expires on {self._expires:%Y-%m-%d}: renew it"
        return None


def certificate_of(files: Tls) -> Certificate | None:
    """Return the certificate that the settings name; None if they name none: plain HTTP.

    Raises:
        SettingsError: a file is missing or wrong; the message names the setting.
    """
    return None if files.cert_file is None else Certificate(files)


def _state_of(files: Tls) -> tuple[object, ...]:
    """Return what is different after one of the files was written, replaced or relinked."""
    states: list[object] = []
    for path in (files.cert_file, files.key_file, files.client_ca_file):
        try:
            status = path.stat() if path else None
        except OSError as error:
            states.append(error.errno)
        else:
            states.append(
                status and (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
            )
    return tuple(states)


def _load(files: Tls) -> tuple[ssl.SSLContext, datetime]:
    """Return a context with the certificate of the files, and when the certificate expires."""
    from cryptography import x509

    if files.cert_file is None:
        raise SettingsError("MOORAGE_TLS__CERT_FILE is not set")
    chain = _readable("CERT_FILE", files.cert_file)
    key_setting = "CERT_FILE" if files.key_file is None else "KEY_FILE"
    key_file = files.key_file or files.cert_file
    _readable(key_setting, key_file)
    if key_file.stat().st_mode & (S_IROTH | S_IWOTH):
        raise SettingsError(
            f"MOORAGE_TLS__{key_setting}: everybody can read or change the key in {key_file}: run"
            f" chmod o-rwx {key_file}"
        )
    try:
        expires = x509.load_pem_x509_certificates(chain)[0].not_valid_after_utc
    except ValueError as error:
        raise SettingsError(
            f"MOORAGE_TLS__CERT_FILE: {files.cert_file} has no certificate in PEM form"
        ) from error
    context = _new_context(files)
    try:
        context.load_cert_chain(files.cert_file, key_file, password=_no_password)
    except _ProtectedKeyError as error:
        raise SettingsError(
            f"MOORAGE_TLS__{key_setting}: the key in {key_file} has a password; store the key"
            " without one (openssl pkey -in KEY -out PLAIN)"
        ) from error
    except (ssl.SSLError, OSError) as error:
        raise SettingsError(_why(error, key_setting, key_file, files.cert_file)) from error
    return context, expires


class _ProtectedKeyError(ValueError):
    """OpenSSL asks for the password of a key."""


def _no_password() -> str:
    raise _ProtectedKeyError


def _why(error: OSError, setting: str, key_file: Path, cert_file: Path) -> str:
    reason = getattr(error, "reason", None) or error.strerror or "it can't be read"
    if reason == "KEY_VALUES_MISMATCH":
        return (
            f"MOORAGE_TLS__{setting}: the key in {key_file} does not belong to the first"
            f" certificate in {cert_file}"
        )
    return f"MOORAGE_TLS__{setting}: {key_file} has no usable key in PEM form ({reason})"


def _readable(setting: str, path: Path) -> bytes:
    """Return the content of a file.

    Raises:
        SettingsError: the file is missing, can't be read, or is too big.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_FILE_MAX_BYTES + 1)
    except OSError as error:
        raise SettingsError(
            f"MOORAGE_TLS__{setting}: {path} can't be read: {error.strerror}"
        ) from error
    if len(content) > _FILE_MAX_BYTES:
        raise SettingsError(f"MOORAGE_TLS__{setting}: {path} has more than 1 MiB")
    return content


def _new_context(files: Tls) -> ssl.SSLContext:
    """Return a context without a certificate: versions, ALPN, and who may connect."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.options |= ssl.OP_NO_RENEGOTIATION
    if files.client_ca_file is not None:
        _readable("CLIENT_CA_FILE", files.client_ca_file)
        context.verify_mode = ssl.CERT_REQUIRED
        # A resumed session would not be checked against authorities that changed meanwhile.
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
        try:
            context.load_verify_locations(cafile=files.client_ca_file)
        except (ssl.SSLError, OSError) as error:
            raise SettingsError(
                f"MOORAGE_TLS__CLIENT_CA_FILE: {files.client_ca_file} has no certificate in PEM"
                " form"
            ) from error
    return context


class Counted(Protocol):
    """What counts the connections in a handshake; see `web/connections.py`."""

    def open(self, client: str) -> tuple[int, str] | None:
        """Count a connection; a result refuses it."""

    def close(self, client: str) -> None:
        """Count a connection less."""


class TlsListener:
    """Accepts the TLS connections of one process; closed like a server of asyncio.

    asyncio's own server has neither sight of a connection before its handshake is complete, nor a
    limit on unfinished handshakes: clients that never begin TLS would use up the descriptors.

    Args:
        sock: bound; perhaps shared with other processes.
        certificate: of the server.
        counted: the handshakes under way; one beyond the limits is cut at once.
        deadline_s: seconds for one handshake.
        make: makes the protocol of a connection with a complete handshake.
    """

    def __init__(
        self,
        sock: socket.socket,
        certificate: Certificate,
        counted: Counted,
        deadline_s: float,
        make: Callable[[], asyncio.Protocol],
    ) -> None:
        self._sock = sock
        self._context = certificate.context
        self._counted = counted
        self._deadline_s = deadline_s
        self._make = make
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self._pause: asyncio.TimerHandle | None = None

    def listen(self, backlog: int) -> None:
        """Begin to accept."""
        self._sock.setblocking(False)
        self._sock.listen(backlog)
        self._loop.add_reader(self._sock, self._accept)

    def close(self) -> None:
        """Accept nothing more; handshakes under way end by themselves."""
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._sock)

    async def wait_closed(self) -> None:
        """Wait until no handshake is under way."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self) -> None:
        for _ in range(_ACCEPTS):
            try:
                sock, address = self._sock.accept()
            except (BlockingIOError, ConnectionError, InterruptedError):
                return  # another process was faster, or the client is gone
            except OSError as error:
                self._rest(error)
                return
            client = str(address[0])
            if self._counted.open(client) is not None:
                sock.close()
                continue
            task = self._loop.create_task(self._shake(sock, client))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _rest(self, error: OSError) -> None:
        """Accept nothing for a second: the process has no descriptor or memory left."""
        _log.error("can't accept a connection", error=error.strerror)
        self._loop.remove_reader(self._sock)
        again = self._loop.add_reader
        self._pause = self._loop.call_later(_REST_S, again, self._sock, self._accept)

    async def _shake(self, sock: socket.socket, client: str) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            await self._loop.connect_accepted_socket(
                self._make,
                sock,
                ssl=self._context,
                ssl_handshake_timeout=self._deadline_s,
                ssl_shutdown_timeout=_SHUTDOWN_S,
            )
        except OSError as error:  # the client's fault or choice: nothing to tell an operator
            _log.debug("no TLS", client=client, error=getattr(error, "reason", None) or str(error))
        finally:
            self._counted.close(client)
