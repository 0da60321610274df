"""F38: a herd of cold requests for one archive costs one download and little memory."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.process import (
    ROOT,
    Server,
    Site,
    forget_peak,
    free_port,
    memory,
    soft_limit_of_open_files,
    wait_until,
)
from tests.e2e.warm import Warm
from tests.fakes.archives import archive_name
from tests.fakes.faults import Fault
from tests.fakes.godev import FakeGodev

pytestmark = pytest.mark.on_disk

CLIENTS = 500
NAME = archive_name("go1.99.1")
MIB = 1024 * 1024


def _herd(server: Server, fake: FakeGodev, expected: Path, clients: int) -> dict[str, object]:
    """Let them all ask before upstream sends the first byte; return what they got."""
    fake.fault(f"/go/{NAME}", Fault.delay_headers_until_released())
    command = [sys.executable, "-m", "tests.e2e.herd", str(server.port), f"/dl/{NAME}"]
    with subprocess.Popen(
        [*command, str(clients), str(expected)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as herd:
        assert herd.stdout
        assert herd.stdout.readline() == "asked\n"
        fake.wait_until(lambda: fake.stalled == 1)
        fake.release()
        result: dict[str, object] = json.loads(herd.stdout.readline())
        assert herd.wait(60) == 0
        return result


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_F38_500_cold_requests_cause_one_download_and_flat_memory(
    site: Site, fake: FakeGodev, put_release, tmp_path: Path
) -> None:
    data = put_release(extra_bytes=20_000_000)
    expected = tmp_path / NAME
    expected.write_bytes(data)
    # The usual soft limit, which three descriptors for each stream would pass.
    with soft_limit_of_open_files(1024), site.serve() as server:
        forget_peak(server.pid)
        before = memory(server.pid, "VmHWM")
        result = _herd(server, fake, expected, CLIENTS)
        growth = memory(server.pid, "VmHWM") - before
        assert result == {"statuses": {"200": CLIENTS}, "whole": CLIENTS}
        assert fake.hits[f"/go/{NAME}"] == 1
        assert fake.hits[f"/go/{NAME}.asc"] == 1
        assert fake.bytes_sent[f"/go/{NAME}"] == len(data)
        assert growth < 100 * MIB, f"{growth / MIB:.0f} MiB"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_F38_nodes_that_come_at_once_for_a_cold_release_cause_one_download(
    site: Site, warm: Warm, fake: FakeGodev, put_release
) -> None:
    """`MOORAGE_TEST_NODES=500` takes as many nodes, `MOORAGE_TEST_ARCHIVE_BYTES` a larger file."""
    nodes = int(os.environ.get("MOORAGE_TEST_NODES", "60"))
    data = put_release(extra_bytes=int(os.environ.get("MOORAGE_TEST_ARCHIVE_BYTES", "3000000")))
    pieces = [data[at : at + MIB] for at in range(0, len(data), MIB)]
    chunks = b"".join(hashlib.sha256(piece).digest() for piece in pieces)
    with soft_limit_of_open_files(1024), warm.serve(site) as server:
        forget_peak(server.pid)
        before = memory(server.pid, "VmHWM")
        fake.fault(f"/go/{NAME}", Fault.delay_headers_until_released())
        command = [sys.executable, "-m", "tests.e2e.nodeherd", str(server.port), NAME]
        with subprocess.Popen(
            [*command, str(nodes)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        ) as herd:
            assert herd.stdout
            assert herd.stdout.readline() == "asked\n"
            fake.wait_until(lambda: fake.stalled == 1)
            fake.release()
            assert json.loads(herd.stdout.readline()) == {
                "sums": {hashlib.sha256(chunks).hexdigest(): nodes},
                "wrong": {},
            }
        growth = memory(server.pid, "VmHWM") - before
        print(f"{nodes} nodes: memory grew by {growth / MIB:.1f} MiB, from {before / MIB:.1f}")
        assert fake.hits[f"/go/{NAME}"] == 1
        assert fake.bytes_sent[f"/go/{NAME}"] == len(data)
        assert growth < 100 * MIB, f"{growth / MIB:.0f} MiB"


@pytest.mark.slow
def test_F38_two_processes_share_one_download_and_are_gone_when_their_supervisor_is_killed(
    site: Site, warm: Warm, fake: FakeGodev, put_release, tmp_path: Path
) -> None:
    expected = tmp_path / NAME
    expected.write_bytes(put_release(extra_bytes=5_000_000))
    with warm.serve(site.but(workers=2, port=free_port())) as server:
        assert len(server.workers()) == 2
        result = _herd(server, fake, expected, 100)
        assert result == {"statuses": {"200": 100}, "whole": 100}
        assert fake.hits[f"/go/{NAME}"] == 1

        os.kill(server.pid, signal.SIGKILL)
        server.process.wait(10)
        server.is_ended = True
        wait_until(lambda: not server.left_behind(), "the end of the workers")
        with pytest.raises(ConnectionRefusedError):
            server.get("/healthz")
