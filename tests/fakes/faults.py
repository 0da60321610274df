"""An HTTP answer, and the ways to spoil it. Pure: `server.py` puts answers on the wire.

A body is a rope, a tuple of memoryviews on shared buffers, so that cutting, patching or extending
one copies nothing: 500 connections send one 70 MB archive from the same pages.
"""

import gzip
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from http import HTTPStatus
from typing import Literal

Rope = tuple[memoryview, ...]
# A place in a body: a count of bytes, "half", or "last" (all but one byte).
Position = int | Literal["half", "last"]

HTML = b"<!DOCTYPE html><html><body><h1>Not what you asked for</h1></body></html>\n"


def rope(*buffers: bytes | memoryview) -> Rope:
    """Return the buffers one after another, the empty ones left out."""
    return tuple(memoryview(buffer) for buffer in buffers if len(buffer))


def size_of(body: Rope) -> int:
    """Return the number of bytes in body."""
    return sum(map(len, body))


def split(body: Rope, at: int) -> tuple[Rope, Rope]:
    """Return the first `at` bytes (all, if there are fewer) and the others."""
    before: list[memoryview] = []
    after: list[memoryview] = []
    for view in body:
        before.append(view[:at])
        after.append(view[at:])
        at = max(at - len(view), 0)
    return rope(*before), rope(*after)


def offset(position: Position, body: Rope) -> int:
    """Return position in bytes: "half" of 5 is 2, "last" of 5 is 4, 9 of 5 is 5."""
    size = size_of(body)
    if position == "half":
        return size // 2
    if position == "last":
        return max(size - 1, 0)
    return min(int(position), size)


class Framing(StrEnum):
    """How the client learns where the body ends (RFC 9112, section 6.3)."""

    LENGTH = "content-length"
    CHUNKED = "chunked"
    CLOSE = "close"  # neither length nor chunks: the end of the connection ends the body


class Ending(StrEnum):
    """What follows the last byte of the body."""

    COMPLETE = "complete"
    CUT = "cut"  # the connection is closed, without a last chunk
    RESET = "reset"  # a TCP RST


@dataclass(frozen=True, slots=True)
class Pace:
    """Send at most `step_bytes` every `interval_s` seconds."""

    step_bytes: int
    interval_s: float

    @classmethod
    def of_rate(cls, bytes_per_s: int) -> "Pace":
        """Return a pace of 20 steps a second: 1000 gives 50 bytes every 0.05 s."""
        return cls(max(bytes_per_s // 20, 1), 0.05)


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer, and how it is to be sent.

    Attributes:
        declared_bytes: the Content-Length to send; None stands for the true one.
        stall_after: bytes of the body to send before waiting for a release.
        hold_head: wait for a release before the status line.
        silent: send no head and no body.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Rope = ()
    framing: Framing = Framing.LENGTH
    declared_bytes: int | None = None
    ending: Ending = Ending.COMPLETE
    stall_after: int | None = None
    hold_head: bool = False
    silent: bool = False
    pace: Pace | None = None

    def head(self, *, close: bool) -> bytes:
        """Return status line and headers; close announces the end of the connection."""
        known = self.status in HTTPStatus.__members__.values()
        lines = [f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase if known else 'Odd'}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        if self.framing is Framing.LENGTH:
            declared = self.declared_bytes
            lines.append(f"Content-Length: {size_of(self.body) if declared is None else declared}")
        if self.framing is Framing.CHUNKED:
            lines.append("Transfer-Encoding: chunked")
        if close or self.framing is Framing.CLOSE:
            lines.append("Connection: close")
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    def cut(self, after: Position) -> "Reply":
        """Return a reply that ends after that much of the body, its declared length unchanged."""
        kept, _ = split(self.body, offset(after, self.body))
        declared = size_of(self.body) if self.declared_bytes is None else self.declared_bytes
        return replace(self, body=kept, declared_bytes=declared, ending=Ending.CUT)


class FaultKind(StrEnum):
    """Every fault, by the name that the command line uses."""

    TRUNCATE = "truncate"
    TRUNCATE_CHUNKED = "truncate-chunked"
    TRUNCATE_UNFRAMED = "truncate-unframed"
    STALL = "stall"
    HOLD_HEADERS = "hold-headers"
    DRIP = "drip"
    RESET = "reset"
    RESET_AT_ONCE = "reset-at-once"
    FLIP_BYTE = "flip-byte"
    LONGER = "longer"
    WRONG_LENGTH = "wrong-length"
    OVERSIZED = "oversized"
    STATUS = "status"
    HTML_200 = "html"
    EMPTY_200 = "empty"
    REDIRECT = "redirect"
    REDIRECT_LOOP = "redirect-loop"
    PARTIAL_206 = "partial-206"
    GZIP = "gzip"
    HUGE_HEADER = "huge-header"
    WRONG_CONTENT = "wrong-content"


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to spoil an answer: `Fault.truncate(after=1000)`, `Fault.status(503)`.

    `spoil` takes the right answer and the request's target ("/dl/?mode=json") and gives the bad
    answer. Make one with the class methods below; a custom one needs no more than a function.
    """

    kind: FaultKind
    spoil: Callable[[Reply, str], Reply] = field(repr=False)

    @classmethod
    def truncate(cls, after: Position) -> "Fault":
        """Declare the full length, send `after` bytes, close (F40)."""
        return cls(FaultKind.TRUNCATE, lambda reply, _: reply.cut(after))

    @classmethod
    def truncate_chunked(cls, after: Position, *, last_chunk: bool = False) -> "Fault":
        """Send `after` bytes in chunks, close (F41); last_chunk hides the loss from HTTP."""
        ending = Ending.COMPLETE if last_chunk else Ending.CUT
        return cls(
            FaultKind.TRUNCATE_CHUNKED,
            lambda reply, _: replace(reply.cut(after), framing=Framing.CHUNKED, ending=ending),
        )

    @classmethod
    def truncate_unframed(cls, after: Position) -> "Fault":
        """Send `after` bytes without any length, close: HTTP can't see the loss (F41)."""
        return cls(
            FaultKind.TRUNCATE_UNFRAMED,
            lambda reply, _: replace(reply.cut(after), framing=Framing.CLOSE),
        )

    @classmethod
    def stall(cls, after: Position) -> "Fault":
        """Send `after` bytes and wait; the others follow on `release()` (F43)."""
        return cls(
            FaultKind.STALL,
            lambda reply, _: replace(reply, stall_after=offset(after, reply.body)),
        )

    @classmethod
    def delay_headers_until_released(cls) -> "Fault":
        """Read the request and send nothing before `release()`."""
        return cls(FaultKind.HOLD_HEADERS, lambda reply, _: replace(reply, hold_head=True))

    @classmethod
    def drip(cls, bytes_per_tick: int = 1, interval_s: float = 1.0) -> "Fault":
        """Send the body in small steps (F43)."""
        return cls(
            FaultKind.DRIP, lambda reply, _: replace(reply, pace=Pace(bytes_per_tick, interval_s))
        )

    @classmethod
    def reset(cls, after: Position) -> "Fault":
        """Send the head and `after` bytes, and once they have arrived a TCP RST (F44)."""
        return cls(FaultKind.RESET, lambda reply, _: replace(reply.cut(after), ending=Ending.RESET))

    @classmethod
    def reset_at_once(cls) -> "Fault":
        """Answer the request with a TCP RST and nothing else (F44)."""
        return cls(
            FaultKind.RESET_AT_ONCE,
            lambda reply, _: replace(reply, silent=True, ending=Ending.RESET),
        )

    @classmethod
    def flip_byte(cls, at: Position) -> "Fault":
        """Invert every bit of the byte that follows `at` bytes (F45)."""

        def spoil(reply: Reply, _: str) -> Reply:
            before, others = split(reply.body, offset(at, reply.body))
            bad, after = split(others, 1)
            flipped = bytes(255 - byte for view in bad for byte in view)
            return replace(reply, body=(*before, *rope(flipped), *after))

        return cls(FaultKind.FLIP_BYTE, spoil)

    @classmethod
    def longer_than_length(cls, extra: bytes = b"extra") -> "Fault":
        """Declare the true length, send `extra` after the body, close (F42)."""

        def spoil(reply: Reply, _: str) -> Reply:
            true_bytes, body = size_of(reply.body), reply.body + rope(extra)
            return replace(reply, body=body, declared_bytes=true_bytes, ending=Ending.CUT)

        return cls(FaultKind.LONGER, spoil)

    @classmethod
    def wrong_length(cls, by: int) -> "Fault":
        """Declare `by` bytes more (or, below zero, fewer) than are sent, close (F40, F42)."""

        def spoil(reply: Reply, _: str) -> Reply:
            declared = max(size_of(reply.body) + by, 0)
            return replace(reply, declared_bytes=declared, ending=Ending.CUT)

        return cls(FaultKind.WRONG_LENGTH, spoil)

    @classmethod
    def oversized(cls, size: int, framing: Framing = Framing.CHUNKED) -> "Fault":
        """Send `size` bytes, whatever was asked for, from one shared 64 KiB page (F42, F61)."""
        page = memoryview(bytes(65536))
        body = (page,) * (size // len(page)) + rope(page[: size % len(page)])
        return cls(FaultKind.OVERSIZED, lambda reply, _: replace(reply, body=body, framing=framing))

    @classmethod
    def status(
        cls, code: int, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> "Fault":
        """Answer with that status: `Fault.status(429, headers={"Retry-After": "2"})`."""
        reply = Reply(code, {"Content-Type": "text/plain", **(headers or {})}, rope(body))
        return cls(FaultKind.STATUS, lambda *_: reply)

    @classmethod
    def html_200(cls, body: bytes = HTML) -> "Fault":
        """Answer 200 with a web page, as a login portal does (F46, F63)."""
        reply = Reply(200, {"Content-Type": "text/html; charset=utf-8"}, rope(body))
        return cls(FaultKind.HTML_200, lambda *_: reply)

    @classmethod
    def empty_200(cls) -> "Fault":
        """Answer 200 with no bytes (F63)."""
        return cls(FaultKind.EMPTY_200, lambda reply, _: replace(reply, status=200, body=()))

    @classmethod
    def redirect(cls, to: str, code: int = 302) -> "Fault":
        """Redirect to any text: another host, a private address, "file:///etc/passwd" (F53)."""
        return cls(FaultKind.REDIRECT, lambda *_: Reply(code, {"Location": to}))

    @classmethod
    def redirect_loop(cls, code: int = 302) -> "Fault":
        """Redirect to the very same target (F52)."""
        return cls(FaultKind.REDIRECT_LOOP, lambda _, target: Reply(code, {"Location": target}))

    @classmethod
    def partial_206(cls, first: int = 0, last: int | None = None) -> "Fault":
        """Answer a full GET with the bytes first..last, by default the first half (F58)."""

        def spoil(reply: Reply, _: str) -> Reply:
            end = offset("half", reply.body) if last is None else last + 1
            _before, others = split(reply.body, first)
            part, _after = split(others, end - first)
            stated = f"bytes {first}-{end - 1}/{size_of(reply.body)}"
            headers = {**reply.headers, "Content-Range": stated}
            return replace(reply, status=206, headers=headers, body=part)

        return cls(FaultKind.PARTIAL_206, spoil)

    @classmethod
    def gzip_encoded(cls) -> "Fault":
        """Send the body gzipped, though nobody asked for it (F59); holds a copy per request."""

        def spoil(reply: Reply, _: str) -> Reply:
            packed = gzip.compress(b"".join(reply.body), compresslevel=1, mtime=0)
            headers = {**reply.headers, "Content-Encoding": "gzip"}
            return replace(reply, headers=headers, body=rope(packed))

        return cls(FaultKind.GZIP, spoil)

    @classmethod
    def huge_header(cls, size: int = 300_000) -> "Fault":
        """Add a header with a value of `size` bytes (F60)."""
        return cls(
            FaultKind.HUGE_HEADER,
            lambda reply, _: replace(reply, headers={**reply.headers, "X-Filler": "a" * size}),
        )

    @classmethod
    def wrong_content(cls, content: bytes) -> "Fault":
        """Send another file's bytes, with their right length (F45, F63, F67)."""
        return cls(
            FaultKind.WRONG_CONTENT, lambda reply, _: replace(reply, status=200, body=rope(content))
        )
