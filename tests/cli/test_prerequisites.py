"""What `moorage serve` refuses at its start, `moorage config check` finds: the same lines."""

import base64
import errno
import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from app.core.errors import StorageError
from app.services.backup.restoring import MARK
from app.settings import Settings
from app.wiring import require_restored
from tests.e2e.process import Site
from tests.e2e.warm import Warm
from tests.fakes.tls import Authority

PASSWORD = "hunter2-canary"
POSTGRES = f"postgresql+psycopg://m:{PASSWORD}@127.0.0.1"


@dataclass(frozen=True)
class Place:
    """Where a case writes its files."""

    folder: Path
    data_dir: Path
    authority: Authority

    def file(self, name: str, content: bytes, mode: int = 0o600) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(mode)
        return path

    def certificate(self, **more: Any) -> Path:
        """Return a file with a certificate and its key."""
        return self.file("server.pem", self.authority.server(**more))


Case = Callable[[Place], dict[str, Any]]


def _key_of_another(place: Place) -> dict[str, Any]:
    other = place.file("other.pem", Authority.new().server())
    return {"tls__cert_file": place.certificate(), "tls__key_file": other}


def _open_key(place: Place) -> dict[str, Any]:
    path = place.certificate()
    path.chmod(0o644)
    return {"tls__cert_file": path}


def _no_authority(place: Place) -> dict[str, Any]:
    wrong = place.file("ca.pem", b"no certificate\n")
    return {"tls__cert_file": place.certificate(), "tls__client_ca_file": wrong}


def _malformed_secrets_key(place: Place) -> dict[str, Any]:
    place.file("data/keys/secrets.key", b"not a key\n")
    return {}


def _unreadable_secrets_key(place: Place) -> dict[str, Any]:
    (place.data_dir / "keys" / "secrets.key").mkdir(parents=True)
    return {}


def _half_restored(place: Place) -> dict[str, Any]:
    place.file(f"data/{MARK}", b"{}")
    return {}


def _postgres(url: str) -> Case:
    key = base64.b64encode(b"k" * 32).decode()
    return lambda _place: {"database_url": url, "secrets_key": key}


REFUSED: dict[str, tuple[Case, str]] = {
    "a certificate that is not there": (
        lambda place: {"tls__cert_file": place.folder / "none.pem"},
        "MOORAGE_TLS__CERT_FILE: * can't be read: No such file",
    ),
    "no certificate in the file": (
        lambda place: {"tls__cert_file": place.file("server.pem", b"nothing\n")},
        "MOORAGE_TLS__CERT_FILE: * has no certificate in PEM form",
    ),
    "the key of another certificate": (_key_of_another, "does not belong to the first certificate"),
    "a key that everybody can read": (_open_key, "run chmod o-rwx"),
    "authorities of clients without a certificate": (
        _no_authority,
        "MOORAGE_TLS__CLIENT_CA_FILE: * has no certificate",
    ),
    "a malformed key of secrets": (
        _malformed_secrets_key,
        "keys/secrets.key in the data directory",
    ),
    "a key of secrets that can't be read": (_unreadable_secrets_key, "read keys/secrets.key"),
    "half of a restore": (_half_restored, "run `moorage restore` again"),
    "a database of several hosts without a key": (
        lambda _place: {"database_url": f"{POSTGRES}/m"},
        "MOORAGE_SECRETS_KEY: replicas that share a database need one key",
    ),
    "a malformed port of the database": (
        _postgres(f"{POSTGRES}:port/m"),
        "MOORAGE_DATABASE_URL: its host or port is malformed",
    ),
    "an unknown option of the database": (
        _postgres(f"{POSTGRES}/m?colour=blue"),
        "MOORAGE_DATABASE_URL: PostgreSQL does not know an option",
    ),
    "an SQLite file in a folder that is not there": (
        lambda place: {"database_url": f"sqlite:///{place.folder}/none/m.db"},
        "MOORAGE_DATABASE_URL: there is no folder",
    ),
    "authorities of upstreams without a certificate": (
        lambda place: {"network__ca_file": place.file("more.pem", b"nothing\n")},
        "MOORAGE_NETWORK__CA_FILE: * it has no certificate in PEM form",
    ),
    "an address of another machine": (
        lambda _place: {"host": "192.0.2.1"},
        "choose a MOORAGE_HOST of this machine",
    ),
    "metrics at an address of another machine": (
        lambda _place: {"metrics__host": "192.0.2.1", "metrics__port": 9},
        "choose a MOORAGE_METRICS__HOST of this machine",
    ),
    "a key export without keys": (
        lambda place: {"releases__keyring": place.file("keys.asc", b"nothing\n")},
        "MOORAGE_RELEASES__KEYRING: ",
    ),
}


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.new()


@pytest.fixture
def place(tmp_path: Path, authority: Authority) -> Place:
    return Place(tmp_path, tmp_path / "data", authority)


@pytest.mark.parametrize("name", REFUSED)
def test_a_check_says_what_the_start_says(place: Place, warm: Warm, name: str) -> None:
    case, words = REFUSED[name]
    site = Site.new(place.folder, **case(place))
    before = sorted(place.folder.rglob("*"))
    checked = warm.run(site, "config", "check")
    assert sorted(place.folder.rglob("*")) == before
    started = warm.run(site, "serve")
    assert (checked.code, checked.out) == (2, "")
    assert started.code != 0
    for part in words.split("*"):
        assert part in checked.err
    assert checked.err.splitlines()[-1] in started.err
    assert PASSWORD not in checked.err + started.err
    as_json = warm.run(site, "config", "check", "--json").json
    assert [f"moorage: {line}" for line in as_json["problems"]] == checked.err.splitlines()


def test_everything_that_is_missing_is_told_at_once(place: Place, warm: Warm) -> None:
    site = Site.new(
        place.folder,
        host="192.0.2.1",
        tls__cert_file=place.folder / "none.pem",
        **_malformed_secrets_key(place),
    )
    for command in (("config", "check"), ("serve",)):
        complaints = warm.run(site, *command).err
        assert [line.split(":")[1].split()[0] for line in complaints.splitlines()] == [
            "MOORAGE_TLS__CERT_FILE",
            "can't",
            "keys/secrets.key",
        ]


def test_an_expired_certificate_is_a_warning_as_at_the_start(place: Place, warm: Warm) -> None:
    certificate = place.certificate(ends_in=timedelta(seconds=-1))
    site = Site.new(place.folder, tls__cert_file=certificate)
    checked = warm.run(site, "config", "check", "--json")
    assert checked.code == 0
    assert "the TLS certificate expired on" in checked.json["warnings"][0]
    assert "warning: the TLS certificate expired on" in checked.err


def test_a_key_export_of_own_releases_is_a_warning(place: Place, warm: Warm) -> None:
    wrong = place.file("own.asc", b"nothing\n")
    site = Site.new(
        place.folder, releases__own_keyring=wrong, releases__own_fingerprints=["A" * 40]
    )
    checked = warm.run(site, "config", "check")
    assert checked.code == 0
    assert "MOORAGE_RELEASES__OWN_KEYRING" in checked.err


@pytest.fixture
def taken_port() -> Iterator[int]:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        yield listener.getsockname()[1]


def test_the_port_of_a_running_service_is_no_fault(
    place: Place, warm: Warm, taken_port: int
) -> None:
    site = Site.new(place.folder, port=taken_port)
    checked = warm.run(site, "config", "check")
    assert checked.code == 0, checked
    assert json.loads(warm.run(site, "config", "check", "--json").out)["warnings"] == []
    assert not place.data_dir.exists()


def test_the_doctor_looks_at_the_rest_where_a_file_is_missing(place: Place, warm: Warm) -> None:
    site = Site.new(place.folder, tls__cert_file=place.folder / "none.pem")
    site.migrate()
    findings = warm.run(site, "doctor", "--json").json
    assert [one["about"] for one in findings if one["level"] == "trouble"] == ["start"]
    assert {"store", "secrets", "keyring", "leader"} <= {one["about"] for one in findings}


def test_a_data_directory_of_another_user_is_no_traceback(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_path: Path, **_more: Any) -> os.stat_result:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "stat", refuse)
    with pytest.raises(StorageError, match=r"MOORAGE_DATA_DIR: .* can't be looked into"):
        require_restored(Settings.model_construct(data_dir=place.data_dir))
