"""A lying server, a broken line, an evil archive: a reason, and the old release in place."""

import base64
import gzip
import io
import json
import tarfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from app.core.notekey import Signer
from app.node.errors import RefusedError
from app.node.tree import parse_tree
from tests.fakes.archives import go_archive
from tests.fakes.faults import Fault
from tests.fakes.fleet import FakeFleet, go_script, has_zstd, tree_file, tree_of
from tests.node.conftest import V1, V2, V3, Node

needs_zstd = pytest.mark.skipif(not has_zstd(), reason="the zstd program is not installed")
OTHER = Signer("fleet.example", b"another seed of thirty-two bytes")
NOW = datetime.now(UTC)


@pytest.fixture
def settled(node: Node, fleet: FakeFleet) -> Node:
    """A node on the first release; the second one is offered, in revision 5."""
    fleet.revision = 5
    assert node.install(V1).code == 0
    fleet.put_release(V2, extra_bytes=(2 << 20) + 5)
    return node


def assert_refused(node: Node, reason: str, *argv: str, version: str = V2) -> None:
    """Try the second release: one line with the reason, and nothing has changed."""
    before = sorted(node.root.rglob("*"))
    done = node.install(version, *argv)
    assert done.code == 1
    assert reason in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.value["reason"] in done.stderr
    assert node.current == V1
    assert sorted(node.root.rglob("*")) == before
    assert node.is_clean(V1)


MANIFESTS: dict[str, tuple[str, Callable[[FakeFleet], bytes]]] = {
    "older revision": ("replayed older one", lambda f: f.manifest(revision=4)),
    "expired": (
        "expired 5 days ago",
        lambda f: f.manifest(issued=NOW - timedelta(days=19, hours=1)),
    ),
    "other key": ("signature by fleet.example+", lambda f: _as_ours(f.manifest(signer=OTHER), f)),
    "unknown key": ("not signed by the pinned key", lambda f: f.manifest(signer=OTHER)),
    "altered": ("its text was altered", lambda f: f.manifest().replace(b'"size":', b'"size":1')),
    "other channel": ("is of channel 'next'", lambda f: f.manifest(channel="next")),
    "cut off": ("no signed note", lambda f: f.manifest()[:-20]),
    "web page": ("no signed note", lambda _: b"<html>login</html>\n"),
    "unknown form": ("does not know", lambda f: f.manifest(revision="9")),
    "not offered": ("does not offer", lambda f: f.manifest(releases=[])),
    "no text": ("no signed note", lambda _: b""),
}


def _as_ours(note: bytes, fleet: FakeFleet) -> bytes:
    """Return a note of another key whose signature line says that it is our key's."""
    text, _, line = note.decode().rpartition(" ")
    hash_and_signature = fleet.signer.verifier.key_hash + base64.b64decode(line)[4:]
    return f"{text} {base64.b64encode(hash_and_signature).decode()}\n".encode()


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_manifest_that_is_not_right_changes_nothing(settled: Node, name: str):
    reason, make = MANIFESTS[name]
    settled.fleet.served_manifest = make(settled.fleet)
    assert_refused(settled, reason)


FILES: dict[str, tuple[str, str, Fault]] = {
    "flipped piece": ("piece 1 of", "", Fault.flip_byte((1 << 20) + 7)),
    "other file of the right size": ("piece 0 of", "", Fault.flip_byte(0)),
    "cut off": ("cut off", "", Fault.truncate("half")),
    "web page": ("piece 0 of", "", Fault.html_200()),
    "empty": ("piece 0 of", "", Fault.empty_200()),
    "gone": ("404", "", Fault.status(404)),
    "other tree": ("not the one of the manifest", ".tree", Fault.flip_byte(70)),
    "other sums": ("not the one of the manifest", ".chunks", Fault.flip_byte(3)),
    "sums cut off": ("cut off", ".chunks", Fault.truncate(40)),
    "redirected": ("302", "", Fault.redirect("http://127.0.0.1:9/elsewhere")),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_not_right_changes_nothing(settled: Node, name: str):
    reason, suffix, fault = FILES[name]
    settled.fleet.fault(settled.fleet.path(V2, suffix), fault, times=None)
    assert_refused(settled, reason)


def test_what_follows_the_promised_bytes_is_not_read(settled: Node):
    fleet = settled.fleet
    fleet.set_file(V2, "", fleet.answer_bytes(V2) + b"more")
    assert settled.install(V2).code == 0
    assert settled.is_clean(V1, V2)


@needs_zstd
@pytest.mark.parametrize("at", [0, "half"])
def test_a_zst_that_is_not_right_changes_nothing(settled: Node, at: Any):
    settled.fleet.put_release(V3, zst=True)
    settled.fleet.fault(settled.fleet.path(V3, ".zst"), Fault.flip_byte(at), times=None)
    assert_refused(settled, "piece 0 of", version=V3)


@needs_zstd
def test_a_zst_of_another_tar_is_refused(settled: Node):
    from tests.fakes.fleet import zst_of

    other = zst_of(go_archive(V3, go_command=b"#!/bin/sh\nexit 1\n"))
    settled.fleet.put_release(V3, zst=other)
    assert_refused(settled, "not the one of its tree", version=V3)


def test_a_stalled_archive_ends_by_the_idle_limit(settled: Node):
    settled.fleet.fault(settled.fleet.path(V2), Fault.stall(100), times=None)
    assert_refused(settled, "no byte came in time", "--idle", "0.2")


def test_an_archive_that_drips_ends_by_the_deadline(settled: Node):
    drip = Fault.drip(bytes_per_tick=4096, interval_s=0.02)
    settled.fleet.fault(settled.fleet.path(V2), drip, times=None)
    assert_refused(settled, "takes longer than", "--deadline", "0.3")


def test_a_server_that_is_down_changes_nothing(settled: Node):
    settled.fleet.stop()
    assert_refused(settled, "refused")
    settled.fleet.start()


def test_a_break_is_mended_by_a_range(settled: Node):
    path = settled.fleet.path(V2)
    settled.fleet.fault(path, Fault.truncate((1 << 20) + 9), times=2)
    assert settled.install(V2).code == 0
    asked = [one.headers.get("range") for one in settled.fleet.requests if one.path == path]
    cut = (1 << 20) + 9
    assert asked == [None, f"bytes={cut}-", f"bytes={2 * cut}-"]
    assert settled.is_clean(V1, V2)


def test_a_server_without_ranges_is_read_from_the_start(settled: Node):
    path = settled.fleet.path(V2)
    settled.fleet.fault(path, Fault.truncate((1 << 20) + 9))
    whole = Fault.wrong_content(settled.fleet.answer_bytes(V2))
    settled.fleet.fault(path, whole)
    assert settled.install(V2).code == 0


def test_a_second_server_takes_over_in_the_middle(settled: Node):
    with FakeFleet(platform=settled.fleet.platform) as second:
        second.put_release(V2, extra_bytes=(2 << 20) + 5)
        settled.fleet.fault(settled.fleet.path(V2), Fault.flip_byte((1 << 20) + 7), times=None)
        done = settled.install(V2, "--server", second.base_url)
        assert done.code == 0, done.stderr
        [request] = [one for one in second.requests if one.path == second.path(V2)]
        assert request.headers["range"] == "bytes=1048576-"
    assert settled.is_clean(V1, V2)


def test_a_repair_refuses_what_the_installation_would_refuse(settled: Node):
    settled.path("VERSION").unlink()
    spoiled = f"/dl/{settled.fleet.filename(V1)}"
    settled.fleet.fault(spoiled, Fault.flip_byte(500), times=None)
    assert settled.run("repair").code == 1
    assert settled.fleet.hits[spoiled]
    assert settled.run("verify").value["missing"] == ["VERSION"]


def test_without_a_key_the_published_sum_counts(node: Node, fleet: FakeFleet):
    fleet.set_file(V1, ".sha256", b"0" * 64)
    done = node.run("install", V1, "--server", fleet.base_url)
    assert (done.code, node.current) == (1, None)
    assert "its SHA-256 is" in done.stderr


@pytest.mark.parametrize("url", ["http://198.51.100.7", "http://moorage.example:8080"])
def test_without_a_key_a_server_is_https_or_loopback(node: Node, url: str):
    done = node.run("install", V1, "--server", url)
    assert (done.code, "--vkey" in done.stderr) == (2, True)


# Evil archives. The tree is honest where the archive lies, and the other way round.


def archive_with(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    """Return a small release with further members at its end."""
    plain = gzip.decompress(go_archive(V2, go_command=go_script(V2)))
    out = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(plain)) as old,
        tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for member in old:
            tar.addfile(member, old.extractfile(member) if member.isfile() else None)
        for member, content in members:
            tar.addfile(member, io.BytesIO(content))
    return gzip.compress(out.getvalue(), 1)


def info(name: str, kind: bytes = tarfile.REGTYPE, *, size: int = 0, target: str = "") -> Any:
    made = tarfile.TarInfo(name)
    made.type, made.size, made.linkname, made.mode = kind, size, target, 0o755
    return made


EVIL = {
    "parent": info("go/../../evil"),
    "absolute": info("/tmp/evil"),
    "elsewhere": info("evil"),
    "hard link": info("go/evil", tarfile.LNKTYPE, target="go/VERSION"),
    "device": info("go/evil", tarfile.CHRTYPE),
    "fifo": info("go/evil", tarfile.FIFOTYPE),
    "link out": info("go/evil", tarfile.SYMTYPE, target="../../evil"),
    "twice": info("go/VERSION"),
    "twice, other case": info("go/version"),
    "long name": info("go/" + "x" * 300),
    "below a file": info("go/VERSION/evil"),
}


@pytest.mark.parametrize("name", EVIL)
def test_an_archive_with_more_than_its_tree_is_refused(settled: Node, name: str):
    honest = tree_of(go_archive(V2, go_command=go_script(V2)))
    settled.fleet.put_release(V2, archive_with((EVIL[name], b"")), tree=honest)
    assert_refused(settled, "the archive")
    assert not (settled.root.parent / "evil").exists()


def test_an_archive_with_less_than_its_tree_is_refused(settled: Node):
    more = tree_of(archive_with((info("go/more"), b"")))
    settled.fleet.put_release(V2, go_archive(V2, go_command=go_script(V2)), tree=more)
    assert_refused(settled, "lacks 1 files of its tree, such as 'more'")


def test_links_and_long_names_arrive_as_they_are(settled: Node):
    long = "go/" + "long/" * 30 + "name"
    folders = [info(long[: i + 4], tarfile.DIRTYPE) for i in range(3, len(long) - 5, 5)]
    archive = archive_with(
        *((folder, b"") for folder in folders),
        (info(long, size=3), b"abc"),
        (info("go/bin/link", tarfile.SYMTYPE, target="../VERSION"), b""),
    )
    settled.fleet.put_release(V2, archive)
    assert settled.install(V2).code == 0
    assert settled.path(long[3:], V2).read_bytes() == b"abc"
    assert settled.path("bin/link", V2).readlink() == Path("../VERSION")
    assert settled.is_clean(V1, V2)
    settled.path("bin/link", V2).unlink()
    settled.path("bin/link", V2).symlink_to("/etc/passwd")
    assert settled.run("verify").value["changed"] == {"bin/link": "target"}
    assert settled.run("repair").code == 0
    assert settled.is_clean(V1, V2)


SUM = "0" * 64
FILE = {"mode": 420, "path": "go/a", "sha256": SUM, "size": 1, "type": "file"}
FOLDER = {"mode": 493, "path": "go/d", "type": "dir"}
LINK = {"path": "go/l", "target": "a", "type": "link"}
TREES: dict[str, list[Any]] = {
    "parent": [{**FILE, "path": "go/../evil"}],
    "absolute": [{**FILE, "path": "/etc/evil"}],
    "elsewhere": [{**FILE, "path": "evil"}],
    "double slash": [{**FILE, "path": "go//evil"}],
    "dot": [{**FILE, "path": "go/./evil"}],
    "final slash": [{**FOLDER, "path": "go/d/"}],
    "backslash": [{**FILE, "path": "go/..\\evil"}],
    "newline": [{**FILE, "path": "go/a\nb"}],
    "no text": [{**FILE, "path": "go/\ud800"}],
    "no string": [{**FILE, "path": 3}],
    "long": [{**FILE, "path": "go/" + "x" * 256}],
    "case": [FILE, {**FILE, "path": "go/A"}],
    "folded case": [{**FILE, "path": "go/ß"}, {**FILE, "path": "go/SS"}],
    "twice": [FILE, FILE],
    "no folder": [{**FILE, "path": "go/d/a"}],
    "below a file": [FILE, {**FILE, "path": "go/a/b"}],
    "below a link": [LINK, {**FILE, "path": "go/l/b"}],
    "setuid": [{**FILE, "mode": 0o4755}],
    "negative mode": [{**FILE, "mode": -1}],
    "true as a number": [{**FILE, "mode": True}],
    "negative size": [{**FILE, "size": -1}],
    "huge": [{**FILE, "size": 5 << 30}],
    "no sum": [{**FILE, "sha256": ""}],
    "capital sum": [{**FILE, "sha256": "A" * 64}],
    "device": [{**FILE, "type": "char"}],
    "absolute link": [{**LINK, "target": "/etc/passwd"}],
    "link out": [{**LINK, "target": "../x"}],
    "link out by a folder": [FOLDER, {**LINK, "path": "go/d/l", "target": "../../x"}],
    "empty link": [{**LINK, "target": ""}],
    "list": [["go/a"]],
    "lacks a field": [{"path": "go/a", "type": "file"}],
}


@pytest.mark.parametrize("name", TREES)
def test_a_tree_that_leads_out_is_refused_as_a_whole(name: str):
    raw = b"".join(json.dumps(entry).encode() + b"\n" for entry in TREES[name])
    with pytest.raises(RefusedError):
        parse_tree(raw)


def test_a_tree_that_leads_out_is_refused_although_it_is_signed(settled: Node):
    tree = tree_file([FOLDER, {**LINK, "target": "../../../evil"}])
    settled.fleet.put_release(V2, tree=tree)
    assert_refused(settled, "leads out of the release")


def test_each_cut_and_flip_of_a_tree_is_refused_or_another_tree():
    raw = tree_file([FILE, FOLDER, LINK])
    assert len(parse_tree(raw).entries) == 3
    for end in range(len(raw) - 1):
        try:
            assert len(parse_tree(raw[:end]).entries) < 3
        except RefusedError:
            continue
    for place in range(len(raw)):
        try:
            parse_tree(raw[:place] + bytes([raw[place] ^ 0x80]) + raw[place + 1 :])
        except RefusedError:
            continue
        raise AssertionError(place)
