"""Status, caching and validators: pure, no server."""

import re
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core import errors
from app.core.digest import Digest
from app.core.errors import MoorageError, SchemaError, SettingsError, UnfitDatabaseError
from app.web.responses import (
    IMMUTABLE,
    LISTING,
    STATUS,
    TEXT,
    Answer,
    Slice,
    body_answer,
    error_answer,
    file_answer,
    for_request,
    is_conditional,
    plain,
    redirect,
    retry_after_s,
    status_of,
)

SIZE = 1000
STORED_AT = datetime(2026, 8, 28, 17, 1, 22, tzinfo=UTC)
DATE = b"Fri, 28 Aug 2026 17:01:22 GMT"
FILE = file_answer(Digest("ab" * 32), SIZE, b"application/gzip", STORED_AT)
ETAG = b'"' + b"ab" * 32 + b'"'


def every(root: type[MoorageError]) -> list[type[MoorageError]]:
    return [root, *(c for child in root.__subclasses__() for c in every(child))]


def made(kind: type[MoorageError], message: str = "why") -> MoorageError:
    if issubclass(kind, errors.UpstreamError):
        return kind(message, origin="https://go.dev")
    return kind(message)


def documented() -> dict[str, int]:
    """Return the statuses that the tree in the docstring of core/errors.py gives."""
    rows = re.findall(r"─ (\w+) .*  (\d{3})$", errors.__doc__ or "", re.MULTILINE)
    assert len(rows) > 15
    return {name: int(status) for name, status in rows}


# These three end the program before it answers anything.
ENDING = (SettingsError, SchemaError, UnfitDatabaseError)
ANSWERED = [
    c for c in every(MoorageError)[1:] if c not in ENDING and c.__module__ == errors.__name__
]


@pytest.mark.parametrize("kind", ANSWERED)
def test_every_error_has_a_status_and_only_a_defect_is_500(kind: type[MoorageError]) -> None:
    status = status_of(made(kind))
    assert 400 <= status < 600
    assert (status == 500) is (kind is errors.DefectError)
    # UpstreamAbsentError has no number of its own in the docstring: it is its parent's.
    assert status == documented().get(kind.__name__, STATUS[errors.UpstreamError])


def test_upstream_failure_is_never_404() -> None:
    for kind in every(errors.UpstreamError):
        assert status_of(made(kind)) in (502, 503, 504)


def test_a_subclass_comes_before_its_parent_in_the_table() -> None:
    for earlier, later in pairwise(STATUS):
        assert not issubclass(later, earlier)


RETRY = [
    (errors.OverloadedError("x", 7), 7),
    (errors.NotYetError("x", 61), 61),
    (errors.UpstreamUnavailableError("x", origin="o", retry_after_s=3600), 3600),
    (errors.DatabaseBusyError("x"), 10),
    (errors.StorageFullError("x"), 10),
    (errors.UpstreamTimeoutError("x", origin="o"), 10),
    (errors.VerificationError("x"), None),
    (errors.UnknownError("x"), None),
    (errors.DeniedError("x"), None),
]


@pytest.mark.parametrize(("error", "seconds"), RETRY)
def test_retry_after_says_when_trying_again_makes_sense(
    error: MoorageError, seconds: int | None
) -> None:
    assert retry_after_s(error) == seconds
    sent = dict(error_answer(error).headers).get(b"retry-after")
    assert sent == (None if seconds is None else str(seconds).encode())


@given(st.text(st.characters(codec=None), max_size=1500), st.sampled_from([400, 404, 503]))
def test_F102_a_plain_answer_is_one_short_line_without_control_characters(
    line: str, status: int
) -> None:
    answer = plain(status, line)
    text = answer.body.decode()
    assert len(answer.body) <= 648
    assert text.endswith("\n")
    assert text[:-1].strip()
    assert not re.search(r"[\x00-\x1f\x7f-\x9f]", text[:-1])
    assert dict(answer.headers)[b"content-length"] == b"%d" % len(answer.body)
    assert answer.size_bytes == len(answer.body)


def test_F102_a_line_feed_or_an_escape_sequence_in_a_message_becomes_a_space() -> None:
    assert plain(404, "no \r\n\x1b[31mfile\x9b").body == b"no  [31mfile\n"


def test_a_long_message_is_cut_between_characters() -> None:
    assert plain(404, "é" * 400).body == "é".encode() * 300 + b"\n"


def test_an_error_is_not_cached() -> None:
    headers = dict(error_answer(errors.UnknownError("gone")).headers)
    assert headers[b"cache-control"] == b"no-store"
    assert headers[b"content-type"] == TEXT


def test_a_redirect_says_where_to() -> None:
    answer = redirect("/dl/")
    assert answer.status == 301
    assert dict(answer.headers)[b"location"] == b"/dl/"


def test_a_file_is_immutable_and_validated_by_its_digest() -> None:
    headers = dict(FILE.headers)
    assert headers[b"cache-control"] == IMMUTABLE
    assert headers[b"etag"] == ETAG
    assert headers[b"last-modified"] == DATE
    assert headers[b"accept-ranges"] == b"bytes"
    # RFC 9530: base64 between colons.
    assert headers[b"repr-digest"] == b"sha-256=:" + b"q6ur" * 10 + b"q6s=:"


def test_equal_listings_have_equal_validators_and_others_have_not() -> None:
    first, same, other = (body_answer(b, TEXT, LISTING) for b in (b"a", b"a", b"b"))
    assert first.etag == same.etag != other.etag
    assert dict(first.headers)[b"cache-control"] == LISTING


def test_the_prepared_bytes_of_a_small_answer_are_its_headers_and_body() -> None:
    answer = body_answer(b"abc", TEXT, LISTING, (b"x-more", b"1"))
    head, _, body = answer.wire.partition(b"\r\n\r\n")
    assert body == b"abc"
    assert [tuple(line.split(b": ", 1)) for line in head.split(b"\r\n")] == list(answer.headers)


def test_a_large_answer_a_blob_and_an_error_are_never_sent_in_one_piece() -> None:
    assert not body_answer(b"a" * 65537, TEXT, LISTING).wire
    assert not FILE.wire
    assert not plain(404, "x").wire


@pytest.mark.parametrize("name", ["if-none-match", "if-modified-since", "range", "if-range"])
def test_a_conditional_request_is_told_from_a_plain_one(name: str) -> None:
    assert is_conditional([(b"host", b"x"), (name.encode(), b"")])
    assert not is_conditional([(b"host", b"x"), (b"if-match", b"*")])


def sent(answer: Answer = FILE, **headers: bytes) -> Slice:
    request_headers = [(name.replace("_", "-").encode(), value) for name, value in headers.items()]
    return for_request(answer, request_headers)


FULL = Slice(200, FILE.headers, 0, SIZE)

NONE_MATCH = [
    (ETAG, 304),
    (b"W/" + ETAG, 304),
    (b'"other", ' + ETAG, 304),
    (b'W/"other" ,W/' + ETAG + b" ", 304),
    (b"*", 304),
    (b" * ", 304),
    (b'"other"', 200),
    (ETAG.strip(b'"'), 200),
    (b"", 200),
    (b",", 200),
    (b'"\xff\xfe"', 200),
]


@pytest.mark.parametrize(("tags", "status"), NONE_MATCH)
def test_F35_if_none_match_gives_304_for_a_tag_that_matches_and_200_else(
    tags: bytes, status: int
) -> None:
    assert sent(if_none_match=tags).status == status


def test_304_has_the_validators_and_no_body() -> None:
    part = sent(if_none_match=ETAG)
    assert (part.start, part.length) == (0, 0)
    headers = dict(part.headers)
    assert headers[b"etag"] == ETAG
    assert headers[b"cache-control"] == IMMUTABLE
    assert b"content-length" not in headers


MODIFIED_SINCE = [(DATE, 304), (b"Fri, 28 Aug 2026 17:01:21 GMT", 200), (b"junk", 200), (b"", 200)]


@pytest.mark.parametrize(("date", "status"), MODIFIED_SINCE)
def test_if_modified_since_gives_304_for_the_date_that_was_sent(date: bytes, status: int) -> None:
    assert sent(if_modified_since=date).status == status


def test_if_modified_since_is_ignored_beside_if_none_match() -> None:
    assert sent(if_none_match=b'"other"', if_modified_since=DATE).status == 200


def test_an_answer_without_a_date_never_matches_an_empty_one() -> None:
    listing = body_answer(b"a", TEXT, LISTING)
    assert sent(listing, if_modified_since=b"").status == 200


RANGES = [
    (b"bytes=0-0", 0, 1),
    (b"bytes=0-999", 0, 1000),
    (b"bytes=5-", 5, 995),
    (b"bytes=999-", 999, 1),
    (b"bytes=10-19", 10, 10),
    (b"bytes=990-5000", 990, 10),
    (b"bytes=-5", 995, 5),
    (b"bytes=-1000", 0, 1000),
    (b"bytes=-5000", 0, 1000),
    (b" bytes=1-2 ", 1, 2),
    (b"bytes=000000000000000005-000000000000000006", 5, 2),
]


@pytest.mark.parametrize(("byte_range", "start", "length"), RANGES)
def test_F34_a_single_range_gives_206_with_just_those_bytes(
    byte_range: bytes, start: int, length: int
) -> None:
    part = sent(range=byte_range)
    assert (part.status, part.start, part.length) == (206, start, length)
    headers = dict(part.headers)
    assert headers[b"content-range"] == b"bytes %d-%d/1000" % (start, start + length - 1)
    assert headers[b"content-length"] == b"%d" % length
    assert headers[b"etag"] == ETAG
    # A digest of the whole would be a lie about the part.
    assert b"repr-digest" not in headers
    assert len(part.headers) == len(headers)


@pytest.mark.parametrize(
    "byte_range", [b"bytes=1000-", b"bytes=1000-1001", b"bytes=-0", b"bytes=99999-"]
)
def test_F34_a_range_beyond_the_end_gives_416_with_the_size(byte_range: bytes) -> None:
    part = sent(range=byte_range)
    assert (part.status, part.length) == (416, 0)
    headers = dict(part.headers)
    assert headers[b"content-range"] == b"bytes */1000"
    assert headers[b"content-length"] == b"0"
    # It must not be taken for the file by a cache.
    assert headers[b"cache-control"] == b"no-store"
    assert b"etag" not in headers


IGNORED = [
    b"bytes=5-4",
    b"bytes=-",
    b"bytes=",
    b"",
    b"bytes",
    b"items=0-1",
    b"BYTES=0-1",
    b"bytes=0-0,-1",
    b"bytes=0-1,5-6",
    b"bytes=" + b"0-0," * 9999 + b"0-0",
    b"bytes=a-b",
    b"bytes=0x0-0x1",
    b"bytes=+1-2",
    b"bytes=1 - 2",
    b"bytes=1.0-2",
    b"bytes=" + b"9" * 30_000 + b"-",
    b"bytes=0-" + b"9" * 19,
    "bytes=\u0660-\u0661".encode(),
    b"\x00",
]


@pytest.mark.parametrize("byte_range", IGNORED, ids=range(len(IGNORED)))
def test_F34_several_ranges_and_what_is_no_range_give_the_whole(byte_range: bytes) -> None:
    assert sent(range=byte_range) == FULL


def test_a_range_of_a_body_in_memory_is_not_honoured() -> None:
    assert sent(body_answer(b"abc", TEXT, LISTING), range=b"bytes=0-0").status == 200


IF_RANGE = [
    (ETAG, 206),
    (DATE, 206),
    (b'"other"', 200),
    (b"W/" + ETAG, 200),
    (b"Fri, 28 Aug 2026 17:01:23 GMT", 200),
    (b"", 200),
]


@pytest.mark.parametrize(("condition", "status"), IF_RANGE)
def test_F35_if_range_gives_the_part_only_of_the_same_file(condition: bytes, status: int) -> None:
    part = sent(range=b"bytes=5-", if_range=condition)
    assert part.status == status
    assert part.length == (SIZE if status == 200 else SIZE - 5)


def test_if_none_match_comes_before_range() -> None:
    assert sent(range=b"bytes=5-", if_none_match=ETAG).status == 304


def test_an_error_has_no_conditions_and_no_ranges() -> None:
    answer = plain(404, "gone")
    part = sent(answer, range=b"bytes=0-0", if_none_match=b"*")
    assert (part.status, part.length) == (404, len(answer.body))


numbers = st.integers(0, 3000).map(str) | st.text("0123456789", max_size=25) | st.just("")
ranges = st.builds("bytes={}-{}".format, numbers, numbers).map(str.encode) | st.binary(max_size=40)
tags = st.sampled_from([ETAG, DATE, b"*", b'"x"', b"W/" + ETAG]) | st.binary(max_size=40)


@given(
    size=st.integers(0, 2000),
    headers=st.lists(
        st.tuples(st.just(b"range"), ranges)
        | st.tuples(st.sampled_from([b"if-none-match", b"if-range", b"if-modified-since"]), tags),
        max_size=4,
    ),
)
def test_F34_a_slice_never_leaves_the_body(size: int, headers: list[tuple[bytes, bytes]]) -> None:
    answer = file_answer(Digest("ab" * 32), size, b"application/gzip", STORED_AT)
    part = for_request(answer, headers)
    assert part.status in (200, 206, 304, 416)
    assert part.start >= 0
    assert part.length >= 0
    assert part.start + part.length <= size
    length = dict(part.headers).get(b"content-length")
    assert length is None if part.status == 304 else length == b"%d" % part.length
    if part.status == 206:
        assert part.length > 0
    if part.status == 200:
        assert (part.start, part.length) == (0, size)
