"""`moorage tls`: a certificate for trying TLS, on this machine alone.

Extensions follow RFC 5280, section 4.2, as far as Go's crypto/x509 and OpenSSL ask for them.
"""

import os
import shlex
import socket
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.output import emit
from app.cli.session import Anywhere
from app.core.errors import SettingsError

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

_CA_DAYS = 365
_EARLIER = timedelta(hours=1)  # clocks of clients differ
_NAME_MAX = 253

tls = typer.Typer(
    name="tls", help="Make a certificate for trying.", no_args_is_help=True, add_completion=False
)


@tls.callback()
def _tls() -> None:
    """Keep the name of the only command."""


@tls.command("self-signed")
def self_signed(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Where the files are written.")
    ] = Path("tls"),
    name: Annotated[
        list[str] | None,
        typer.Option(
            help="Host name or address that the certificate is for; repeatable. Without it:"
            " localhost, 127.0.0.1, ::1 and this machine's name."
        ),
    ] = None,
    days: Annotated[int, typer.Option(min=1, max=365, help="Days of the certificate.")] = 90,
    _anywhere: Anywhere = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Make an authority and a certificate for trying, and print how clients trust them.

    The authority of an earlier run in the same folder is used again, so that clients which trust
    it trust the new certificate, too. A server that runs takes the new one within a minute.
    """
    names = name or ["localhost", "127.0.0.1", "::1", socket.gethostname()]
    emit(_make(folder.absolute(), list(dict.fromkeys(names)), days), as_json, _shown)


def _make(folder: Path, names: list[str], days: int) -> dict[str, Any]:
    from cryptography.hazmat.primitives.asymmetric import ec

    alternatives = [_alternative(name) for name in names]
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        ca_key, authority = _authority(folder)
        now = datetime.now(UTC)
        key = ec.generate_private_key(ec.SECP256R1())
        ends = min(now + timedelta(days=days), authority.not_valid_after_utc)
        certificate = _signed(names[0], key, ends, alternatives, (ca_key, authority))
        chain = _pem(certificate) + _pem(authority)
        # The key first, both by renaming: a server that reads in between finds a pair that does
        # not fit, keeps what it has, and looks again.
        _write(folder / "key.pem", _key_pem(key), 0o600)
        _write(folder / "cert.pem", chain, 0o644)
    except OSError as error:
        raise SettingsError(f"{folder} can't be written to: {error.strerror}") from error
    return {
        "ca_file": str(folder / "ca.pem"),
        "cert_file": str(folder / "cert.pem"),
        "key_file": str(folder / "key.pem"),
        "names": names,
        "expires": ends.isoformat(timespec="seconds"),
    }


def _alternative(name: str) -> "x509.GeneralName":
    from cryptography import x509

    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        pass
    if not name.isascii() or not name or len(name) > _NAME_MAX or any(c in " /:@" for c in name):
        raise SettingsError(f"--name {name!a}: a host name or an address, without scheme and port")
    return x509.DNSName(name)


def _authority(folder: Path) -> "tuple[EllipticCurvePrivateKey, x509.Certificate]":
    """Return key and certificate of the folder's authority; make them if there are none usable."""
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key_file, file = folder / "ca-key.pem", folder / "ca.pem"
    if key_file.exists() and file.exists():
        try:
            key = serialization.load_pem_private_key(key_file.read_bytes(), password=None)
            certificate = x509.load_pem_x509_certificate(file.read_bytes())
        except (ValueError, TypeError) as error:
            raise SettingsError(
                f"{key_file} and {file} are not those of an earlier run; choose another folder"
            ) from error
        if not isinstance(key, ec.EllipticCurvePrivateKey) or (
            key.public_key() != certificate.public_key()
        ):
            raise SettingsError(f"{key_file} is not the key of {file}; choose another folder")
        if certificate.not_valid_after_utc > datetime.now(UTC) + timedelta(days=1):
            return key, certificate
    key = ec.generate_private_key(ec.SECP256R1())
    ends = datetime.now(UTC) + timedelta(days=_CA_DAYS)
    certificate = _signed("Moorage, for trying", key, ends, [], None)
    _write(key_file, _key_pem(key), 0o600)
    _write(file, _pem(certificate), 0o644)
    return key, certificate


def _signed(
    subject: str,
    key: "EllipticCurvePrivateKey",
    ends: datetime,
    names: "list[x509.GeneralName]",
    issuer: "tuple[EllipticCurvePrivateKey, x509.Certificate] | None",
) -> "x509.Certificate":
    """Return a server's certificate; without an issuer, that of an authority."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject[:64])])
    signer, by = (key, name) if issuer is None else (issuer[0], issuer[1].subject)
    is_ca = issuer is None
    usage = x509.KeyUsage(
        digital_signature=not is_ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_ca,
        crl_sign=is_ca,
        encipher_only=False,
        decipher_only=False,
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(by)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - _EARLIER)
        .not_valid_after(ends)
        .add_extension(
            x509.BasicConstraints(ca=is_ca, path_length=0 if is_ca else None), critical=True
        )
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
    )
    if not is_ca:
        server = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
        builder = builder.add_extension(server, critical=False)
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(signer, hashes.SHA256())


def _pem(certificate: "x509.Certificate") -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.PEM)


def _key_pem(key: "EllipticCurvePrivateKey") -> bytes:
    from cryptography.hazmat.primitives import serialization

    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _write(path: Path, content: bytes, mode: int) -> None:
    """Write a file by a rename, so that nobody reads half of it."""
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    with open(descriptor, "wb") as file:  # noqa: PTH123 (a descriptor)
        file.write(content)
    new.rename(path)


def _shown(made: dict[str, Any]) -> str:
    ca_file = shlex.quote(made["ca_file"])
    port = os.environ.get("MOORAGE_PORT", "8080")
    host = next((name for name in made["names"] if name != "::1"), made["names"][0])
    shown = f"[{host}]" if ":" in host else host
    return (
        f"A certificate for {', '.join(made['names'])}, until {made['expires'][:10]}.\n"
        "It is for trying: whoever can read the folder can make more of them.\n\n"
        "Give it to Moorage:\n"
        f"  export MOORAGE_TLS__CERT_FILE={shlex.quote(made['cert_file'])}\n"
        f"  export MOORAGE_TLS__KEY_FILE={shlex.quote(made['key_file'])}\n\n"
        "Have go, curl and moorage trust it (Linux; instead of the system's authorities):\n"
        f"  export SSL_CERT_FILE={ca_file}\n"
        "Or curl alone:\n"
        f"  curl --cacert {ca_file} https://{shown}:{port}/healthz"
    )
