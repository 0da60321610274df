"""TLS in front of a plain loopback port, with a certificate authority of its own.

Bytes are forwarded as they come; HTTP is not looked at, and only HTTP/1.1 is offered (ALPN). What
can be wrong about the certificate is a `Flaw`. Servers to put behind it are not here.

    with FakeGoproxy() as fake, TlsFront(fake.base_url) as front:
        ...  # point the code under test at front.url, and let it trust front.ca_file
"""

import asyncio
import contextlib
import ipaddress
import socket
import ssl
import tempfile
import threading
import warnings
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_NAMES = ("localhost", "127.0.0.1")
_DAY = timedelta(days=1)


class Flaw(StrEnum):
    """Why a client must refuse the connection (F57)."""

    EXPIRED = "expired"
    WRONG_NAME = "wrong-name"  # the certificate is for other.example alone
    SELF_SIGNED = "self-signed"  # signed by a key that ca_file does not hold
    OLD_TLS = "tls-1.0"  # a good certificate, but nothing newer than TLS 1.0


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority; one may sign for several fronts."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @classmethod
    def new(cls, name: str = "moorage tests") -> "Authority":
        """Return a new one, valid for a year."""
        key = ec.generate_private_key(ec.SECP256R1())
        usage = x509.KeyUsage(
            digital_signature=False,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=True,
            crl_sign=True,
            encipher_only=False,
            decipher_only=False,
        )
        made = _unsigned(name, name, key, 365 * _DAY)
        made = made.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        made = made.add_extension(usage, critical=True)
        return cls(key, made.sign(key, hashes.SHA256()))

    @property
    def pem(self) -> bytes:
        """The certificate, to be trusted."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def client(self, name: str = "client") -> bytes:
        """Return key and certificate of a client as PEM."""
        return self.server((name,), usage=ExtendedKeyUsageOID.CLIENT_AUTH)

    def server(
        self,
        names: tuple[str, ...] = _NAMES,
        *,
        ends_in: timedelta = 30 * _DAY,
        usage: x509.ObjectIdentifier = ExtendedKeyUsageOID.SERVER_AUTH,
    ) -> bytes:
        """Return key and certificate of a server as PEM; below zero, ends_in makes it expired."""
        key = ec.generate_private_key(ec.SECP256R1())
        issuer = self.certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
        made = _unsigned(names[0], str(issuer), key, ends_in)
        for extension in (
            x509.SubjectAlternativeName([_general_name(name) for name in names]),
            x509.ExtendedKeyUsage([usage]),
            x509.BasicConstraints(ca=False, path_length=None),
            x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()),
        ):
            made = made.add_extension(extension, critical=False)
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        signed = made.sign(self.key, hashes.SHA256())
        return private + signed.public_bytes(serialization.Encoding.PEM)


def _unsigned(
    name: str, issuer: str, key: ec.EllipticCurvePrivateKey, ends_in: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 60 * _DAY)
        .not_valid_after(now + ends_in)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


class TlsFront:
    """Terminates TLS on a free port of 127.0.0.1 and forwards to a plain one.

    Use it as a context manager from sync and async tests alike.

    Args:
        target: the port behind, on 127.0.0.1, or a URL that has it.
        flaw: what is wrong on purpose.
        authority: who signs; by default a new one.
    """

    def __init__(
        self, target: int | str, *, flaw: Flaw | None = None, authority: Authority | None = None
    ) -> None:
        port = target if isinstance(target, int) else urlsplit(target).port
        if port is None:
            raise ValueError(f"{target!r} names no port")
        self._target, self._flaw = port, flaw
        self._authority = authority or Authority.new()
        self._conversations: set[asyncio.Task[None]] = set()
        self.port = 0
        self.connections = 0  # handshakes that succeeded
        self._folder: tempfile.TemporaryDirectory[str]
        self._loop: asyncio.AbstractEventLoop
        self._stopping: asyncio.Event
        self._thread: threading.Thread

    @property
    def url(self) -> str:
        """Scheme, name and port, without a slash at the end; known once started."""
        return f"https://localhost:{self.port}"

    @property
    def ca_file(self) -> Path:
        """The authority's certificate as PEM, for SSL_CERT_FILE or a CA bundle setting."""
        return Path(self._folder.name, "ca.pem")

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="moorage-tls-")
        self.ca_file.write_bytes(self._authority.pem)
        context = _context(self._authority, self._flaw, Path(self._folder.name, "server.pem"))
        listener = socket.create_server(("127.0.0.1", self.port), backlog=256)
        self.port = listener.getsockname()[1]
        ready = threading.Event()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(listener, context, ready)),
            name="TlsFront",
            daemon=True,
        )
        self._thread.start()
        ready.wait()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()
        self._folder.cleanup()

    async def _serve(
        self, listener: socket.socket, context: ssl.SSLContext, ready: threading.Event
    ) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(
            self._accepted, sock=listener, ssl=context, ssl_shutdown_timeout=1
        )
        ready.set()
        await self._stopping.wait()
        server.close()
        for task in self._conversations:
            task.cancel()
        await asyncio.gather(*self._conversations, return_exceptions=True)

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = self._loop.create_task(self._converse(reader, writer))
        self._conversations.add(task)
        task.add_done_callback(self._conversations.discard)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind: asyncio.StreamWriter | None = None
        pumps: list[asyncio.Task[None]] = []
        try:
            answers, behind = await asyncio.open_connection("127.0.0.1", self._target)
            pumps = [
                self._loop.create_task(_pump(answers, writer)),
                self._loop.create_task(_pump(reader, behind)),
            ]
            done, _ = await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            for pump in done:
                pump.result()
            await _closed(writer)
        except OSError:
            pass  # either side may leave at any time: the other one sees its connection cut
        finally:
            for pump in pumps:
                pump.cancel()
            # Before the next await, at which the end of the server may cancel this.
            for end in (writer, behind):
                if end is not None:
                    end.transport.abort()
            await asyncio.gather(*pumps, return_exceptions=True)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(65536):
        writer.write(piece)
        await writer.drain()


async def _closed(writer: asyncio.StreamWriter) -> None:
    """Send what is left and TLS's own end, so that a client sees no truncation."""
    writer.close()
    with contextlib.suppress(OSError, TimeoutError):
        await asyncio.wait_for(writer.wait_closed(), 5)


def _context(authority: Authority, flaw: Flaw | None, chain: Path) -> ssl.SSLContext:
    signer = Authority.new() if flaw is Flaw.SELF_SIGNED else authority
    names = ("other.example",) if flaw is Flaw.WRONG_NAME else _NAMES
    chain.write_bytes(signer.server(names, ends_in=-_DAY if flaw is Flaw.EXPIRED else 30 * _DAY))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["http/1.1"])
    if flaw is Flaw.OLD_TLS:
        # OpenSSL 3 speaks TLS 1.0 only at security level 0, and Python warns of it.
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1
    context.load_cert_chain(chain)
    return context
