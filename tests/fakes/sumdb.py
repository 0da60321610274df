"""An imitation of a public checksum database, with a key of its own and every way to misbehave.

Endpoints and texts follow x/mod/sumdb/server.go and tlog. Nothing here uses the code under test,
so that heads, records and tiles found here can judge it. What can go wrong on the wire is in
`faults.py`, the HTTP server in `server.py`. `python -m tests.fakes.sumdb --help` starts it by hand.

    with FakeSumdb() as log:
        log.add_module(module("example.com/hello", "v1.0.0"))
        log.grow(1000)
        ...  # GOSUMDB=log.gosumdb, or point the code under test at log.url
        assert log.hits["/lookup/example.com/hello@v1.0.0"] == 1
"""

import argparse
import base64
import json
import re
import shlex
import signal
import sys
import threading
from collections import Counter
from enum import StrEnum
from typing import Any
from urllib.parse import unquote

from tests.fakes.faults import Reply, rope
from tests.fakes.modules import Module, escape, goroot, many, vendored_modules
from tests.fakes.server import FakeServer
from tests.fakes.timeline import WIDTH, Signer, Timeline
from tests.fakes.wire import RecordedRequest

NAME = "sum.fake.example"
_TILE = re.compile(r"/tile/8/(data|\d+)/((?:x\d{3}/)*\d{3})(?:\.p/(\d+))?")
_TEXT = {"Content-Type": "text/plain; charset=UTF-8"}


class Lie(StrEnum):
    """What is wrong with every lookup, and with every head where a head can have it."""

    WRONG_KEY = "wrong-key"  # another key under the log's name
    WRONG_NAME = "wrong-name"  # the log's key under another name
    BAD_SIGNATURE = (
        "bad-signature"  # the log's key and key hash, and a bit of the signature flipped
    )
    NO_NOTE = "no-note"  # the record alone
    EMPTY = "empty"  # no record lines
    WRONG_ID = "wrong-id"  # the number of the record before (of the next, for the first)
    BEYOND = "beyond"  # the number of a record that is not there yet


class FakeSumdb(FakeServer):
    """A checksum database. Paths are told with their "!", never with "%21".

    Args:
        name: of the log, and of its key.
        **options: those of `FakeServer`.

    Attributes:
        drops_partials: a partial tile is gone once the tile is full.
        lie: what is wrong with every answer until it is set to None again.
    """

    def __init__(self, name: str = NAME, **options: Any) -> None:
        super().__init__(**options)
        self.name, self.signer = name, Signer(name)
        self.drops_partials = False
        self.lie: Lie | None = None
        self._lock = threading.RLock()
        self._line = self._honest = Timeline()
        self._numbers: dict[str, int] = {}  # by "<module>@<version>", plain
        self._answers: dict[str, bytes] = {}  # texts that are sent in the place of the record's
        self._forged: set[str] = set()
        self._head_size: int | None = None

    @property
    def url(self) -> str:
        """What lookups and tiles are below, without a slash at the end."""
        return self.base_url

    @property
    def vkey(self) -> str:
        """The verifier key."""
        return self.signer.vkey

    @property
    def gosumdb(self) -> str:
        """What GOSUMDB is set to for a `go` that asks here directly."""
        return f"{self.vkey} {self.url}"

    @property
    def size(self) -> int:
        """How many records the log has, on the timeline that it tells."""
        return len(self._line)

    @property
    def hits(self) -> Counter[str]:
        """Requests by path without query, whether "!" came as it is or as "%21": a copy."""
        return Counter(unquote(request.path) for request in self.requests)

    @property
    def lookups(self) -> int:
        """How many lookups came."""
        return sum(count for path, count in self.hits.items() if path.startswith("/lookup/"))

    @property
    def tiles(self) -> int:
        """How many requests for tiles came."""
        return sum(count for path, count in self.hits.items() if path.startswith("/tile/"))

    def add(self, module: str, version: str, zip_h1: str, go_mod_h1: str) -> int:
        """Append the record of a version, and return its number; one that is there is kept."""
        lines = f"{module} {version} {zip_h1}\n{module} {version}/go.mod {go_mod_h1}\n"
        return self.add_text(module, version, lines)

    def add_text(self, module: str, version: str, text: str) -> int:
        """Append a record of any text, truly the log's, that lookups of a version then get."""
        with self._lock:
            known = self._numbers.get(f"{module}@{version}")
            if known is not None:
                return known
            number = self._numbers[f"{module}@{version}"] = self._line.add(text.encode())
            return number

    def add_module(self, one: Module) -> int:
        """Append the right record of a module version, and return its number."""
        return self.add(one.path, one.version, one.h1, one.mod_h1)

    def grow(self, count: int) -> None:
        """Append synthetic records: 100,000 of them take less than a second."""
        with self._lock:
            for number in range(len(self._line), len(self._line) + count):
                self._line.add(b"example.com/s%d v1.0.0 h1:%d\n" % (number, number))

    def head(self, size: int | None = None) -> bytes:
        """Return the signed head of a size, by default of the newest one."""
        with self._lock:
            return self._head(len(self._line) if size is None else size)

    def tile_body(self, path: str) -> bytes | None:
        """Return what it answers for "tile/8/0/001.p/5"; None where that is not found."""
        with self._lock:
            return self._tile(f"/{path}")

    def fork(self, at: int, *, same_size: bool = False) -> None:
        """Tell another timeline, signed by the same key: record `at` is another one there.

        What came after it follows, one number later; with same_size the other one replaces it.
        """
        with self._lock:
            rest = self._line.texts[at + same_size :]
            other = b"example.com/fork v1.0.0 h1:%d\n" % at
            self._line = Timeline([*self._honest.texts[:at], other, *rest])

    def heal(self) -> None:
        """Stop every misbehaviour; the honest timeline is told again, as it was left."""
        with self._lock:
            self._line, self.lie, self._head_size = self._honest, None, None
            self._answers.clear()
            self._forged.clear()

    def stale_head(self, size: int | None) -> None:
        """Sign a head of that size in every answer, as a replica that lags would; None ends it."""
        self._head_size = size

    def forge_tile(self, path: str) -> None:
        """Flip a bit of each hash of a tile, in any width: "tile/8/0/001" or "/tile/8/1/000"."""
        self._forged.add("/" + path.lstrip("/").partition(".p/")[0])

    def forge_record(self, module: str, version: str, text: str | None = None) -> None:
        """Send another text than the record's, by default one with another zip hash."""
        with self._lock:
            known = self._line.texts[self._numbers[f"{module}@{version}"]].decode()
        at = known.index("h1:") + 3
        other = known[:at] + ("B" if known[at] == "A" else "A") + known[at + 1 :]
        made = other if text is None else text
        self._answers[f"{module}@{version}"] = made.encode()

    def foreign_lines(self, module: str, version: str) -> int:
        """Have lookups of a version get a true record that is another module's (CVE-2026-42501)."""
        h1 = "h1:" + base64.b64encode(bytes(32)).decode()
        return self.add_text(
            module,
            version,
            f"evil.example/m {version} {h1}\nevil.example/m {version}/go.mod {h1}\n",
        )

    def missing_lines(self, one: Module) -> int:
        """Append a true record without the line of the go.mod."""
        return self.add_text(one.path, one.version, f"{one.path} {one.version} {one.h1}\n")

    def extra_lines(self, one: Module) -> int:
        """Append a true record with a line of another module besides (CVE-2026-56864)."""
        right = f"{one.path} {one.version} {one.h1}\n{one.path} {one.version}/go.mod {one.mod_h1}\n"
        return self.add_text(one.path, one.version, f"{right}evil.example/m v1.0.0 {one.h1}\n")

    def answer(self, request: RecordedRequest) -> Reply:
        """Return what a checksum database answers."""
        path = unquote(request.path)
        with self._lock:
            if path == "/supported":
                return Reply(200, _TEXT, rope(b""))
            if path == "/latest":
                return Reply(200, _TEXT, rope(self._head(self._told_size())))
            if path.startswith("/lookup/"):
                return self._lookup(path.removeprefix("/lookup/"))
            body = self._tile(path)
        if body is None:
            return Reply(404, _TEXT, rope(f"not found: {path}\n".encode()))
        return Reply(200, {"Content-Type": "application/octet-stream"}, rope(body))

    def _lookup(self, asked: str) -> Reply:
        name = re.sub("!([a-z])", lambda match: match[1].upper(), asked)
        number = self._numbers.get(name)
        if number is None or escape(name) != asked:
            return Reply(404, _TEXT, rope(f"not found: {name}: unknown revision\n".encode()))
        texts = self._line.texts
        number = number if self._line is self._honest else texts.index(self._honest.texts[number])
        text = self._answers.get(name, texts[number])
        if self.lie is Lie.EMPTY:
            text = b""
        elif self.lie is Lie.WRONG_ID:
            number = number - 1 if number else 1
        elif self.lie is Lie.BEYOND:
            number = len(texts)
        note = b"" if self.lie is Lie.NO_NOTE else self._head(self._told_size())
        return Reply(200, _TEXT, rope(b"%d\n" % number, text, b"\n", note))

    def _told_size(self) -> int:
        return len(self._line) if self._head_size is None else self._head_size

    def _head(self, size: int) -> bytes:
        root = base64.b64encode(self._line.root(size)).decode()
        signers = {
            Lie.WRONG_KEY: Signer(self.name, seed=8),
            Lie.WRONG_NAME: Signer("sum.other.example"),
        }
        signer = signers.get(self.lie, self.signer) if self.lie else self.signer
        text = f"go.sum database tree\n{size}\n{root}\n"
        return signer.note(text, spoiled=self.lie is Lie.BAD_SIGNATURE)

    def _tile(self, path: str) -> bytes | None:
        match = _TILE.fullmatch(path)
        if not match:
            return None
        number = int(match[2].replace("/", "").replace("x", ""))
        width = int(match[3] or WIDTH)
        if match[1] == "data":
            texts = self._line.texts[number * WIDTH : number * WIDTH + width]
            return b"".join(text + b"\n" for text in texts) if len(texts) == width else None
        body = self._line.hashes(int(match[1]), number)
        is_dropped = self.drops_partials and match[3] and len(body) == WIDTH * 32
        if is_dropped or len(body) < width * 32:
            return None
        is_forged = path.partition(".p/")[0] in self._forged
        return (_flipped(body) if is_forged else body)[: width * 32]


def _flipped(body: bytes) -> bytes:
    """Return hashes with the last bit of each one's first byte flipped."""
    return bytes(one ^ (at % 32 == 0) for at, one in enumerate(body))


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM; return 0, or 2 where the port can't be had."""
    options = _parser().parse_args(arguments)
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    fake = FakeSumdb(options.name, port=options.port, log=_log)
    root = goroot() if options.vendored else None
    for one in [*many(options.many), *(vendored_modules(root) if root else ())]:
        fake.add_module(one)
    fake.grow(options.grow)
    fake.lie = options.lie
    try:
        fake.start()
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    log = {"name": fake.name, "vkey": fake.vkey, "url": fake.url}
    with fake:
        print(f"export MOORAGE_SUMDB__UPSTREAMS={shlex.quote(json.dumps([log]))}")
        print(f"export GOSUMDB={shlex.quote(fake.gosumdb)}", flush=True)
        stopped.wait()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fakes.sumdb",
        description="Imitate a public checksum database on 127.0.0.1 and log every request.",
    )
    add = parser.add_argument
    add("--port", type=int, default=9093, help="0 takes a free one [9093]")
    add("--name", default=NAME, help=f"of the log [{NAME}]")
    add("--many", type=int, default=0, metavar="N", help="as the fake proxy's")
    add("--vendored", action="store_true", help="as the fake proxy's")
    add("--grow", type=int, default=0, metavar="N", help="add synthetic records")
    add("--lie", type=Lie, help=", ".join(Lie))
    return parser


def _log(request: RecordedRequest, status: int, body_bytes: int) -> None:
    print(f"{request.method} {request.target!r} {status} {body_bytes}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
