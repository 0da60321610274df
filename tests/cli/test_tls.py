"""`moorage tls self-signed`: what it writes, and that a second run keeps the authority."""

import ssl
import stat
from pathlib import Path

import pytest

from app.settings.sections.network import Tls
from app.tls import Certificate
from tests.e2e.process import Site
from tests.e2e.warm import Warm
from tests.test_tls import shaken


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site.new(tmp_path, port=8443)


def test_the_files_work_and_the_keys_are_private(site: Site, warm: Warm) -> None:
    made = warm.run(site, "tls", "self-signed", "--name", "moorage.example", "--name", "10.1.2.3")
    assert made.code == 0, made
    folder = site.folder / "tls"
    assert f"export SSL_CERT_FILE={folder}/ca.pem" in made.out
    assert f"curl --cacert {folder}/ca.pem https://moorage.example:8443/healthz" in made.out
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert modes == {"ca.pem": 0o644, "ca-key.pem": 0o600, "cert.pem": 0o644, "key.pem": 0o600}
    server = Certificate(Tls(cert_file=folder / "cert.pem", key_file=folder / "key.pem"))
    client = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    for name in ("moorage.example", "10.1.2.3"):
        shaken(server.context, client, name)
    with pytest.raises(ssl.SSLCertVerificationError):
        shaken(server.context, client, "localhost")


def test_a_second_run_renews_the_certificate_under_the_same_authority(
    site: Site, warm: Warm
) -> None:
    folder = site.folder / "tls"
    for days in ("1", "30"):
        assert warm.run(site, "tls", "self-signed", "--days", days).code == 0
        if days == "1":
            authority, certificate = (folder / "ca.pem").read_bytes(), folder / "cert.pem"
            server = Certificate(Tls(cert_file=certificate, key_file=folder / "key.pem"))
            assert "expires on" in (server.note() or "")
    assert (folder / "ca.pem").read_bytes() == authority
    assert server.refresh()
    assert server.note() is None


@pytest.mark.parametrize("name", ["https://moorage.example", "moorage.example:8080", "a b", "ü.de"])
def test_a_name_is_a_host_or_an_address(site: Site, warm: Warm, name: str) -> None:
    ended = warm.run(site, "tls", "self-signed", "--name", name)
    assert (ended.code, "a host name or an address" in ended.err) == (2, True)


def test_files_of_somebody_else_are_left_alone(site: Site, warm: Warm) -> None:
    folder = site.folder / "tls"
    folder.mkdir()
    for name in ("ca.pem", "ca-key.pem"):
        (folder / name).write_text("mine\n")
    ended = warm.run(site, "tls", "self-signed")
    assert (ended.code, "choose another folder" in ended.err) == (2, True)
    assert sorted(path.name for path in folder.iterdir()) == ["ca-key.pem", "ca.pem"]
