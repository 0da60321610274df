"""F97: a server that is told to stop finishes what it began, and starts again as if nothing was."""

import contextlib
import hashlib
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import which

import pytest

from tests.e2e.process import Server, Site, blobs, free_port, staged, wait_until
from tests.e2e.warm import Warm
from tests.fakes.archives import archive_name
from tests.fakes.faults import Fault
from tests.fakes.godev import FakeGodev

pytestmark = pytest.mark.on_disk

NAME = archive_name("go1.99.1")
CLIENTS = 8
BIG = 10_000_000


@dataclass
class SlowClient:
    """A client that has read the head of a big answer and then stopped reading."""

    sock: socket.socket
    length: int
    begun: bytes

    @classmethod
    def of(cls, server: Server) -> "SlowClient":
        """Connect, ask and read a little."""
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32_768)
        sock.settimeout(60)
        sock.connect(("127.0.0.1", server.port))
        sock.sendall(f"GET /dl/{NAME} HTTP/1.1\r\nHost: slow\r\n\r\n".encode())
        received = b""
        while b"\r\n\r\n" not in received:
            received += sock.recv(1024)
        head, begun = received.split(b"\r\n\r\n", 1)
        assert head.startswith(b"HTTP/1.1 200 "), head
        return cls(sock, int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]), begun)

    def rest(self) -> str:
        """Read to the end; return the SHA-256 of the body."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_194_304)
        hashed, count = hashlib.sha256(self.begun), len(self.begun)
        while count < self.length and (data := self.sock.recv(1 << 20)):
            hashed.update(data)
            count += len(data)
        self.sock.close()
        return hashed.hexdigest()


@contextlib.contextmanager
def slow_clients(server: Server) -> Iterator[list[SlowClient]]:
    clients: list[SlowClient] = []
    try:
        clients.extend(SlowClient.of(server) for _ in range(CLIENTS))
        yield clients
    finally:
        for client in clients:
            client.sock.close()


def refuses(server: Server) -> bool:
    """Whether nobody listens there any more."""
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", server.port)) != 0


def with_workers(site: Site, workers: int, **more: int) -> Site:
    return site.but(workers=workers, port=free_port(), **more)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_F97_SIGTERM_while_clients_download_drains_and_ends_with_0(
    site: Site, fake: FakeGodev, put_release, warm: Warm, workers: int
) -> None:
    expected = hashlib.sha256(put_release(extra_bytes=BIG)).hexdigest()
    draining = with_workers(site, workers, drain_s=600)
    # Two workers are once those of the real program.
    with warm.serve(draining) if workers == 1 else draining.serve() as server:
        assert server.get(f"/dl/{NAME}").status == 200
        with slow_clients(server) as clients:
            server.send(signal.SIGTERM)
            wait_until(lambda: server.get("/readyz").status == 503, "unreadiness")
            # Load balancers need time to notice: new requests are still answered.
            for _ in range(8):
                assert server.get("/readyz").status == 503
                assert server.get("/healthz").status == 200
                assert server.get(f"/dl/{NAME}.sha256").text == expected
            # The end of the drain by itself is in tests/test_server.py.
            server.send(signal.SIGTERM)
            wait_until(lambda: refuses(server), "the end of listening")
            assert not server.ended()
            assert {client.rest() for client in clients} == {expected}
        server.wait_stopped()
    assert_clean_start(warm, draining, expected)
    assert fake.hits[f"/go/{NAME}"] == 1


def assert_clean_start(warm: Warm, site: Site, expected: str) -> None:
    """Assert that the next start serves what is stored, with nothing left over."""
    assert staged(site.data_dir) == []
    assert list((site.data_dir / "keys").glob("gpg-*")) == []
    with warm.serve(site.but(workers=1, drain_s=0)) as server:
        assert server.get(f"/dl/{NAME}.sha256").text == expected
        assert "Admin token" not in server.err
    assert warm.run(site, "fsck", "--deep", "--json").json["findings"] == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("workers", "to_group"),
    [(1, True), (1, False), (2, True)],
    ids=["1 as Ctrl-C", "1 to one process", "2 as Ctrl-C"],
)
def test_F97_SIGINT_finishes_downloads_and_ends_with_0(
    site: Site, put_release, warm: Warm, workers: int, to_group: bool
) -> None:
    expected = hashlib.sha256(put_release(extra_bytes=BIG)).hexdigest()
    with warm.serve(with_workers(site, workers, drain_s=600)) as server:
        assert server.get(f"/dl/{NAME}").status == 200
        assert_finishes_a_download(
            server,
            expected,
            lambda: (os.killpg if to_group else os.kill)(server.pid, signal.SIGINT),
        )


def assert_finishes_a_download(server: Server, expected: str, stop: Callable[[], None]) -> None:
    """Assert that a server which is told to stop sends the rest of a download, and ends with 0."""
    client = SlowClient.of(server)
    stop()
    wait_until(lambda: refuses(server), "the end of listening")
    assert client.rest() == expected
    server.wait_stopped()


def test_a_second_SIGTERM_ends_the_drain(site: Site, put_release, warm: Warm) -> None:
    put_release()
    with warm.serve(site.but(drain_s=600)) as server:
        server.send(signal.SIGTERM)
        wait_until(lambda: server.get("/readyz").status == 503, "unreadiness")
        server.stop()


@pytest.mark.slow
def test_downloads_that_take_too_long_are_cut(site: Site, put_release, warm: Warm) -> None:
    put_release(extra_bytes=BIG)
    with warm.serve(site.but(shutdown_s=1)) as server:
        with slow_clients(server) as clients:
            server.stop()
            short = clients[0].rest()
        assert short != hashlib.sha256(put_release(extra_bytes=BIG)).hexdigest()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_F97_a_signal_during_an_ingestion_leaves_nothing_half_done(
    site: Site, fake: FakeGodev, put_release, warm: Warm, number: int
) -> None:
    data = put_release(extra_bytes=2_000_000)
    fake.fault(f"/go/{NAME}", Fault.stall("half"))
    # Nobody releases the stalled download: the ingestion has to be cut.
    with warm.serve(site.but(shutdown_s=1, drain_s=1)) as server:
        asked = threading.Thread(target=ask_in_vain, args=(server,))
        asked.start()
        fake.wait_until(lambda: fake.stalled == 1)
        server.stop(number)
        asked.join(120)
        assert not asked.is_alive()
    assert staged(site.data_dir) == []
    assert warm.run(site, "fsck", "--deep", "--json").json["findings"] == []
    assert warm.run(site, "releases", "list", "--all", "--json").json[0]["files"][0]["state"] == (
        "known"
    )
    with warm.serve(site) as server:
        assert server.get(f"/dl/{NAME}").body == data


@pytest.mark.slow
def test_F66_a_gpg_that_hangs_does_not_hold_the_end_up(
    site: Site, fake: FakeGodev, put_release, tmp_path: Path, warm: Warm
) -> None:
    """Only the verification hangs: the key was taken over by the real gpg."""
    put_release()
    started = tmp_path / "started"
    os.mkfifo(started)
    gpg = tmp_path / "bin" / "gpg"
    gpg.parent.mkdir()
    hang = f"echo > {started}; sleep 600"
    gpg.write_text(
        f'#!/bin/sh\ncase "$*" in *--verify*) {hang};; *) exec {which("gpg")} "$@";; esac\n'
    )
    gpg.chmod(0o755)
    path = f"{gpg.parent}:{os.environ['PATH']}"
    hanging = replace(site, environ={**site.environ, "PATH": path})
    with warm.serve(hanging.but(shutdown_s=1, drain_s=0)) as server:
        asked = threading.Thread(target=ask_in_vain, args=(server,))
        asked.start()
        started.read_bytes()  # until gpg runs
        server.stop(timeout_s=40)  # gpg itself would be given 60
        asked.join(120)
        assert not asked.is_alive()
    assert staged(site.data_dir) == []


def ask_in_vain(server: Server) -> None:
    with contextlib.suppress(OSError, ValueError):
        assert server.get(f"/dl/{NAME}").status >= 500


@pytest.mark.slow
def test_F97_an_ingestion_that_ends_in_time_is_kept_although_it_was_told_to_stop(
    site: Site, fake: FakeGodev, put_release, warm: Warm
) -> None:
    data = put_release(extra_bytes=2_000_000)
    fake.fault(f"/go/{NAME}", Fault.stall("half"))
    replies = []
    with warm.serve(site.but(drain_s=600)) as server:
        asked = threading.Thread(target=lambda: replies.append(server.get(f"/dl/{NAME}")))
        asked.start()
        fake.wait_until(lambda: fake.stalled == 1)
        server.send(signal.SIGTERM)
        wait_until(lambda: server.get("/readyz").status == 503, "unreadiness")
        fake.release()
        asked.join(120)
        assert [reply.body == data for reply in replies] == [True]
        server.stop()
    # The archive, its signature, and what is derived from it: tree and chunks.
    assert len(blobs(site.data_dir)) == 4


@pytest.mark.slow
def test_a_killed_worker_is_replaced_and_requests_keep_working(
    site: Site, put_release, warm: Warm
) -> None:
    """And F97: SIGINT to the supervisor alone ends the first worker and the one that came later."""
    expected = hashlib.sha256(put_release(extra_bytes=BIG)).hexdigest()
    with warm.serve(with_workers(site, 2, drain_s=1)) as server:
        wait_until(lambda: len(server.workers()) == 2, "both workers")
        assert server.get(f"/dl/{NAME}").status == 200
        first, second = server.workers()
        os.kill(first, signal.SIGKILL)
        wait_until(
            lambda: len(server.workers()) == 2 and first not in server.workers(), "another worker"
        )
        assert second in server.workers()
        for _ in range(20):
            assert server.get(f"/dl/{NAME}.sha256").text == expected
        wait_until(
            lambda: any(e["event"] == "process died; starting another" for e in server.events),
            "the line in the log",
        )
        assert_finishes_a_download(server, expected, lambda: server.send(signal.SIGINT))


@pytest.mark.slow
def test_nothing_of_another_run_disturbs_a_start(
    site: Site, put_release, tmp_path: Path, warm: Warm
) -> None:
    put_release()
    with warm.serve(site) as killed:
        killed.get(f"/dl/{NAME}")
        killed.kill()
    left = tmp_path / "data" / "tmp" / ("0" * 32)
    left.mkdir(parents=True)
    (left / "abcd").write_bytes(b"half")
    with warm.serve(site) as server:
        assert server.get(f"/dl/{NAME}").status == 200
        assert not left.exists()
