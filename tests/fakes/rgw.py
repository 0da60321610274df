"""Ceph's RADOS Gateway on loopback, from Debian's packages: an S3 store that checks everything.

One monitor, one OSD in memory, no manager. Debian: `radosgw ceph-mon ceph-osd`. It takes some ten
seconds to start, so that only `make test-s3` uses it.
"""

import json
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.fakes.s3 import FakeS3

_START_S = 120.0
_CONFIGURED = ("ceph-mon", "ceph-osd", "ceph", "radosgw-admin")
_CONF = """
[global]
fsid = {fsid}
mon initial members = a
mon host = [v2:127.0.0.1:{ports[0]}/0,v1:127.0.0.1:{ports[1]}/0]
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
keyring = {folder}/keyring
run dir = {folder}
admin socket = {folder}/$name.asok
log file = {folder}/$name.log
pid file =
mon data = {folder}/mon
osd data = {folder}/osd
osd objectstore = memstore
memstore device bytes = 4294967296
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
public addr = 127.0.0.1
cluster addr = 127.0.0.1
[osd]
keyring = {folder}/osd/keyring
"""


def reason_to_skip() -> str | None:
    """Return what is missing, or None."""
    for program in ("ceph-mon", "ceph-osd", "radosgw", "radosgw-admin", "ceph", "monmaptool"):
        if shutil.which(program) is None:
            return f"{program} is not installed (Debian: radosgw ceph-mon ceph-osd)"
    return None


class RadosGateway(FakeS3):
    """The gateway, in the place of moto's server."""

    def __init__(self) -> None:
        self._ports = [_free_port() for _ in range(3)]
        self.endpoint = f"http://127.0.0.1:{self._ports[2]}"
        self._folder = Path(tempfile.mkdtemp(prefix="moorage-rgw-"))
        self._conf = self._folder / "ceph.conf"
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    def _make_bucket(self, bucket: str) -> None:
        import boto3  # type: ignore[import-untyped]

        client = boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id="access",
            aws_secret_access_key="secret",
        )
        client.create_bucket(Bucket=bucket)

    def _start(self) -> None:
        folder, fsid, osd = self._folder, str(uuid.uuid4()), str(uuid.uuid4())
        self._conf.write_text(_CONF.format(fsid=fsid, ports=self._ports, folder=folder))
        mon_keys, keys = str(folder / "mon.keyring"), str(folder / "keyring")
        every = ["--cap", "mon", "allow *", "--cap", "osd", "allow *", "--cap", "mgr", "allow *"]
        self._run("ceph-authtool", "-C", mon_keys, "-g", "-n", "mon.", "--cap", "mon", "allow *")
        self._run("ceph-authtool", "-C", keys, "-g", "-n", "client.admin", *every)
        self._run("ceph-authtool", mon_keys, "--import-keyring", keys)
        address = f"[v2:127.0.0.1:{self._ports[0]},v1:127.0.0.1:{self._ports[1]}]"
        monmap = str(folder / "monmap")
        self._run("monmaptool", "--create", "--addv", "a", address, "--fsid", fsid, monmap)
        self._run("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap, "--keyring", mon_keys)
        self._serve("ceph-mon", "-i", "a")
        secret = self._run("ceph-authtool", "--gen-print-key").strip()
        # The same uuid here and in mkfs: else the OSD is refused.
        self._run("ceph", "osd", "new", osd, "-i", "-", stdin=json.dumps({"cephx_secret": secret}))
        (folder / "osd").mkdir()
        osd_keys = str(folder / "osd" / "keyring")
        self._run("ceph-authtool", "-C", osd_keys, "--name", "osd.0", "--add-key", secret)
        self._run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
        self._run("ceph", "osd", "crush", "add", "osd.0", "1.0", "root=default", "host=localhost")
        self._serve("ceph-osd", "-i", "0")
        self._run(
            "ceph",
            "auth",
            "get-or-create",
            "client.rgw.a",
            "mon",
            "allow rw",
            "osd",
            "allow rwx",
            "-o",
            str(folder / "rgw.keyring"),
        )
        frontend = f"beast endpoint=127.0.0.1:{self._ports[2]}"
        self._serve(
            "radosgw",
            "-n",
            "client.rgw.a",
            "-k",
            str(folder / "rgw.keyring"),
            f"--rgw-frontends={frontend}",
        )
        self._run(
            "radosgw-admin",
            "user",
            "create",
            "--uid=moorage",
            "--display-name=Moorage",
            "--access-key=access",
            "--secret-key=secret",
        )
        self._wait()

    def _wait(self) -> None:
        from urllib.error import HTTPError, URLError
        from urllib.request import urlopen

        end = time.monotonic() + _START_S
        while True:
            try:
                urlopen(self.endpoint, timeout=5).close()
            except HTTPError:
                return
            except URLError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.2)
            else:
                return

    def _run(self, program: str, *arguments: str, stdin: str | None = None) -> str:
        done = subprocess.run(
            [program, *(["-c", str(self._conf)] if program in _CONFIGURED else []), *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=_START_S,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{program} {arguments}: {done.stdout}{done.stderr}")
        return done.stdout

    def _serve(self, program: str, *arguments: str) -> None:
        log = (self._folder / f"{program}.out").open("wb")
        with log:
            self._processes.append(
                subprocess.Popen(
                    [program, "-f", "-c", str(self._conf), *arguments], stdout=log, stderr=log
                )
            )

    def _stop(self) -> None:
        for process in reversed(self._processes):
            process.kill()
            process.wait(30)
        shutil.rmtree(self._folder, ignore_errors=True)


def _free_port() -> int:
    """Return a port that is free now: Ceph takes no 0."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
