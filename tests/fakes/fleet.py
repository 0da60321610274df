"""An imitation of what nodes ask a server for: `/dl/`, `/dl/channels/…` and `/fleet/v1/…`.

The derived files and the manifest are made here by other means than in `app`: tarfile and json.
What is wrong about the answers on purpose is in `faults.py`, and in the arguments of `put_release`
and `manifest`.

    with FakeFleet() as fake:
        fake.put_release("go1.99.1")
        ...  # a node with `fake.base_url`, `fake.vkey` and `fake.channel`
"""

import gzip
import hashlib
import io
import json
import re
import shutil
import subprocess
import tarfile
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from app.core.note import sign
from app.core.notekey import Signer
from tests.fakes.archives import go_archive
from tests.fakes.faults import Reply, rope, split
from tests.fakes.server import FakeServer
from tests.fakes.wire import RecordedRequest

CHUNK_BYTES = 1 << 20
NODE, TOKEN, ENROLMENT = "0123456789abcdef", "node-token", "enrolment-token"
_RANGE = re.compile(r"bytes=(\d+)-")


def go_script(version: str, *, said: str = "") -> bytes:
    """Return a bin/go that answers the smoke test; said replaces its version."""
    return f"""#!/bin/sh
case "$1" in
version) echo "go version {said or version} test/test" ;;
build) printf '#!/bin/sh\\necho {version}\\n' > smoke && chmod +x smoke ;;
esac
""".encode()


def tree_of(archive: bytes) -> bytes:
    """Return the `.tree` of a `.tar.gz`."""
    entries: dict[str, dict[str, Any]] = {}
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in tar:
            entry: dict[str, Any] = {"path": member.name, "mode": member.mode & 0o777}
            if member.isdir():
                entry["type"] = "dir"
            elif member.issym():
                entry = {"path": member.name, "type": "link", "target": member.linkname}
            else:
                reader = tar.extractfile(member)
                content = reader.read() if reader else b""
                digest = hashlib.sha256(content).hexdigest()
                entry |= {"type": "file", "size": len(content), "sha256": digest}
            entries[member.name] = entry
    for path in list(entries):
        while path := path.rpartition("/")[0]:
            entries.setdefault(path, {"path": path, "mode": 0o755, "type": "dir"})
    return tree_file(entries.values())


def tree_file(entries: Any) -> bytes:
    """Return the `.tree` of entries."""
    ordered = sorted(entries, key=lambda entry: entry["path"].encode())
    return b"".join(_canonical(entry) + b"\n" for entry in ordered)


def _canonical(value: Any) -> bytes:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode()


def chunks_of(content: bytes) -> bytes:
    """Return the sums of the 1 MiB pieces."""
    starts = range(0, len(content), CHUNK_BYTES)
    return b"".join(hashlib.sha256(content[at : at + CHUNK_BYTES]).digest() for at in starts)


def zst_of(archive: bytes) -> bytes:
    """Return the tar of a `.tar.gz`, compressed with the zstd program."""
    command = ["zstd", "-q", "-c", "-3"]
    done = subprocess.run(command, input=gzip.decompress(archive), capture_output=True, check=True)
    return done.stdout


def has_zstd() -> bool:
    """Return whether the zstd program is installed."""
    return shutil.which("zstd") is not None


@dataclass
class _Release:
    files: dict[str, bytes]
    entry: dict[str, Any] = field(default_factory=dict)


class FakeFleet(FakeServer):
    """A server for nodes.

    Args:
        channel: of the manifest.
        platform: of the releases.
        **options: those of `FakeServer`.

    Attributes:
        revision: of the manifest; the test may change it.
        orders: the answers to the next check-ins; without one, "stay".
        check_ins, reports: what nodes sent.
        extra: further files by path.
    """

    methods: tuple[str, ...] = ("GET", "HEAD", "POST")

    def __init__(
        self, channel: str = "stable", platform: str = "linux-amd64", **options: Any
    ) -> None:
        super().__init__(**options)
        self.channel = channel
        self.platform = platform
        self.signer = Signer("fleet.example", b"fleet" * 6 + b"!!")
        self.revision = 1
        self.current = ""
        self.orders: deque[dict[str, Any]] = deque()
        self.check_ins: list[dict[str, Any]] = []
        self.reports: list[dict[str, Any]] = []
        self.served_manifest: bytes | None = None
        self.extra: dict[str, bytes] = {}
        self._releases: dict[str, _Release] = {}

    @property
    def vkey(self) -> str:
        """The public key, as nodes pin it."""
        return self.signer.verifier.vkey

    def filename(self, version: str) -> str:
        """Return the archive's name."""
        return f"{version}.{self.platform}.tar.gz"

    def path(self, version: str, suffix: str = "") -> str:
        """Return where the channel serves the archive, or one of its derived files."""
        return f"/dl/channels/{self.channel}/{self.filename(version)}{suffix}"

    def put_release(
        self,
        version: str,
        archive: bytes | None = None,
        *,
        tree: bytes | None = None,
        zst: bool | bytes = False,
        **more: Any,
    ) -> None:
        """Offer a release, and make it current.

        Args:
            version: its name.
            archive: a `.tar.gz`; None for a small one whose bin/go answers the smoke test.
            tree: None for the right one.
            zst: its bytes; True for the right ones.
            **more: arguments of `go_archive`.
        """
        goos, _, goarch = self.platform.partition("-")
        options = {"go_command": go_script(version), **more}
        content = archive or go_archive(version, goos, goarch, **options)
        name = self.filename(version)
        files = {
            name: content,
            f"{name}.tree": tree or tree_of(content),
            f"{name}.chunks": chunks_of(content),
            f"{name}.sha256": hashlib.sha256(content).hexdigest().encode(),
        }
        packed = zst_of(content) if zst is True else zst
        if packed:
            files |= {f"{name}.zst": packed, f"{name}.zst.chunks": chunks_of(packed)}
        self._releases[version] = _Release(files, self._entry(version, files))
        self.current = version

    def set_file(self, version: str, suffix: str, content: bytes) -> None:
        """Serve other bytes than the manifest says."""
        self._releases[version].files[self.filename(version) + suffix] = content

    def answer_bytes(self, version: str, suffix: str = "") -> bytes:
        """Return what is served as the archive, or as one of its derived files."""
        return self._releases[version].files[self.filename(version) + suffix]

    def _entry(self, version: str, files: Mapping[str, bytes]) -> dict[str, Any]:
        name = self.filename(version)
        goos, _, goarch = self.platform.partition("-")

        def digest(suffix: str) -> str:
            return hashlib.sha256(files[name + suffix]).hexdigest()

        entry: dict[str, Any] = {
            "filename": name,
            "os": goos,
            "arch": goarch,
            "kind": "archive",
            "size": len(files[name]),
            "sha256": digest(""),
            "tree": digest(".tree"),
            "chunks": digest(".chunks"),
        }
        if f"{name}.zst" in files:
            entry["zst"] = {
                "size": len(files[f"{name}.zst"]),
                "sha256": digest(".zst"),
                "chunks": digest(".zst.chunks"),
            }
        return entry

    def manifest(
        self,
        *,
        revision: int | None = None,
        issued: datetime | None = None,
        days: float = 14,
        signer: Signer | None = None,
        **fields: Any,
    ) -> bytes:
        """Return the signed note of the channel as it is, or with some fields replaced."""
        issued = issued or datetime.now(UTC)
        value = {
            "channel": self.channel,
            "revision": self.revision if revision is None else revision,
            "issued_at": f"{issued:%Y-%m-%dT%H:%M:%SZ}",
            "expires_at": f"{issued + timedelta(days=days):%Y-%m-%dT%H:%M:%SZ}",
            "current": self.current,
            "releases": [
                {"version": version, "files": [release.entry]}
                for version, release in self._releases.items()
            ],
            **fields,
        }
        text = f"moorage channel 1\n{_canonical(value).decode()}\n"
        return sign(text, signer or self.signer)

    def order_update(self, **fields: Any) -> None:
        """Answer the next check-in with an update to the channel's current release."""
        self.orders.append(
            {
                "action": "update",
                "grant": "00ff",
                "rollout": "0a0a",
                "manifest": self.manifest().decode(),
                "reason": "step 1 of 4",
                **fields,
            }
        )

    def answer(self, request: RecordedRequest) -> Reply:
        """Return what a server answers."""
        if request.method == "POST":
            return self._posted(request)
        if request.path in self.extra:
            return Reply(200, {}, rope(self.extra[request.path]))
        folder, _, name = request.path.rpartition("/")
        if (folder, name) == (f"/dl/channels/{self.channel}", "manifest"):
            raw = self.manifest() if self.served_manifest is None else self.served_manifest
            return Reply(200, {"Content-Type": "text/plain"}, rope(raw))
        if folder in ("/dl", f"/dl/channels/{self.channel}"):
            for release in self._releases.values():
                if name in release.files:
                    return _ranged(request, release.files[name])
        return _refusal(404, "no such file")

    def _posted(self, request: RecordedRequest) -> Reply:
        document = json.loads(request.body)
        now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
        if request.path == "/fleet/v1/enroll":
            if not document["name"]:
                return _refusal(400, "name: Value should have at least 1 item")
            if document["token"] != ENROLMENT:
                return _refusal(401, "the enrolment token is not valid; ask for a new one")
            more = {"node": NODE, "token": TOKEN, "vkey": self.vkey, "channel": self.channel}
            return _json(201, {**more, "group": "canary", "server_time": now})
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return _refusal(401, "the node's token is not valid; enroll again")
        if request.path == "/fleet/v1/check":
            self.check_ins.append(document)
            order = self.orders.popleft() if self.orders else {"action": "stay", "reason": ""}
            return _json(200, {"server_time": now, "next_check_s": 61, **order})
        traceparent = request.headers.get("traceparent")
        self.reports.append({**document, "traceparent": traceparent})
        return Reply(204)


def _json(status: int, value: Any) -> Reply:
    return Reply(status, {"Content-Type": "application/json"}, rope(json.dumps(value).encode()))


def _refusal(status: int, line: str) -> Reply:
    return Reply(status, {"Content-Type": "text/plain"}, rope(f"{line}\n".encode()))


def _ranged(request: RecordedRequest, content: bytes) -> Reply:
    match = _RANGE.fullmatch(request.headers.get("range", ""))
    kind = {"Content-Type": "application/octet-stream"}
    if match is None:
        return Reply(200, kind, rope(content))
    start, size = int(match[1]), len(content)
    _, rest = split(rope(content), start)
    return Reply(206, {**kind, "Content-Range": f"bytes {start}-{size - 1}/{size}"}, rest)
