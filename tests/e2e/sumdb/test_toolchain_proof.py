"""What a public log says of the toolchains that the mirror's archives imply."""

import base64
import hashlib
import io
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import select

from app.core.logstate import LogState
from app.db.releases import ReleaseFileRow
from tests.e2e.process import wait_until
from tests.e2e.sumdb.conftest import MakeGo
from tests.e2e.sumdb.relayed import Relayed, pass_of_the_log, read, relaying
from tests.e2e.warm import Warm
from tests.fakes.archives import archive_name, go_archive
from tests.fakes.godev import FakeGodev
from tests.fakes.goproxy import FakeGoproxy
from tests.fakes.sumdb import NAME, FakeSumdb

RELEASE = "go1.99.1"
SCRIPT = b'#!/bin/sh\necho "ran: $*"\n'
GO_MOD_H1 = "h1:8wlg68NqwW7eMnI1aABk/C2pDYXj8mrMY4TyRfiLeS0="
_DROPPED = ("api/", "doc/", "misc/", "test/")


def toolchain_h1(archive: bytes, version: str) -> str:
    """Return the h1 of the module that an archive makes, by the rule of cmd/distpack."""
    lines = []
    for name, content in _files(archive):
        inner = name.removeprefix("go/")
        if inner.startswith(_DROPPED):
            continue
        folder, slash, base = inner.rpartition("/")
        inner = folder + slash + ("_go.mod" if base == "go.mod" else base)
        digest = hashlib.sha256(content).hexdigest()
        lines.append(f"{digest}  golang.org/toolchain@{version}/{inner}\n")
    lines.sort(key=lambda line: line.partition("  ")[2])
    return "h1:" + base64.b64encode(hashlib.sha256("".join(lines).encode()).digest()).decode()


def _files(archive: bytes) -> list[tuple[str, bytes]]:
    if archive.startswith(b"PK"):
        with zipfile.ZipFile(io.BytesIO(archive)) as zipped:
            return [(name, zipped.read(name)) for name in zipped.namelist()]
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        members = [(entry.name, tar.extractfile(entry)) for entry in tar if entry.isfile()]
        return [(name, stream.read()) for name, stream in members if stream is not None]


@dataclass(frozen=True)
class Proven:
    """A server whose public log can vouch for the toolchains of a linux and a windows archive."""

    relayed: Relayed

    def states(self) -> list[str]:
        """Return what is recorded of the log's word about the archives that are here."""
        rows = read(
            self.relayed.served.site,
            lambda s: s.execute(select(ReleaseFileRow.toolchain_log)).scalars().all(),
        )
        return [row for row in rows if row]


NAMES = [archive_name(RELEASE), archive_name(RELEASE, "windows")]
ARCHIVES = [go_archive(RELEASE, go_command=SCRIPT), go_archive(RELEASE, "windows")]
VERSIONS = [f"v0.0.1-{RELEASE}.linux-amd64", f"v0.0.1-{RELEASE}.windows-amd64"]


@pytest.fixture
def proven(warm: Warm, tmp_path: Path) -> Iterator[Proven]:
    with FakeGoproxy() as proxy, FakeSumdb() as log, FakeGodev() as godev:
        for name, archive in zip(NAMES, ARCHIVES, strict=True):
            godev.put_file(name, archive)
        settings = {
            "releases__index_url": godev.index_url,
            "releases__files_urls": [godev.files_url],
            "releases__sha256_only": ["tar.gz", "zip"],
        }
        with relaying(warm, tmp_path, proxy, log, **settings) as relayed:
            for name in NAMES:
                path = f"/dl/{name}"
                wait_until(lambda p=path: relayed.served.server.get(p).status == 200, path)
            yield Proven(relayed)


def test_the_public_log_proves_archives_and_go_switches_by_its_record(
    proven: Proven, make_go: MakeGo
) -> None:
    relayed = proven.relayed
    for version, archive in zip(VERSIONS, ARCHIVES, strict=True):
        h1 = toolchain_h1(archive, version)
        relayed.log.add("golang.org/toolchain", version, h1, GO_MOD_H1)
    assert pass_of_the_log(relayed.served.site) == 2
    assert proven.states() == [LogState.VERIFIED, LogState.VERIFIED]
    go = make_go(relayed.url(), relayed.log.vkey, GOTOOLCHAIN=RELEASE)
    assert go.out("version") == "ran: version"


def test_an_archive_whose_toolchain_the_public_log_contradicts_is_quarantined(
    proven: Proven, make_go: MakeGo
) -> None:
    relayed = proven.relayed
    other = toolchain_h1(go_archive(RELEASE, seed=1), VERSIONS[0])
    relayed.log.add("golang.org/toolchain", VERSIONS[0], other, GO_MOD_H1)
    assert pass_of_the_log(relayed.served.site) == 0
    assert proven.states() == [LogState.REFUSED]
    server = relayed.served.server
    wait_until(lambda: server.get(f"/dl/{NAMES[0]}").status == 502, "the quarantine", 10)
    assert f"{NAME} vouches for {other}" in server.get(f"/dl/{NAMES[0]}").text
    assert server.get(f"/dl/{NAMES[1]}").status == 200
    refused = make_go(relayed.url(), relayed.log.vkey, GOTOOLCHAIN=RELEASE).run("version")
    assert refused.code == 1
    assert "quarantined" in refused.err
    listed = relayed.served.get("golang.org/toolchain/@v/list").text.split()
    assert listed == VERSIONS[1:]
    pass_of_the_log(relayed.served.site)
    assert server.get(f"/dl/{NAMES[0]}").status == 502
