"""Requests to the servers, in order of preference, with retries, deadlines and a rate limit.

An archive comes as pieces of 1 MiB, each checked against its sum before anybody sees it. After a
break the next try, at the same server or the next one, asks for the rest by Range, also in the
middle of a piece: a slow link may break more often than a piece takes. Servers that are
all too busy are asked again when they say, for some minutes: many nodes may come at once.

Not here: connections (`wire`); what the answers mean (`manifest`, `checkin`).
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import time
from typing import TYPE_CHECKING, Any, Callable, NamedTuple

from . import VERSION
from .errors import NetworkError, RefusedError, UsageError
from .manifest import CHUNK_BYTES
from .wire import Body, Server, is_private_way

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

RETRIES = 3
FIRST_WAIT_S = 0.1
LONGEST_WAIT_S = 60.0
PATIENCE_S = 300.0
"""Seconds that a run waits in all because servers say so; a rollout's grant outlasts that."""
MAX_SMALL_BYTES = 64 << 20
PROGRESS_BYTES = 64 << 10
"""Bytes that a try has to bring, so that the tries before it count no more."""
_READ_BYTES = 512 << 10
_SUM_BYTES = 32
_MAX_ANSWER_BYTES = 8 << 20
_RETRIED = (0, 408, 425, 429, 500, 502, 503, 504)
"""Statuses after which the same server is asked again; 0 is no answer."""
_NO_SUCH_RANGE = 416
_RATE = re.compile(r"(\d+(?:\.\d+)?)([KMG]?)", re.ASCII)


class Timing(NamedTuple):
    """What a test replaces: the clock in seconds, the pause, a number in [0, 1)."""

    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    chance: Callable[[], float] = random.random


class Limits(NamedTuple):
    """What a transfer may take.

    Attributes:
        idle_s: seconds without a byte.
        head_s: seconds until a file's first byte: a full server has a download wait for its turn
            (90 s, if its settings say nothing else) before it answers 503.
        total_s: seconds for one file.
        rate_bytes: bytes a second; None is as fast as it goes.
    """

    idle_s: float = 30.0
    head_s: float = 120.0
    total_s: float = 1800.0
    rate_bytes: float | None = None


def parse_rate(text: str) -> float:
    """Return bytes a second of "20M": K, M and G are powers of 1024.

    Raises:
        UsageError: text has another form, or is 0.
    """
    match = _RATE.fullmatch(text.upper())
    rate = float(match[1]) * 1024 ** " KMG".index(match[2] or " ") if match else 0.0
    if rate <= 0:
        raise UsageError(f"{text[:40]!a} is no rate; write bytes a second, such as 500K or 20M")
    return rate


class _UnfitError(NetworkError):
    """A piece whose bytes came in several answers is wrong: it has to come again, from one."""


class Servers:
    """All servers of a node.

    Attributes:
        waited_s: seconds in which the program waited for bytes of archives.
        checked_s: seconds in which it hashed pieces.
        received_bytes: of archives.
    """

    def __init__(
        self,
        urls: tuple[str, ...],
        *,
        token: str = "",
        ca: str = "",
        limits: Limits | None = None,
        timing: Timing | None = None,
    ) -> None:
        if not urls:
            raise UsageError("no server is known; give --server URL, or enroll this node")
        if token and not all(is_private_way(url) for url in urls):
            raise UsageError("a node's token goes to https servers (and loopback) only")
        self._limits = limits or Limits()
        self._timing = timing or Timing()
        self._servers = [Server(url, ca=ca, idle_s=self._limits.idle_s) for url in urls]
        self._headers = {"User-Agent": f"moorage-node/{VERSION}", "Accept-Encoding": "identity"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._patience_s = PATIENCE_S
        self.waited_s = 0.0
        self.checked_s = 0.0
        self.received_bytes = 0

    @property
    def _head_s(self) -> float:
        return min(max(self._limits.head_s, self._limits.idle_s), self._limits.total_s)

    def close(self) -> None:
        """Close every connection."""
        for server in self._servers:
            server.close()

    def get(self, path: str, *, max_bytes: int = MAX_SMALL_BYTES) -> bytes:
        """Return a small file.

        Raises:
            NetworkError: no server gave it; `status` is that of the last answer.
            RefusedError: the file has more than max_bytes.
        """
        return self._small("GET", path, None, {}, max_bytes, RETRIES)

    def post(
        self,
        path: str,
        document: Mapping[str, Any],
        *,
        headers: Mapping[str, str] | None = None,
        tries: int = RETRIES,
    ) -> dict[str, Any]:
        """Return the answer to a JSON document; an empty object for an answer without a body.

        Raises:
            NetworkError: no server took it.
            RefusedError: the answer is no JSON object.
        """
        body = json.dumps(document).encode()
        more = {"Content-Type": "application/json", **(headers or {})}
        raw = self._small("POST", path, body, more, _MAX_ANSWER_BYTES, tries)
        try:
            answer = json.loads(raw) if raw else {}
        except ValueError as error:
            raise RefusedError(f"the answer to {path} is not JSON") from error
        if not isinstance(answer, dict):
            raise RefusedError(f"the answer to {path} is no JSON object")
        return answer

    def _small(
        self,
        method: str,
        path: str,
        body: bytes | None,
        headers: Mapping[str, str],
        max_bytes: int,
        tries: int,
    ) -> bytes:
        failure = NetworkError(f"no server answered {path}")
        deadline = self._timing.clock() + self._limits.total_s
        number = 0
        head_s = self._head_s if method == "GET" else None  # a check-in has no turn to wait for
        while number < tries:
            if number:
                self._pause(number)
            refusals = 0
            for server in self._servers:
                try:
                    answer = server.ask(method, path, body, {**self._headers, **headers}, head_s)
                    return self._read_all(server, answer, max_bytes, deadline)
                except NetworkError as error:
                    failure = error
                    refusals += error.status not in _RETRIED
            if refusals == len(self._servers):
                break  # each of them refused for good
            if method == "GET" and self._waited_as_told(failure, deadline):
                number = 0
                continue
            number += 1
        raise failure

    def _read_all(self, server: Server, body: Body, max_bytes: int, deadline: float) -> bytes:
        parts: list[bytes] = []
        size = 0
        while part := body.read_some(_READ_BYTES):
            parts.append(part)
            size += len(part)
            if size > max_bytes:
                server.close()
                raise RefusedError(f"{server.name} sends more than {max_bytes} bytes")
            self._check_deadline(server, deadline)
        return b"".join(parts)

    def _check_deadline(self, server: Server, deadline: float) -> None:
        if self._timing.clock() > deadline:
            server.close()
            raise NetworkError(f"{server.name} takes longer than {self._limits.total_s:.0f} s")

    def _pause(self, number: int) -> None:
        """Wait before try number 1, 2, …: full jitter below 0.1 s, 0.2 s, 0.4 s, …."""
        self._timing.sleep(self._timing.chance() * FIRST_WAIT_S * 2 ** (number - 1))

    def _waited_as_told(self, failure: NetworkError, deadline: float) -> bool:
        """Wait for a server that named a time; return False, at once, if no time is left for it.

        The jitter spreads nodes that were all told the same.
        """
        wait_s = min(failure.retry_after_s, LONGEST_WAIT_S) * (1 + self._timing.chance())
        if not wait_s or wait_s > min(self._patience_s, deadline - self._timing.clock()):
            return False
        self._patience_s -= wait_s
        self._timing.sleep(wait_s)
        return True

    def pieces(self, path: str, sums: bytes, *, size: int | None = None) -> Iterator[bytes]:
        """Yield an archive's pieces, each after its check.

        Args:
            path: of the archive.
            sums: SHA-256 of each piece, concatenated; checked already.
            size: of the archive in bytes; None if unknown.

        Raises:
            NetworkError: no server gave the rest, after 3 tries at each that brought next to
                nothing; or all are too busy for longer than the node waits.
            RefusedError: every server has a piece whose sum is wrong, or the size is wrong.
        """
        count = len(sums) // _SUM_BYTES
        if len(sums) % _SUM_BYTES or (size is not None and -(-size // CHUNK_BYTES) != count):
            raise RefusedError(f"the sums of {path} are not those of a file of {size} bytes")
        deadline = self._timing.clock() + self._limits.total_s
        done, failures = 0, 0
        part = bytearray()  # of the next piece: what has come of it
        is_fit = True  # no piece was wrong whose bytes came in several answers
        given_up: dict[Server, Exception] = {}
        while done < count:
            able = [server for server in self._servers if server not in given_up]
            if not able:
                raise next(iter(given_up.values()))
            server = able[failures % len(able)]
            before, is_resumed = done * CHUNK_BYTES + len(part), bool(part)
            try:
                for piece in self._stream(server, path, done, part, sums, size, deadline):
                    done += 1
                    yield piece
            except RefusedError as error:
                given_up[server] = error
            except NetworkError as error:
                is_unfit = isinstance(error, _UnfitError) or (
                    is_resumed and error.status == _NO_SUCH_RANGE
                )
                is_fit = is_fit and not is_unfit
                if not is_fit:
                    part.clear()  # from now on each piece comes in one answer
                self._check_deadline(server, deadline)
                if error.status not in _RETRIED and not is_unfit:
                    given_up[server] = error
                    continue
                brought = done * CHUNK_BYTES + len(part) - before
                failures = 1 if brought >= PROGRESS_BYTES else failures + 1
                if failures >= len(able) and self._waited_as_told(error, deadline):
                    failures = 0
                    continue
                if failures >= RETRIES * len(able):
                    raise
                self._pause(-(-failures // len(able)))

    def _stream(
        self,
        server: Server,
        path: str,
        first: int,
        part: bytearray,
        sums: bytes,
        size: int | None,
        deadline: float,
    ) -> Iterator[bytes]:
        """Yield the checked pieces from number `first` to the last, from one server.

        Args:
            server: asked for what is missing.
            path: of the archive.
            first: number of the first piece.
            part: what has come of it; after a break, what has come of the next piece.
            sums: as for `pieces`; so are `size` and `deadline`.
            size: in bytes.
            deadline: by the clock.
        """
        skip, is_resumed = first * CHUNK_BYTES + len(part), bool(part)
        more = {"Range": f"bytes={skip}-"} if skip else {}
        body = server.ask("GET", path, None, {**self._headers, **more}, self._head_s)
        is_complete = False
        try:
            if skip and body.status == 206:
                if not body.content_range.startswith(f"bytes {skip}-"):
                    raise NetworkError(f"{server.name} sends another part of {path} than asked for")
                skip = 0
            while skip:  # the whole file comes: pass over what is here
                passed = bytearray()
                self._read(server, body, passed, min(skip, CHUNK_BYTES), deadline)
                skip = skip - len(passed) if passed else 0
            for number in range(first, len(sums) // _SUM_BYTES):
                self._read(server, body, part, _length_of(number, size), deadline)
                piece = bytes(part)
                part.clear()
                started = self._timing.clock()
                digest = hashlib.sha256(piece).digest()
                self.checked_s += self._timing.clock() - started
                if digest != sums[number * _SUM_BYTES : (number + 1) * _SUM_BYTES]:
                    if is_resumed:  # whose bytes are wrong can't be known
                        raise _UnfitError(f"{server.name}: the rest of a piece does not fit")
                    raise RefusedError(
                        f"{server.name}: piece {number} of {path} is not what was promised: "
                        "its SHA-256 is another one"
                    )
                is_resumed = False
                yield piece
            # What follows was not promised, and is not read.
            more_bytes = bytearray()
            self._read(server, body, more_bytes, 1, deadline)
            is_complete = not more_bytes
        finally:
            if not is_complete:
                server.close()

    def _read(
        self, server: Server, body: Body, into: bytearray, length: int, deadline: float
    ) -> None:
        """Fill up `into` to length bytes, to fewer only at the end of the body."""
        while len(into) < length:
            started = self._timing.clock()
            part = body.read_some(min(length - len(into), _READ_BYTES))
            if self._limits.rate_bytes:
                spent = self._timing.clock() - started
                self._timing.sleep(max(0.0, len(part) / self._limits.rate_bytes - spent))
            self._check_deadline(server, deadline)
            self.waited_s += self._timing.clock() - started
            if not part:
                break
            into += part
            self.received_bytes += len(part)


def _length_of(number: int, size: int | None) -> int:
    """Return the length of a piece; of unknown size, the most that it may have."""
    return CHUNK_BYTES if size is None else min(CHUNK_BYTES, size - number * CHUNK_BYTES)
