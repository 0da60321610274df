"""An imitation of go.dev and dl.google.com on one loopback port, in a thread of its own.

The answers follow golang.org/x/website/internal/dl; what is wrong about them on purpose is in
`faults.py`, the HTTP server below in `server.py`, and `python -m tests.fakes.godev --help` starts
it by hand.

    with FakeGodev(files={"go1.99.1.linux-amd64.tar.gz": go_archive()}) as fake:
        fake.fault("/go/go1.99.1.linux-amd64.tar.gz", Fault.truncate(after=1000), times=1)
        ...  # point the code under test at fake.index_url and fake.files_url
        assert fake.hits["/go/go1.99.1.linux-amd64.tar.gz"] == 2
"""

import contextlib
import hashlib
import json
import mmap
import re
import sys
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs

from tests.fakes.faults import HTML, Reply, rope
from tests.fakes.server import FakeServer
from tests.fakes.wire import RecordedRequest

__all__ = ["FakeGodev", "FakeServer", "RecordedRequest"]

# The patterns of x/website's internal/dl: what is redirected, and what gets the "go get" page.
_FILE = re.compile(r"go[0-9a-z.]+\.[0-9a-z.-]+\.(?:tar\.gz|tar\.gz\.asc|pkg|msi|zip)")
_GO_GET = re.compile(r"go[0-9a-z.]+\.[0-9a-z.-]+")
_NAME = re.compile(r"(go\d[0-9a-z.]*?)\.(?:src|([a-z0-9]+)-([a-z0-9]+))\.(tar\.gz|zip|msi|pkg)")
_VERSION = re.compile(r"go(\d+)(?:\.(\d+))?(?:\.(\d+))?(?:(beta|rc)(\d+))?")
_NO_SUCH_KEY = (
    b"<?xml version='1.0' encoding='UTF-8'?><Error><Code>NoSuchKey</Code>"
    b"<Message>The specified key does not exist.</Message></Error>"
)


@dataclass(frozen=True, slots=True)
class _File:
    """One file of the index; content None means listed but absent."""

    entry: Mapping[str, Any]
    stable: bool
    content: bytes | mmap.mmap | None


class FakeGodev(FakeServer):
    """go.dev at /dl/ and dl.google.com at /go/.

    Args:
        files: archives by file name, as bytes or a path; see `put_file` for more than that.
        index: a raw index body, served instead of the one made from the files.
        **options: those of `FakeServer`.
    """

    def __init__(
        self,
        files: Mapping[str, bytes | Path] | None = None,
        index: bytes | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._lock = threading.Lock()
        self._files: dict[str, _File] = {}
        self._signatures: dict[str, bytes] = {}
        self._index = index
        for name, content in (files or {}).items():
            self.put_file(name, content)

    @property
    def index_url(self) -> str:
        """The URL of go.dev's index: base + "/dl/"."""
        return f"{self.base_url}/dl/"

    @property
    def files_url(self) -> str:
        """The URL of dl.google.com's folder: base + "/go/"."""
        return f"{self.base_url}/go/"

    def put_file(
        self,
        name: str,
        content: bytes | Path,
        *,
        signature: bytes | None = None,
        kind: str | None = None,
        os: str | None = None,
        arch: str | None = None,
        version: str | None = None,
        stable: bool | None = None,
        sha256: str | None = None,
        size: int | None = None,
    ) -> str:
        """Serve a file and list it; return the SHA-256 in hex that the index states.

        What is None follows from the name ("go1.99.1.linux-amd64.tar.gz") and the content; sha256
        and size may lie. A name known already is replaced, its signature too.

        Raises:
            ValueError: the name tells no version, and none is given.
        """
        from_name = _entry_of_name(name)
        stated = {"os": os, "arch": arch, "version": version, "kind": kind}
        entry = from_name | {key: value for key, value in stated.items() if value is not None}
        if not entry["version"]:
            raise ValueError(f"the version of {name!r} can't be told from its name")
        stored = _map(content) if isinstance(content, Path) else content
        entry["sha256"] = hashlib.sha256(stored).hexdigest() if sha256 is None else sha256
        entry["size"] = len(stored) if size is None else size
        if stable is None:
            stable = not re.search("beta|rc", entry["version"])
        self._store(name, _File(entry, stable, stored), signature)
        return str(entry["sha256"])

    def set_signature(self, name: str, signature: bytes | None) -> None:
        """Serve any bytes as `name`.asc, or 404 for None; name is the archive's."""
        with self._lock:
            self._signatures.pop(name, None)
            if signature is not None:
                self._signatures[name] = signature

    def set_index(self, raw: bytes | None) -> None:
        """Serve this body as the index, whatever the query; None goes back to the made one."""
        with self._lock:
            self._index = raw

    def remove(self, name: str) -> None:
        """Take a file and its signature away, from the index too."""
        with self._lock:
            del self._files[name]
            self._signatures.pop(name, None)

    def from_directory(self, folder: Path) -> Self:
        """Add what a folder holds, and return self.

        The folder has index.json in the schema of go.dev's ?mode=json&include=all, the archives,
        and NAME.asc for the signed ones. Hashes are the index's; an archive that is not in the
        folder is listed and answers 404.

        Raises:
            OSError: no index.json, or a file is unreadable.
            ValueError: index.json has another schema.
        """
        index = folder / "index.json"
        try:
            releases = json.loads(index.read_bytes())
            files = [(entry, item["stable"]) for item in releases for entry in item["files"]]
            names = [str(entry["filename"]) for entry, _ in files]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{index} is not an index of releases: {error!r}") from error
        for name, (entry, stable) in zip(names, files, strict=True):
            archive, signature = folder / name, folder / f"{name}.asc"
            content = _map(archive) if archive.exists() else None
            signed = signature.read_bytes() if signature.exists() else None
            self._store(name, _File(entry, stable, content), signed)
        return self

    def _store(self, name: str, file: _File, signature: bytes | None) -> None:
        with self._lock:
            self._files[name] = file
            self._signatures.pop(name, None)
            if signature is not None:
                self._signatures[name] = signature

    def __exit__(self, *exception: Any) -> None:
        super().__exit__(*exception)
        for file in self._files.values():
            if isinstance(file.content, mmap.mmap):
                with contextlib.suppress(BufferError):  # someone still looks at it
                    file.content.close()

    def answer(self, request: RecordedRequest) -> Reply:
        """Return what go.dev (below /dl/) or dl.google.com (below /go/) answers."""
        path, _, query = request.target.partition("?")
        if path == "/dl/":
            return self._listing(parse_qs(query))
        if path.startswith("/dl/"):
            return self._landing(path.removeprefix("/dl/"))
        if path.startswith("/go/"):
            return self._stored(path.removeprefix("/go/"))
        return Reply(404, {"Content-Type": "text/plain; charset=utf-8"}, rope(b"not found\n"))

    def _listing(self, query: Mapping[str, list[str]]) -> Reply:
        if query.get("mode") != ["json"]:
            return _page()
        with self._lock:
            raw = self._index
            if raw is None:
                raw = _index_of(self._files.values(), everything=query.get("include") == ["all"])
        return Reply(200, {"Content-Type": "application/json"}, rope(raw))

    def _landing(self, name: str) -> Reply:
        if _FILE.fullmatch(name):
            return Reply(302, {"Location": f"{self.files_url}{name}"})
        # The trap: .sha256 and .zip.asc are answered with a page about "go get".
        return _page() if _GO_GET.fullmatch(name) else _page(404)

    def _stored(self, name: str) -> Reply:
        with self._lock:
            if name.endswith(".asc") and (name[:-4] in self._signatures):
                return _bytes_reply(self._signatures[name[:-4]], "application/pgp-signature")
            if name.endswith(".sha256") and (name[:-7] in self._files):
                return _bytes_reply(self._files[name[:-7]].entry["sha256"].encode(), "text/plain")
            file = self._files.get(name)
        if file is None or file.content is None:
            return Reply(404, {"Content-Type": "application/xml"}, rope(_NO_SUCH_KEY))
        return _bytes_reply(file.content, "application/octet-stream")


def _map(path: Path) -> bytes | mmap.mmap:
    """Return the file's content without reading it; an empty file can't be mapped."""
    with path.open("rb") as file:
        if not path.stat().st_size:
            return b""
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _page(status: int = 200) -> Reply:
    return Reply(status, {"Content-Type": "text/html; charset=utf-8"}, rope(HTML))


def _bytes_reply(content: bytes | mmap.mmap, kind: str) -> Reply:
    return Reply(200, {"Content-Type": kind}, rope(memoryview(content)))


def _entry_of_name(name: str) -> dict[str, Any]:
    """Return what a file name tells of its index entry; "" where it tells nothing."""
    match = _NAME.fullmatch(name)
    version, goos, goarch, suffix = match.groups("") if match else ("", "", "", "")
    kind = "installer" if suffix in ("msi", "pkg") else "archive" if goos else "source"
    return {"filename": name, "os": goos, "arch": goarch, "version": version, "kind": kind}


def _order(version: str) -> tuple[int, int, int, int]:
    """Return a sort key: go1.21rc2 < go1.21.0 < go1.21.1; what is no Go version comes first."""
    match = _VERSION.fullmatch(version)
    if not match:
        return (-1, 0, 0, 0)
    major, minor, patch, stage, number = match.groups()
    rank = {"beta": 0, "rc": 1, None: 2}[stage]
    return (int(major), int(minor or 0), rank, int(number or patch or 0))


def _index_of(files: Iterable[_File], *, everything: bool) -> bytes:
    """Return the index; unless everything, the newest stable patch of the two newest minors."""
    releases: dict[str, dict[str, Any]] = {}
    for file in files:
        release = {"version": file.entry["version"], "stable": file.stable, "files": []}
        releases.setdefault(file.entry["version"], release)["files"].append(file.entry)
    listed = sorted(releases.values(), key=lambda item: _order(item["version"]), reverse=True)
    for release in listed:
        release["files"].sort(key=lambda e: (e["os"], e["arch"], e["kind"], e["filename"]))
    if not everything:
        newest: dict[tuple[int, ...], dict[str, Any]] = {}
        for release in listed:
            if release["stable"]:
                newest.setdefault(_order(release["version"])[:2], release)
        listed = list(newest.values())[:2]
    return json.dumps(listed, indent=1).encode()


if __name__ == "__main__":
    from tests.fakes.__main__ import main

    sys.exit(main())
