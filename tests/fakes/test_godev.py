"""The fakes themselves: each fault does on the wire what it says, and nothing stays behind."""

import argparse
import contextlib
import gzip
import http.client
import io
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from tests.fakes.__main__ import main, parse_fault
from tests.fakes.archives import archive_name, go_archive, source_name, src_archive
from tests.fakes.faults import HTML, Fault, FaultKind, Framing, Pace, Reply, offset, rope, split
from tests.fakes.godev import FakeGodev

NAME = "go1.99.1.linux-amd64.tar.gz"
PATH = f"/go/{NAME}"
BODY = bytes(range(256)) * 40


@pytest.fixture
def fake() -> Iterator[FakeGodev]:
    with FakeGodev(files={NAME: BODY}) as started:
        yield started


@contextlib.contextmanager
def asking(fake: FakeGodev, target: str, method: str = "GET") -> Iterator[socket.socket]:
    """Send one request and give the socket."""
    port = int(fake.base_url.rpartition(":")[2])
    with socket.socket() as sock:
        # Small, so that hundreds of unread answers don't pile up in the kernel's memory.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        sock.settimeout(10)
        sock.connect(("127.0.0.1", port))
        sock.sendall(f"{method} {target} HTTP/1.1\r\nHost: fake\r\n\r\n".encode())
        yield sock


def read_head(sock: socket.socket) -> tuple[int, dict[str, str]]:
    head = bytearray()
    while not head.endswith(b"\r\n\r\n"):
        byte = sock.recv(1)
        assert byte, "the connection ended in the head"
        head += byte
    first, *lines = head.decode("latin-1").rstrip().split("\r\n")
    return int(first.split()[1]), dict(line.split(": ", 1) for line in lines)


def read_to_end(sock: socket.socket) -> tuple[bytes, str]:
    """Return everything up to the end, and whether that was a FIN ("closed") or a "reset"."""
    got = b""
    while True:
        try:
            more = sock.recv(65536)
        except ConnectionResetError:
            return got, "reset"
        if not more:
            return got, "closed"
        got += more


def read_exactly(sock: socket.socket, size: int) -> bytes:
    got = b""
    while len(got) < size:
        more = sock.recv(size - len(got))
        assert more, f"the connection ended after {len(got)} of {size} bytes"
        got += more
    return got


def wire(fake: FakeGodev, target: str) -> tuple[int, dict[str, str], bytes, str]:
    """Return status, headers, raw body and end of an exchange whose fault closes."""
    with asking(fake, target) as sock:
        return *read_head(sock), *read_to_end(sock)


def get(fake: FakeGodev, target: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
    """Return status, headers in lower case and body by a strict client."""
    port = int(fake.base_url.rpartition(":")[2])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with contextlib.closing(connection):
        connection.request(method, target)
        with connection.getresponse() as response:
            headers = {name.lower(): value for name, value in response.getheaders()}
            return response.status, headers, response.read()


def nothing_to_read(sock: socket.socket) -> bool:
    sock.setblocking(False)
    try:
        return not sock.recv(1)
    except BlockingIOError:
        return True
    finally:
        sock.settimeout(10)


# --- what go.dev and dl.google.com answer ---


def test_a_file_is_served_whole_and_counted(fake: FakeGodev) -> None:
    assert get(fake, PATH + "?x=1")[2] == BODY
    assert fake.hits == {PATH: 1}
    assert fake.bytes_sent == {PATH: len(BODY)}
    request = fake.requests[0]
    assert (request.method, request.target) == ("GET", PATH + "?x=1")
    assert request.headers["accept-encoding"] == "identity"
    fake.forget()
    assert not fake.hits and not fake.requests and not fake.bytes_sent


def test_head_has_the_length_and_no_body(fake: FakeGodev) -> None:
    status, headers, body = get(fake, PATH, "HEAD")
    assert (status, headers["content-length"], body) == (200, str(len(BODY)), b"")
    assert fake.bytes_sent[PATH] == 0


def test_a_connection_is_kept_for_the_next_request(fake: FakeGodev) -> None:
    with asking(fake, PATH) as sock:
        for _ in range(2):
            assert read_head(sock)[0] == 200
            assert read_exactly(sock, len(BODY)) == BODY
            sock.sendall(f"GET {PATH} HTTP/1.1\r\nHost: fake\r\n\r\n".encode())
        assert read_head(sock)[0] == 200
    assert fake.hits[PATH] == 3


def test_other_methods_are_405_and_their_body_is_dropped(fake: FakeGodev) -> None:
    with asking(fake, f"{PATH} HTTP/1.1\r\nContent-Length: 3\r\nX: ", "PUT") as sock:
        sock.sendall(b"abcGET /dl/ HTTP/1.1\r\n\r\n")
        assert read_head(sock)[0] == 405
        assert read_head(sock)[0] == 200


@pytest.mark.parametrize(
    ("target", "status", "kind"),
    [
        ("/dl/", 200, "text/html; charset=utf-8"),
        ("/dl/?mode=json", 200, "application/json"),
        ("/dl/?include=all&mode=json", 200, "application/json"),
        (f"/dl/{NAME}.sha256", 200, "text/html; charset=utf-8"),
        ("/dl/go1.99.1.windows-amd64.zip.asc", 200, "text/html; charset=utf-8"),
        ("/dl/nonsense", 404, "text/html; charset=utf-8"),
        (f"{PATH}.sha256", 200, "text/plain"),
        (f"{PATH}.asc", 404, "application/xml"),
        ("/go/go1.99.2.linux-amd64.tar.gz", 404, "application/xml"),
        ("/elsewhere", 404, "text/plain; charset=utf-8"),
    ],
)
def test_every_path_has_its_status_and_type(
    fake: FakeGodev, target: str, status: int, kind: str
) -> None:
    got, headers, _ = get(fake, target)
    assert (got, headers["content-type"]) == (status, kind)


@pytest.mark.parametrize("suffix", ["tar.gz", "tar.gz.asc", "zip", "msi", "pkg"])
def test_dl_redirects_files_to_the_folder_of_bytes(fake: FakeGodev, suffix: str) -> None:
    status, headers, _ = get(fake, f"/dl/go1.99.1.linux-amd64.{suffix}")
    assert status == 302
    assert headers["location"] == f"{fake.files_url}go1.99.1.linux-amd64.{suffix}"


def test_sha256_is_64_hex_without_newline(fake: FakeGodev) -> None:
    assert get(fake, PATH + ".sha256")[2] == sha256(BODY).hexdigest().encode()


def test_index_lists_all_or_the_newest_stable_of_two_minors() -> None:
    versions = ["go1.97.9", "go1.98.2", "go1.98.10", "go1.99.0", "go1.99rc2", "go1.100rc1"]
    with FakeGodev(files={source_name(v): v.encode() for v in versions}) as fake:
        everything = json.loads(get(fake, "/dl/?mode=json&include=all")[2])
        some = json.loads(get(fake, "/dl/?mode=json")[2])
    assert [release["version"] for release in everything] == [
        "go1.100rc1", "go1.99.0", "go1.99rc2", "go1.98.10", "go1.98.2", "go1.97.9",
    ]  # fmt: skip
    assert [release["stable"] for release in everything] == [False, True, False, True, True, True]
    assert [release["version"] for release in some] == ["go1.99.0", "go1.98.10"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (NAME, ("go1.99.1", "linux", "amd64", "archive")),
        ("go1.99rc1.src.tar.gz", ("go1.99rc1", "", "", "source")),
        ("go1.99.1.windows-arm64.zip", ("go1.99.1", "windows", "arm64", "archive")),
        ("go1.99.1.darwin-arm64.pkg", ("go1.99.1", "darwin", "arm64", "installer")),
        ("go1.99.1.windows-386.msi", ("go1.99.1", "windows", "386", "installer")),
    ],
)
def test_an_index_entry_follows_from_the_name(name: str, expected: tuple[str, ...]) -> None:
    with FakeGodev(files={name: b"x"}) as fake:
        entry = json.loads(get(fake, "/dl/?mode=json&include=all")[2])[0]["files"][0]
    assert (entry["version"], entry["os"], entry["arch"], entry["kind"]) == expected
    assert (entry["filename"], entry["size"], len(entry["sha256"])) == (name, 1, 64)


def test_files_signatures_and_index_change_while_running(fake: FakeGodev, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"from a path")
    fake.put_file(
        "odd.tar.gz", other, signature=b"sig", version="go1.2", sha256="0" * 64, size=7, os="4"
    )
    assert get(fake, "/go/odd.tar.gz")[2] == b"from a path"
    assert get(fake, "/go/odd.tar.gz.asc")[2] == b"sig"
    entry = json.loads(get(fake, "/dl/?mode=json&include=all")[2])[1]["files"][0]
    assert (entry["sha256"], entry["size"], entry["os"]) == ("0" * 64, 7, "4")
    fake.set_signature("odd.tar.gz", None)
    assert get(fake, "/go/odd.tar.gz.asc")[0] == 404
    fake.remove("odd.tar.gz")
    assert get(fake, "/go/odd.tar.gz")[0] == 404
    fake.set_index(b"not JSON")
    assert get(fake, "/dl/?mode=json")[2] == b"not JSON"
    fake.set_index(None)
    assert len(json.loads(get(fake, "/dl/?mode=json")[2])) == 1


def test_a_name_without_version_needs_one() -> None:
    with pytest.raises(ValueError, match=r"odd\.tar\.gz"):
        FakeGodev().put_file("odd.tar.gz", b"")


def write_folder(folder: Path) -> Path:
    entry = {"filename": NAME, "os": "linux", "arch": "amd64", "version": "go1.99.1"}
    entry |= {"sha256": sha256(BODY).hexdigest(), "kind": "archive"}
    archive = {**entry, "size": len(BODY)}
    absent = archive | {"filename": source_name("go1.99.1"), "os": "", "arch": "", "kind": "source"}
    release = {"version": "go1.99.1", "stable": True, "files": [absent, archive]}
    (folder / "index.json").write_text(json.dumps([release]))
    (folder / NAME).write_bytes(BODY)
    (folder / f"{NAME}.asc").write_bytes(b"signature")
    return folder


def test_a_folder_is_served_as_its_index_says(tmp_path: Path) -> None:
    with FakeGodev().from_directory(write_folder(tmp_path)) as fake:
        served = json.loads(get(fake, "/dl/?mode=json&include=all")[2])
        assert served == json.loads((tmp_path / "index.json").read_text())
        assert get(fake, PATH)[2] == BODY
        assert get(fake, f"{PATH}.asc")[2] == b"signature"
        assert get(fake, "/go/go1.99.1.src.tar.gz")[0] == 404


@pytest.mark.parametrize("index", ["", "{}x", '[{"version": "go1.99.1"}]', "[1]"])
def test_a_folder_with_a_malformed_index_is_refused(tmp_path: Path, index: str) -> None:
    (tmp_path / "index.json").write_text(index)
    with pytest.raises(ValueError, match="not an index of releases"):
        FakeGodev().from_directory(tmp_path)


# --- faults ---


@pytest.mark.parametrize(("after", "sent"), [(0, 0), (1000, 1000), ("half", 5120), ("last", 10239)])
def test_F40_truncate_declares_all_and_closes_early(fake: FakeGodev, after: int, sent: int) -> None:
    fake.fault(PATH, Fault.truncate(after))
    _, headers, body, end = wire(fake, PATH)
    assert (headers["Content-Length"], body, end) == (str(len(BODY)), BODY[:sent], "closed")
    assert fake.bytes_sent[PATH] == sent


@pytest.mark.parametrize(("last_chunk", "tail"), [(False, b""), (True, b"0\r\n\r\n")])
def test_F41_truncate_chunked_sends_part(fake: FakeGodev, last_chunk: bool, tail: bytes) -> None:
    fake.fault(PATH, Fault.truncate_chunked(16, last_chunk=last_chunk))
    with asking(fake, PATH) as sock:
        assert "Content-Length" not in read_head(sock)[1]
        sock.shutdown(socket.SHUT_WR)
        assert read_to_end(sock) == (b"10\r\n" + BODY[:16] + b"\r\n" + tail, "closed")


def test_F41_truncate_unframed_ends_like_a_whole_body(fake: FakeGodev) -> None:
    fake.fault(PATH, Fault.truncate_unframed(16))
    _, headers, body, end = wire(fake, PATH)
    assert not {"Content-Length", "Transfer-Encoding"} & headers.keys()
    assert (headers["Connection"], body, end) == ("close", BODY[:16], "closed")


def test_F42_longer_than_length_sends_more_than_it_declares(fake: FakeGodev) -> None:
    fake.fault(PATH, Fault.longer_than_length(b"extra"))
    _, headers, body, _ = wire(fake, PATH)
    assert (headers["Content-Length"], body) == (str(len(BODY)), BODY + b"extra")


@pytest.mark.parametrize("by", [-10, 10])
def test_F42_wrong_length_declares_another(fake: FakeGodev, by: int) -> None:
    fake.fault(PATH, Fault.wrong_length(by))
    _, headers, body, end = wire(fake, PATH)
    assert (headers["Content-Length"], body, end) == (str(len(BODY) + by), BODY, "closed")


@pytest.mark.parametrize("framing", Framing)
def test_F42_oversized_sends_as_much_as_told(fake: FakeGodev, framing: Framing) -> None:
    fake.fault(PATH, Fault.oversized(1_000_001, framing))
    assert len(get(fake, PATH)[2]) == 1_000_001


def test_F43_stall_sends_part_and_the_others_once_released(fake: FakeGodev) -> None:
    fake.fault(PATH, Fault.stall(1000))
    with asking(fake, PATH) as sock:
        read_head(sock)
        assert read_exactly(sock, 1000) == BODY[:1000]
        fake.wait_until(lambda: fake.stalled == 1)
        assert nothing_to_read(sock) and fake.bytes_sent[PATH] == 1000
        fake.release()
        assert read_exactly(sock, len(BODY) - 1000) == BODY[1000:]
    assert fake.stalled == 0


def test_F43_a_stalled_answer_ends_when_the_client_goes(fake: FakeGodev) -> None:
    fake.fault(PATH, Fault.stall(0))
    with asking(fake, PATH) as sock:
        fake.wait_until(lambda: fake.stalled == 1)
        read_head(sock)
    fake.wait_until(lambda: fake.stalled == 0)


def test_F43_delayed_headers_come_once_released(fake: FakeGodev) -> None:
    fake.fault(PATH, Fault.delay_headers_until_released())
    with asking(fake, PATH) as sock:
        fake.wait_until(lambda: fake.stalled == 1)
        assert nothing_to_read(sock)
        fake.release()
        assert read_head(sock)[0] == 200
        assert read_exactly(sock, len(BODY)) == BODY


def test_F43_drip_sends_one_step_and_waits(fake: FakeGodev) -> None:
    fake.fault(PATH, Fault.drip(4, interval_s=3600))
    with asking(fake, PATH) as sock:
        read_head(sock)
        assert read_exactly(sock, 4) == BODY[:4]
        assert nothing_to_read(sock) and fake.bytes_sent[PATH] == 4


def test_F43_drip_sends_everything_in_the_end(fake: FakeGodev) -> None:
    fake.fault(PATH, Fault.drip(5000, interval_s=0.001))
    assert get(fake, PATH)[2] == BODY


@pytest.mark.parametrize(("after", "sent"), [(0, 0), ("half", 5120), ("last", 10239)])
def test_F44_reset_comes_after_that_many_bytes(fake: FakeGodev, after: int, sent: int) -> None:
    fake.fault(PATH, Fault.reset(after))
    with asking(fake, PATH) as sock:
        assert read_head(sock)[1]["Content-Length"] == str(len(BODY))
        assert read_to_end(sock) == (BODY[:sent], "reset")


def test_F44_reset_at_once_sends_nothing(fake: FakeGodev) -> None:
    fake.fault(PATH, Fault.reset_at_once())
    with asking(fake, PATH) as sock:
        assert read_to_end(sock) == (b"", "reset")
    assert fake.hits[PATH] == 1


@pytest.mark.parametrize(("at", "place"), [(0, 0), (300, 300), ("half", 5120), ("last", 10239)])
def test_F45_flip_byte_changes_that_byte_alone(fake: FakeGodev, at: int, place: int) -> None:
    fake.fault(PATH, Fault.flip_byte(at))
    body = get(fake, PATH)[2]
    assert len(body) == len(BODY)
    assert [i for i in range(len(BODY)) if body[i] != BODY[i]] == [place]


@pytest.mark.parametrize(
    ("fault", "status", "headers", "body"),
    [
        pytest.param(Fault.html_200(), 200, {"content-type": "text/html; charset=utf-8"}, HTML,
                     id="F46 html"),
        pytest.param(Fault.status(404), 404, {}, b"", id="F47 404"),
        pytest.param(Fault.status(410, b"gone"), 410, {"content-length": "4"}, b"gone",
                     id="F47 410"),
        pytest.param(Fault.status(401, b"", {"WWW-Authenticate": "Basic"}), 401,
                     {"www-authenticate": "Basic"}, b"", id="F48 401"),
        pytest.param(Fault.status(403, b"secret"), 403, {}, b"secret", id="F48 403"),
        pytest.param(Fault.status(429, headers={"Retry-After": "2"}), 429, {"retry-after": "2"},
                     b"", id="F49"),
        pytest.param(Fault.status(500), 500, {}, b"", id="F50"),
        pytest.param(Fault.status(599), 599, {}, b"", id="F50 unknown status"),
        pytest.param(Fault.redirect_loop(), 302, {"location": PATH + "?q=1"}, b"", id="F52"),
        pytest.param(Fault.redirect("file:///etc/passwd", 307), 307,
                     {"location": "file:///etc/passwd"}, b"", id="F53"),
        pytest.param(Fault.redirect("http://169.254.169.254/x"), 302,
                     {"location": "http://169.254.169.254/x"}, b"", id="F54"),
        pytest.param(Fault.partial_206(), 206, {"content-range": "bytes 0-5119/10240"},
                     BODY[:5120], id="F58"),
        pytest.param(Fault.partial_206(10, 19), 206, {"content-range": "bytes 10-19/10240"},
                     BODY[10:20], id="F58 other range"),
        pytest.param(Fault.empty_200(), 200, {"content-length": "0"}, b"", id="F63 empty"),
        pytest.param(Fault.wrong_content(b"other"), 200, {"content-length": "5"}, b"other",
                     id="F67"),
    ],
)  # fmt: skip
def test_an_answer_is_replaced(
    fake: FakeGodev, fault: Fault, status: int, headers: dict[str, str], body: bytes
) -> None:
    fake.fault(PATH, fault)
    got = get(fake, PATH + "?q=1")
    assert (got[0], got[2]) == (status, body)
    assert headers.items() <= got[1].items()


def test_F59_gzip_is_sent_unasked(fake: FakeGodev) -> None:
    fake.fault(PATH, Fault.gzip_encoded())
    _, headers, body = get(fake, PATH)
    assert headers["content-encoding"] == "gzip"
    assert gzip.decompress(body) == BODY


def test_F60_huge_header_is_sent_whole(fake: FakeGodev) -> None:
    fake.fault(PATH, Fault.huge_header(300_000))
    with asking(fake, PATH) as sock:
        assert len(read_head(sock)[1]["X-Filler"]) == 300_000


def test_faults_queue_up_and_each_request_takes_one(fake: FakeGodev) -> None:
    fake.fault(PATH, Fault.status(500), times=2)
    fake.fault(PATH, Fault.status(503))
    fake.fault("/dl/", Fault.status(404), times=None)
    assert [get(fake, PATH)[0] for _ in range(4)] == [500, 500, 503, 200]
    assert [get(fake, "/dl/?mode=json")[0] for _ in range(3)] == [404, 404, 404]
    fake.clear_faults()
    assert get(fake, "/dl/?mode=json")[0] == 200


@pytest.mark.parametrize("at", [0, 1, 3, 4, 7, 9])
def test_split_cuts_a_rope_at_any_place(at: int) -> None:
    before, after = split(rope(b"abc", b"", b"defg"), at)
    assert (b"".join(before), b"".join(after)) == (b"abcdefg"[:at], b"abcdefg"[at:])


def test_positions_are_bytes_half_or_last() -> None:
    body = rope(b"abc", b"de")
    assert [offset(p, body) for p in (0, 9, "half", "last")] == [0, 5, 2, 4]
    assert [offset(p, ()) for p in (0, "half", "last")] == [0, 0, 0]


# --- the server ---


needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@needs_proc
def test_thread_and_sockets_are_gone_after_the_context(tmp_path: Path) -> None:
    threads, descriptors = threading.active_count(), open_descriptors()
    with FakeGodev().from_directory(write_folder(tmp_path)) as fake:
        fake.fault(PATH, Fault.stall(10))
        with asking(fake, PATH) as sock:
            fake.wait_until(lambda: fake.stalled == 1)
            fake.stop()
            assert read_head(sock)[0] == 200
            assert read_to_end(sock) == (BODY[:10], "closed")
    assert threading.active_count() == threads
    assert open_descriptors() == descriptors


def test_an_outage_refuses_connections_and_ends_on_the_same_port(fake: FakeGodev) -> None:
    before = fake.base_url
    fake.stop()
    with pytest.raises(ConnectionRefusedError):
        get(fake, PATH)
    fake.start()
    assert fake.base_url == before
    assert get(fake, PATH)[2] == BODY


def test_an_error_inside_the_fake_is_raised_at_the_end() -> None:
    def broken(_reply: Reply, _target: str) -> Reply:
        raise LookupError("a bug")

    with pytest.raises(LookupError, match="a bug"), FakeGodev() as fake:
        fake.fault(PATH, Fault(FaultKind.STATUS, broken))
        with asking(fake, PATH) as sock:
            assert read_to_end(sock) == (b"", "closed")


def test_waiting_for_what_never_comes_is_a_timeout(fake: FakeGodev) -> None:
    with pytest.raises(TimeoutError):
        fake.wait_until(lambda: fake.stalled == 1, timeout_s=0.01)


async def test_async_code_can_talk_to_it(fake: FakeGodev) -> None:
    import asyncio

    port = int(fake.base_url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {PATH} HTTP/1.1\r\nConnection: close\r\n\r\n".encode())
    assert (await reader.read()).endswith(BODY)
    writer.close()
    await writer.wait_closed()


@contextlib.contextmanager
def many_descriptors(count: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        pytest.skip(f"needs {count} file descriptors, the limit is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


@needs_proc
def test_500_connections_share_one_copy_of_a_file() -> None:
    size, clients = 8 * 1024 * 1024, 500
    with (
        many_descriptors(2 * clients + 200),
        FakeGodev(files={NAME: bytes(size)}) as fake,
        contextlib.ExitStack() as open_sockets,
    ):
        before = resident_bytes()
        sockets = [open_sockets.enter_context(asking(fake, PATH)) for _ in range(clients)]
        fake.wait_until(lambda: fake.hits[PATH] == clients)
        heads = [read_head(sock)[1] for sock in sockets]
        assert {head["Content-Length"] for head in heads} == {str(size)}
        # Every answer is under way and none was read: copies would be 500 times 8 MB.
        assert resident_bytes() - before < 100 * 1024 * 1024
        assert read_exactly(sockets[-1], size) == bytes(size)


def test_a_70_MB_file_is_served_from_a_path(tmp_path: Path) -> None:
    big = tmp_path / NAME
    big.write_bytes(go_archive(extra_bytes=70_000_000, seed=1))
    with FakeGodev(files={NAME: big}) as fake:
        assert sha256(get(fake, PATH)[2]).digest() == sha256(big.read_bytes()).digest()


def test_a_pace_limits_every_answer() -> None:
    with FakeGodev(files={NAME: BODY}, pace=Pace(100, 3600)) as fake, asking(fake, PATH) as sock:
        read_head(sock)
        read_exactly(sock, 100)
        assert nothing_to_read(sock)
    assert Pace.of_rate(1000) == Pace(50, 0.05)


# --- archives ---


def names_of(archive: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return tar.getnames()


def test_a_binary_archive_has_what_the_toolchain_rule_needs() -> None:
    archive = go_archive("go1.99.1", "linux", "amd64")
    names = {"VERSION", "bin/go", "pkg/tool/linux_amd64/compile", "src/go.mod", "doc/README.md"}
    assert {f"go/{name}" for name in names} <= set(names_of(archive))
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        version = tar.extractfile("go/VERSION")
        assert version and version.read() == b"go1.99.1\ntime 2026-08-28T17:01:22Z\n"
        modes = {entry.name: (entry.mode, entry.isdir()) for entry in tar}
    assert modes["go/bin/go"] == (0o755, False)
    assert modes["go/src/go.mod"] == (0o644, False)
    assert modes["go/src"] == (0o755, True)


def test_a_windows_archive_is_a_zip() -> None:
    with zipfile.ZipFile(io.BytesIO(go_archive(goos="windows", goarch="arm64"))) as archive:
        assert archive.testzip() is None
        assert {"go/bin/go.exe", "go/pkg/tool/windows_arm64/link.exe"} <= set(archive.namelist())


def test_an_armv6l_archive_holds_tools_for_arm() -> None:
    assert "go/pkg/tool/linux_arm/compile" in names_of(go_archive(goarch="armv6l"))


def test_a_source_archive_holds_no_binaries() -> None:
    names = names_of(src_archive())
    assert "go/src/go.mod" in names
    assert not [name for name in names if name.startswith(("go/bin", "go/pkg"))]


@pytest.mark.parametrize(
    ("version", "first"), [("go1.20.1", b"go1.20.1"), ("go1.21rc2", b"go1.21rc2\ntime ")]
)
def test_VERSION_has_a_time_from_1_21_on(version: str, first: bytes) -> None:
    with tarfile.open(fileobj=io.BytesIO(src_archive(version))) as tar:
        file = tar.extractfile("go/VERSION")
        assert file
        text = file.read()
    assert text.startswith(first)
    assert (b"time" in text) == (b"time" in first)


@pytest.mark.parametrize("goos", ["linux", "windows"])
def test_archives_depend_on_their_arguments_alone(goos: str) -> None:
    assert go_archive(goos=goos) == go_archive(goos=goos)
    assert go_archive(goos=goos) != go_archive(goos=goos, seed=1)
    assert 0 <= len(go_archive(goos=goos, extra_bytes=5_000_000)) - 5_000_000 < 50_000


def test_archive_names_are_the_fields() -> None:
    assert archive_name("go1.99.1") == NAME
    assert archive_name("go1.99.1", "windows", "386") == "go1.99.1.windows-386.zip"
    assert source_name("go1.99.1") == "go1.99.1.src.tar.gz"


# --- by hand ---


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_by_hand_it_prints_exports_logs_requests_and_stops_cleanly(
    tmp_path: Path, number: int
) -> None:
    command = [sys.executable, "-m", "tests.fakes.godev", "--dir", str(write_folder(tmp_path))]
    command += ["--port", "0", "--fault", f"{PATH}=status:503*1", "--rate", "100000000"]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        exports = [process.stdout.readline().rstrip() for _ in range(3)]
        base = exports[0].removeprefix("export MOORAGE_RELEASES__INDEX_URL=").removesuffix("/dl/")
        assert exports[1:] == [
            f"""export MOORAGE_RELEASES__FILES_URLS='["{base}/go/"]'""",
            """export MOORAGE_NETWORK__ALLOW='["127.0.0.0/8"]'""",
        ]
        for status, sent in ((503, 0), (200, len(BODY))):
            connection = http.client.HTTPConnection(base.removeprefix("http://"), timeout=10)
            with contextlib.closing(connection):
                connection.request("GET", PATH)
                with connection.getresponse() as response:
                    assert len(response.read()) == sent
            assert process.stdout.readline() == f"GET '{PATH}' {status} {sent}\n"
        process.send_signal(number)
        assert process.wait(10) == 0
        assert process.stdout.read() == ""


def test_by_hand_a_missing_folder_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--dir", str(tmp_path / "absent"), "--port", "0"]) == 2
    assert "absent/index.json" in capsys.readouterr().err


@pytest.mark.parametrize("kind", FaultKind)
def test_by_hand_every_kind_has_a_spelling(kind: FaultKind) -> None:
    argument = {FaultKind.STATUS: ":503", FaultKind.REDIRECT: ":http://h/*"}.get(kind, "")
    path, fault, times = parse_fault(f"/go/x={kind}{argument}*2")
    assert (path, fault.kind, times) == ("/go/x", kind, 2)
    assert isinstance(fault.spoil(Reply(body=rope(b"abc")), "/go/x"), Reply)
    assert parse_fault(f"/go/x={kind}{argument}")[2] is None


@pytest.mark.parametrize(
    "text", ["", "/go/x", "/go/x=", "/go/x=odd", "/go/x=status", "/go/x=stall:-1", "/x=redirect"]
)
def test_by_hand_a_malformed_fault_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        parse_fault(text)
