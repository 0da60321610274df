"""Status, caching and validators of the Go-facing routes: decided here and nowhere else.

An `Answer` is prepared once and sent many times; what differs between requests (304, 206, 416,
HEAD) is derived from it by `for_request`. Sources: RFC 9110 sections 13 and 14, RFC 9530.
"""

import base64
import gzip
import re
from dataclasses import dataclass, replace
from datetime import datetime
from email.utils import format_datetime

from app.core import errors
from app.core.digest import Digest

Header = tuple[bytes, bytes]
TEXT = b"text/plain; charset=utf-8"
IMMUTABLE = b"public, max-age=31536000, immutable"
PRIVATE_IMMUTABLE = b"private, max-age=31536000, immutable"
LISTING = b"public, max-age=60"
NO_STORE = b"no-store"
_ONE_PIECE_BYTES = 64 * 1024
_COMPRESSED_ABOVE_BYTES = 1024  # below, what is saved is less than a packet
_GZIP_LEVEL = 6
_MAX_LINE_BYTES = 600  # `go` shows 648 bytes of an error body
_RANGE = re.compile(rb"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
_NO_WEIGHT = re.compile(rb"q=0(\.0{0,3})?", re.ASCII)
_CONDITIONAL = frozenset({b"if-none-match", b"if-modified-since", b"range", b"if-range"})

# The most specific class comes first: a class is looked up along its method resolution order.
STATUS: dict[type[errors.MoorageError], int] = {
    errors.TooLargeError: 413,
    errors.BadInputError: 400,
    errors.UnauthenticatedError: 401,
    errors.DeniedError: 403,
    errors.GoneError: 410,
    errors.UnknownError: 404,
    errors.StaleRevisionError: 412,
    errors.ConflictError: 409,
    errors.KeyringError: 422,
    errors.RateLimitedError: 429,
    errors.OverloadedError: 503,
    errors.NotYetError: 503,
    errors.DatabaseBusyError: 503,
    errors.DefectError: 500,
    errors.StorageFullError: 507,
    errors.StorageError: 503,
    errors.UpstreamUnavailableError: 503,
    errors.UpstreamTimeoutError: 504,
    errors.UpstreamError: 502,
    errors.VerificationError: 502,
}
_RETRY_AFTER = {429, 503, 504, 507}


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that is ready to be sent.

    Attributes:
        headers: all of them, Content-Length included.
        body: the bytes, unless the body is a blob.
        blob: the digest of the blob that is the body, or None.
        size_bytes: length of the body.
        etag: the strong validator with its quotes, or b"".
        last_modified: an HTTP date, or b"".
        wire: headers and body as they go over the wire after the status line and Date, for small
            answers that can be sent in one piece; else b"".
        gzipped: the same answer compressed, for requests that accept gzip, or None.
    """

    status: int
    headers: tuple[Header, ...]
    size_bytes: int
    body: bytes = b""
    blob: Digest | None = None
    etag: bytes = b""
    last_modified: bytes = b""
    wire: bytes = b""
    gzipped: "Answer | None" = None

    @property
    def memory_bytes(self) -> int:
        """Number of bytes that the answer holds in memory, its compressed form included."""
        more = self.gzipped.memory_bytes if self.gzipped else 0
        return len(self.wire) + len(self.body) + more


@dataclass(frozen=True, slots=True)
class Slice:
    """What of an answer goes out for one request.

    Attributes:
        start: first byte of the body to send.
        length: how many; 0 sends none.
    """

    status: int
    headers: tuple[Header, ...]
    start: int
    length: int


def file_answer(
    digest: Digest,
    size_bytes: int,
    content_type: bytes,
    stored_at: datetime,
    *extra: Header,
    caching: bytes = IMMUTABLE,
    body: bytes | None = None,
) -> Answer:
    """Return the answer that sends a blob: immutable, validated by its digest.

    Args:
        digest: of the bytes.
        size_bytes: how many they are.
        content_type: their Content-Type.
        stored_at: for Last-Modified.
        extra: further headers.
        caching: the Cache-Control.
        body: the bytes, of a blob that is small enough to be kept in memory.
    """
    etag = f'"{digest.hex}"'.encode()
    modified = format_datetime(stored_at, usegmt=True).encode()
    repr_digest = base64.b64encode(bytes.fromhex(digest.hex))
    headers = (
        (b"content-type", content_type),
        (b"content-length", b"%d" % size_bytes),
        (b"etag", etag),
        (b"last-modified", modified),
        (b"accept-ranges", b"bytes"),
        (b"cache-control", caching),
        (b"repr-digest", b"sha-256=:" + repr_digest + b":"),
        (b"x-content-type-options", b"nosniff"),
        *extra,
    )
    wire = b"" if body is None else _on_the_wire(headers, body)
    return Answer(
        200, headers, size_bytes, blob=digest, etag=etag, last_modified=modified, wire=wire
    )


def body_answer(body: bytes, content_type: bytes, caching: bytes, *extra: Header) -> Answer:
    """Return the answer that sends a body from memory, validated by the body's digest."""
    etag = f'"{Digest.of(body).hex[:32]}"'.encode()
    headers = (
        (b"content-type", content_type),
        (b"content-length", b"%d" % len(body)),
        (b"etag", etag),
        (b"cache-control", caching),
        (b"x-content-type-options", b"nosniff"),
        *extra,
    )
    wire = _on_the_wire(headers, body) if len(body) <= _ONE_PIECE_BYTES else b""
    return Answer(200, headers, len(body), body=body, etag=etag, wire=wire)


def text_answer(body: bytes, content_type: bytes, caching: bytes, *extra: Header) -> Answer:
    """Return the answer that sends text or JSON; a long one is compressed, too, once for all.

    Compressing takes about 10 ms for each MiB: call this in a thread.
    """
    if len(body) <= _COMPRESSED_ABOVE_BYTES:
        return body_answer(body, content_type, caching, *extra)
    extra = (*extra, (b"vary", b"accept-encoding"))
    packed = gzip.compress(body, _GZIP_LEVEL, mtime=0)
    coding = (b"content-encoding", b"gzip")
    return replace(
        body_answer(body, content_type, caching, *extra),
        gzipped=body_answer(packed, content_type, caching, *extra, coding),
    )


def made_private(answer: Answer) -> Answer:
    """Return the same answer for the one who asked alone: shared caches must not keep it."""
    headers = tuple(
        (name, value.replace(b"public", b"private") if name == b"cache-control" else value)
        for name, value in answer.headers
    )
    return replace(
        answer,
        headers=headers,
        wire=_on_the_wire(headers, answer.body) if answer.wire else b"",
        gzipped=None if answer.gzipped is None else made_private(answer.gzipped),
    )


def in_coding(answer: Answer, request_headers: list[Header]) -> Answer:
    """Return the answer in the coding that the request accepts: compressed where it can be."""
    if answer.gzipped is None or not _accepts_gzip(request_headers):
        return answer
    return answer.gzipped


def _accepts_gzip(request_headers: list[Header]) -> bool:
    """Whether Accept-Encoding names gzip, or "*", with a weight above 0 (RFC 9110, 12.5.3)."""
    weights: dict[bytes, bool] = {}
    for name, value in request_headers:
        if name == b"accept-encoding":
            for part in value.lower().split(b","):
                coding, *parameters = (piece.strip() for piece in part.split(b";"))
                weights[coding] = not any(_NO_WEIGHT.fullmatch(piece) for piece in parameters)
    return weights.get(b"gzip", weights.get(b"x-gzip", weights.get(b"*", False)))


def _on_the_wire(headers: tuple[Header, ...], body: bytes) -> bytes:
    return b"".join(name + b": " + value + b"\r\n" for name, value in headers) + b"\r\n" + body


def is_storable(answer: Answer) -> bool:
    """Whether a cache, this service's own too, may keep the answer for the next request."""
    return (b"cache-control", NO_STORE) not in answer.headers


def is_conditional(request_headers: list[Header]) -> bool:
    """Whether the answer depends on these headers (lower-case names)."""
    return any(name in _CONDITIONAL for name, _ in request_headers)


def plain(status: int, line: str, *extra: Header) -> Answer:
    """Return a one-line text/plain answer that is not cached; `go` and `curl` show it."""
    text = _CONTROL.sub(" ", line).strip() or f"status {status}"
    # Cut by bytes, and never within a character.
    cut = text.encode("utf-8", "backslashreplace")[:_MAX_LINE_BYTES].decode("utf-8", "ignore")
    return _uncached(status, f"{cut}\n".encode(), *extra)


def _uncached(status: int, body: bytes, *extra: Header) -> Answer:
    headers = (
        (b"content-type", TEXT),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", NO_STORE),
        (b"x-content-type-options", b"nosniff"),
        *extra,
    )
    return Answer(status, headers, len(body), body=body)


def with_trace(answer: Answer, trace: str) -> Answer:
    """Return an error's answer with the id of its trace, where `go` and `curl` show it.

    A line gets " (trace 4bf9…)" at its end, a text of several lines a line "trace 4bf9…".
    """
    if (b"content-type", TEXT) not in answer.headers:
        return answer
    text = answer.body.rstrip(b"\n")
    form = b"%s\ntrace %s\n" if b"\n" in text else b"%s (trace %s)\n"
    body = form % (text, trace.encode())
    headers = _with_length(answer, len(body))
    return replace(answer, headers=headers, body=body, size_bytes=len(body), wire=b"")


def challenge(error: errors.MoorageError) -> Answer:
    """Return the answer to a request without a usable token; `go` sends it unasked, curl -n too."""
    return plain(401, str(error), (b"www-authenticate", b'Basic realm="moorage", charset="UTF-8"'))


def redirect(location: str) -> Answer:
    """Return a permanent redirect to a path on this server."""
    return plain(301, f"see {location}", (b"location", location.encode()))


def status_of(error: errors.MoorageError) -> int:
    """Return the HTTP status of an error."""
    return next((STATUS[c] for c in type(error).__mro__ if c in STATUS), 500)


def retry_after_s(error: errors.MoorageError) -> int | None:
    """Return the seconds that a Retry-After header should say, or None for no such header."""
    if status_of(error) not in _RETRY_AFTER:
        return None
    return int(getattr(error, "retry_after_s", 10))


def error_answer(
    error: errors.MoorageError, *, with_upstream_text: bool = True, advice: str = ""
) -> Answer:
    """Return the text that tells an error to whoever sits at the terminal.

    Args:
        error: what is told.
        with_upstream_text: let the text by which an upstream refuses, at most 8 lines, replace the
            line of this server.
        advice: comes before the error on the line, which is cut at its end.
    """
    if isinstance(error, errors.UnauthenticatedError):
        return challenge(error)
    retry = retry_after_s(error)
    extra = () if retry is None else ((b"retry-after", b"%d" % retry),)
    if error.upstream_text and with_upstream_text:
        return _uncached(status_of(error), f"{error.upstream_text}\n".encode(), *extra)
    return plain(status_of(error), f"{advice}{error}", *extra)


def for_request(answer: Answer, request_headers: list[Header], method: str = "GET") -> Slice:
    """Return what goes out for a GET or HEAD with these headers (lower-case names).

    Only one range is honoured, and only of blobs; several get the full body, as RFC 9110 allows.
    A Range means nothing for HEAD (RFC 9110, section 14.2).
    """
    conditions = {name: value for name, value in request_headers if name in _CONDITIONAL}
    full = Slice(answer.status, answer.headers, 0, answer.size_bytes)
    if not conditions or answer.status != 200:
        return full
    if _is_fresh(answer, conditions):
        headers = _without(answer, b"content-length", b"content-type")
        return Slice(304, headers, 0, 0)
    byte_range = conditions.get(b"range")
    if method != "GET" or byte_range is None or answer.blob is None:
        return full
    if not _may_range(answer, conditions):
        return full
    return _partial(answer, byte_range) or full


def _is_fresh(answer: Answer, conditions: dict[bytes, bytes]) -> bool:
    tags = conditions.get(b"if-none-match")
    if tags is not None:
        if tags.strip() == b"*":
            return True
        return any(t.strip().removeprefix(b"W/") == answer.etag for t in tags.split(b","))
    # Equality instead of an order of dates: what we send out is what comes back.
    since = conditions.get(b"if-modified-since")
    return bool(answer.last_modified) and since == answer.last_modified


def _may_range(answer: Answer, conditions: dict[bytes, bytes]) -> bool:
    condition = conditions.get(b"if-range")
    return condition is None or condition in (answer.etag, answer.last_modified)


def _partial(answer: Answer, byte_range: bytes) -> Slice | None:
    """Return a 206 or 416; None where the header is malformed or asks for several ranges."""
    match = _RANGE.fullmatch(byte_range.strip())
    if match is None or match.groups() == (b"", b""):
        return None
    size = answer.size_bytes
    first, last = match.groups()
    if first:
        start, end = int(first), min(int(last), size - 1) if last else size - 1
        if last and int(last) < int(first):
            return None
    else:
        start, end = max(size - int(last), 0), size - 1
    if start >= size or end < start:
        # Without the file's caching and validators: this says nothing about the file's bytes.
        refused = plain(416, "", (b"content-range", b"bytes */%d" % size))
        headers = _without(refused, b"content-length")
        return Slice(416, (*headers, (b"content-length", b"0")), 0, 0)
    length = end - start + 1
    content_range = b"bytes %d-%d/%d" % (start, end, size)
    return Slice(
        206, _with_length(answer, length, (b"content-range", content_range)), start, length
    )


def _with_length(answer: Answer, length: int, *extra: Header) -> tuple[Header, ...]:
    headers = _without(answer, b"content-length", b"repr-digest")
    return (*headers, (b"content-length", b"%d" % length), *extra)


def _without(answer: Answer, *names: bytes) -> tuple[Header, ...]:
    return tuple(header for header in answer.headers if header[0] not in names)
