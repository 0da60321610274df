"""`app.tls`: the server's certificate, its renewal, who may connect, handshakes that do not end."""

import asyncio
import os
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from pydantic import ValidationError

from app.core.errors import SettingsError
from app.settings import Settings
from app.settings.sections.network import Tls
from app.tls import Certificate, TlsListener, certificate_of
from app.web.connections import Connections
from app.web.tenancy import Gateways
from tests.fakes.tls import Authority

PRIVATE = serialization.PrivateFormat.PKCS8
PEM = serialization.Encoding.PEM


def write(path: Path, content: bytes, mode: int = 0o600) -> Path:
    new = path.with_suffix(".new")
    new.write_bytes(content)
    new.chmod(mode)
    return new.rename(path)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.new()


@pytest.fixture
def files(tmp_path: Path, authority: Authority) -> Tls:
    """Settings whose file has key and certificate of localhost."""
    return Tls(cert_file=write(tmp_path / "server.pem", authority.server()))


def trusting(authority: Authority, version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=authority.pem.decode())
    context.set_alpn_protocols(["h2", "http/1.1"])
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context


def shaken(
    server: ssl.SSLContext, client: ssl.SSLContext, name: str | None = "localhost"
) -> ssl.SSLObject:
    """Return the client's side after a handshake in memory."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(down, up, server_hostname=name)
    theirs = server.wrap_bio(up, down, server_side=True)
    for _ in range(6):
        for side in (ours, theirs):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    ours.do_handshake()
    theirs.do_handshake()
    return ours


def serial(server: ssl.SSLContext, authority: Authority) -> object:
    """Return the serial number of the certificate that a new connection gets."""
    certificate = shaken(server, trusting(authority)).getpeercert()
    assert certificate
    return certificate["serialNumber"]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_TLS_1_2_and_1_3_speak_HTTP_1_1(
    files: Tls, authority: Authority, version: ssl.TLSVersion
) -> None:
    client = shaken(Certificate(files).context, trusting(authority, version))
    names = {ssl.TLSVersion.TLSv1_2: "TLSv1.2", ssl.TLSVersion.TLSv1_3: "TLSv1.3"}
    assert (client.version(), client.selected_alpn_protocol()) == (names[version], "http/1.1")


def test_an_older_TLS_is_refused(files: Tls, authority: Authority) -> None:
    client = trusting(authority)
    client.set_ciphers("DEFAULT:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning):
        client.minimum_version = client.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError):
        shaken(Certificate(files).context, client)


def test_a_client_that_names_no_host_gets_the_newest_certificate_too(
    files: Tls, authority: Authority
) -> None:
    certificate = Certificate(files)
    assert files.cert_file
    write(files.cert_file, authority.server())
    assert certificate.refresh()
    client = trusting(authority)
    client.check_hostname = False
    first = shaken(certificate.context, client, None).getpeercert()
    assert first and first["serialNumber"] == serial(certificate.context, authority)


def test_a_renewed_certificate_is_taken_and_an_unchanged_one_is_not_read(
    files: Tls, authority: Authority
) -> None:
    certificate = Certificate(files)
    before = serial(certificate.context, authority)
    assert not certificate.refresh()
    assert files.cert_file
    write(files.cert_file, authority.server(ends_in=timedelta(days=60)))
    assert certificate.refresh()
    assert serial(certificate.context, authority) != before
    assert certificate.expires > datetime.now(UTC) + timedelta(days=50)
    assert not certificate.refresh()


def test_a_key_of_another_kind_replaces_the_earlier_one_whole(
    tmp_path: Path, authority: Authority
) -> None:
    # A context that had both would go on serving the first one to clients that prefer its kind.
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    first, second = tmp_path / "ec.pem", tmp_path / "rsa.pem"
    first.write_bytes(authority.server())
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost", "-keyout", second, "-out", tmp_path / "c"),
        ],
        check=True,
        capture_output=True,
    )
    issued = (tmp_path / "c").read_bytes()
    path = write(tmp_path / "server.pem", first.read_bytes())
    certificate = Certificate(Tls(cert_file=path))
    write(path, second.read_bytes() + issued)
    assert certificate.refresh()
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        client = ssl.create_default_context(cadata=issued.decode())
        client.minimum_version = client.maximum_version = version
        shaken(certificate.context, client)


@pytest.mark.parametrize("content", [b"", b"not PEM\n", b"half"])
def test_a_renewal_that_is_wrong_changes_nothing_until_it_is_right(
    files: Tls, authority: Authority, content: bytes
) -> None:
    certificate = Certificate(files)
    before = serial(certificate.context, authority)
    assert files.cert_file
    renewed = authority.server()
    write(files.cert_file, renewed[: len(renewed) // 2] if content == b"half" else content)
    for _ in range(2):
        assert not certificate.refresh()
        assert serial(certificate.context, authority) == before
        assert "can't be used, the earlier one is" in (certificate.note() or "")
    write(files.cert_file, renewed)
    assert certificate.refresh()
    assert certificate.note() is None
    assert serial(certificate.context, authority) != before


def test_a_renewal_whose_file_is_gone_for_a_while_changes_nothing(
    files: Tls, authority: Authority
) -> None:
    certificate = Certificate(files)
    assert files.cert_file
    content = files.cert_file.read_bytes()
    files.cert_file.unlink()
    assert not certificate.refresh()
    assert "No such file" in (certificate.note() or "")
    write(files.cert_file, content)
    assert certificate.refresh()
    assert certificate.note() is None


def test_a_key_in_a_file_of_its_own(tmp_path: Path, authority: Authority) -> None:
    both = authority.server()
    cut = both.index(b"-----BEGIN CERTIFICATE")
    key = write(tmp_path / "key.pem", both[:cut])
    chain = write(tmp_path / "cert.pem", both[cut:], 0o644)
    shaken(Certificate(Tls(cert_file=chain, key_file=key)).context, trusting(authority))


def protected(pem: bytes) -> bytes:
    key = serialization.load_pem_private_key(pem, None)
    assert not isinstance(key, rsa.RSAPublicKey)
    return key.private_bytes(PEM, PRIVATE, serialization.BestAvailableEncryption(b"secret"))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("no certificate", "CERT_FILE: .*cert.pem can't be read: No such file"),
        ("no key", "KEY_FILE: .*key.pem can't be read: No such file"),
        ("a folder", "CERT_FILE: .*cert.pem can't be read: Is a directory"),
        ("not PEM", "CERT_FILE: .*cert.pem has no certificate in PEM form"),
        ("no key in it", "KEY_FILE: .*key.pem has no usable key in PEM form"),
        ("another key", "KEY_FILE: the key in .* does not belong to the first certificate"),
        ("a password", "KEY_FILE: the key in .* has a password"),
        ("open to everybody", "KEY_FILE: everybody can read or change the key .*chmod o-rwx"),
        ("too big", "CERT_FILE: .*cert.pem has more than 1 MiB"),
        ("no authority", "CLIENT_CA_FILE: .*ca.pem has no certificate in PEM form"),
    ],
)
def test_a_start_with_a_wrong_file_is_refused_with_the_settings_name(
    tmp_path: Path, authority: Authority, wrong: str, message: str
) -> None:
    both = authority.server()
    cut = both.index(b"-----BEGIN CERTIFICATE")
    cert = write(tmp_path / "cert.pem", both[cut:], 0o644)
    key = write(tmp_path / "key.pem", both[:cut])
    client_ca = None
    if wrong == "no certificate":
        cert.unlink()
    elif wrong == "a folder":
        cert.unlink()
        cert.mkdir()
    elif wrong == "no key":
        key.unlink()
    elif wrong == "not PEM":
        write(cert, b"x\n")
    elif wrong == "no key in it":
        write(key, b"x\n")
    elif wrong == "another key":
        write(key, authority.server()[:cut])
    elif wrong == "a password":
        write(key, protected(both[:cut]))
    elif wrong == "open to everybody":
        key.chmod(0o644)
    elif wrong == "too big":
        write(cert, bytes((1 << 20) + 1))
    elif wrong == "no authority":
        client_ca = write(tmp_path / "ca.pem", b"x\n")
    with pytest.raises(SettingsError, match=f"MOORAGE_TLS__{message}"):
        certificate_of(Tls(cert_file=cert, key_file=key, client_ca_file=client_ca))


def test_without_a_certificate_there_is_no_TLS() -> None:
    assert certificate_of(Tls()) is None


@pytest.mark.parametrize("name", ["key_file", "client_ca_file"])
def test_a_key_or_an_authority_without_a_certificate_contradicts(name: str) -> None:
    with pytest.raises(ValidationError, match=r"set tls\.cert_file"):
        Settings.model_validate({"tls": {name: "/x"}})


def test_two_listeners_on_one_port_contradict() -> None:
    with pytest.raises(ValidationError, match="port of the other listener"):
        Settings.model_validate({"port": 8080, "metrics": {"port": 8080}})


@pytest.mark.parametrize(
    ("days", "says"), [(30, None), (13, "expires on"), (0, "expires on"), (-1, "expired on")]
)
def test_an_operator_is_told_before_and_after_a_certificate_expires(
    tmp_path: Path, authority: Authority, days: int, says: str | None
) -> None:
    ends_in = timedelta(days=days, hours=1 if days >= 0 else 0)
    path = write(tmp_path / "server.pem", authority.server(ends_in=ends_in))
    note = Certificate(Tls(cert_file=path)).note()
    assert note is None if says is None else says in (note or "")


@pytest.fixture
def clients(tmp_path: Path) -> Authority:
    """The authority of clients."""
    made = Authority.new("clients")
    write(tmp_path / "clients.pem", made.pem)
    return made


def with_certificate(client: ssl.SSLContext, pem: bytes, folder: Path) -> ssl.SSLContext:
    client.load_cert_chain(write(folder / "client.pem", pem))
    return client


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_only_clients_of_the_authority_are_let_in(
    files: Tls, authority: Authority, clients: Authority, tmp_path: Path, version: ssl.TLSVersion
) -> None:
    closed = files.model_copy(update={"client_ca_file": tmp_path / "clients.pem"})
    certificate = Certificate(closed)
    with pytest.raises(ssl.SSLError):
        shaken(certificate.context, trusting(authority, version))
    stranger = with_certificate(trusting(authority, version), authority.client(), tmp_path)
    with pytest.raises(ssl.SSLError):
        shaken(certificate.context, stranger)
    known = with_certificate(trusting(authority, version), clients.client(), tmp_path)
    shaken(certificate.context, known)
    # The authority of clients is renewed like the certificate.
    write(tmp_path / "clients.pem", authority.pem)
    assert certificate.refresh()
    shaken(certificate.context, stranger)
    with pytest.raises(ssl.SSLError):
        shaken(certificate.context, known)


class Greeting(asyncio.Protocol):
    """Sends a greeting as soon as the handshake is complete."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(b"hello")
        transport.close()


@pytest.fixture
def bound() -> Iterator[socket.socket]:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock


async def test_handshakes_that_do_not_begin_are_few_and_end(
    files: Tls, authority: Authority, bound: socket.socket
) -> None:
    # One address may have two unfinished handshakes here, each for a moment.
    counted = Connections(100, 2, Gateways(()))
    listener = TlsListener(bound, Certificate(files), counted, 0.2, Greeting)
    listener.listen(16)
    try:
        address = bound.getsockname()
        silent = [await asyncio.open_connection(*address) for _ in range(3)]
        ends = [asyncio.ensure_future(reader.read()) for reader, _ in silent]
        # The third is cut at once, the others at their deadline.
        assert await asyncio.wait_for(ends[2], 60) == b""
        assert [await asyncio.wait_for(end, 60) for end in ends[:2]] == [b"", b""]
        reader, writer = await asyncio.open_connection(
            *address, ssl=trusting(authority), server_hostname="localhost"
        )
        assert await asyncio.wait_for(reader.read(), 60) == b"hello"
        for _, one in [*silent, (reader, writer)]:
            one.close()
    finally:
        listener.close()
        await listener.wait_closed()


async def test_a_process_without_descriptors_rests_and_goes_on(
    files: Tls, authority: Authority, bound: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Exhausted:
        """A listening socket whose first accept fails, as with EMFILE."""

        failures = 1

        def __getattr__(self, name: str) -> object:
            return getattr(bound, name)

        def accept(self) -> tuple[socket.socket, object]:
            if self.failures:
                self.failures -= 1
                raise OSError(24, os.strerror(24))
            return bound.accept()

    monkeypatch.setattr("app.tls._REST_S", 0.0)
    sock = Exhausted()
    listener = TlsListener(sock, Certificate(files), Connections(9, 9, Gateways(())), 9, Greeting)  # type: ignore[arg-type]
    listener.listen(16)
    try:
        reader, writer = await asyncio.open_connection(
            *bound.getsockname(), ssl=trusting(authority), server_hostname="localhost"
        )
        assert await asyncio.wait_for(reader.read(), 60) == b"hello"
        writer.close()
        assert sock.failures == 0
    finally:
        listener.close()
        await listener.wait_closed()
