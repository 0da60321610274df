"""Archives, sums and signatures of a mirror that has them."""

import hashlib
import subprocess
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest

from tests.upstream.gpgkeys import Room
from tests.web.conftest import (
    PENDING,
    QUARANTINED,
    REFUSED_KIND,
    SHA256_ONLY,
    SOURCE,
    STORED,
    UNVERIFIABLE,
    VERIFIED,
    Mirror,
)
from tests.web.wire import request

pytestmark = pytest.mark.on_disk

ROOTS = ("/dl/", "/go/")
EXTRAS = ("", ".sha256", ".sha256sum")
TEXT = "text/plain; charset=utf-8"


def hex_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def every_target() -> list[str]:
    """Return each URL that a mirror with these files answers with 200."""
    names = [name + extra for name in STORED for extra in EXTRAS]
    names += [name + extra for name in (VERIFIED, SHA256_ONLY) for extra in (".tree", ".chunks")]
    names += [f"{VERIFIED}.asc", f"{SOURCE}.asc", "SHA256SUMS", "", "?mode=json"]
    return [root + name for root in ROOTS for name in names]


@pytest.mark.parametrize("root", ROOTS)
@pytest.mark.parametrize("name", STORED)
async def test_an_archive_is_the_upstreams_bytes(mirror: Mirror, root: str, name: str) -> None:
    got = await mirror.site.ask(root + name)
    assert (got.status, got.complete) == (200, True)
    assert got.body == mirror.files[name]


CONTENT_TYPES = [(VERIFIED, "application/gzip"), (SHA256_ONLY, "application/zip")]


@pytest.mark.parametrize(("name", "kind"), CONTENT_TYPES)
async def test_an_archive_is_immutable_and_validated_by_its_digest(
    mirror: Mirror, name: str, kind: str
) -> None:
    got = await mirror.site.ask(f"/dl/{name}")
    assert got.header("content-type") == kind
    assert got.header("etag") == f'"{hex_of(mirror.files[name])}"'
    assert got.header("cache-control") == "public, max-age=31536000, immutable"
    assert got.header("accept-ranges") == "bytes"
    assert got.header("content-length") == str(len(mirror.files[name]))
    assert got.header("x-content-type-options") == "nosniff"
    assert got.header("content-encoding") is None
    assert parsedate_to_datetime(got.header("last-modified") or "").year >= 2026


@pytest.mark.parametrize("name", STORED)
async def test_sha256_is_64_hex_characters_without_a_newline(mirror: Mirror, name: str) -> None:
    got = await mirror.site.ask(f"/dl/{name}.sha256")
    assert len(got.body) == 64
    assert got.text == hex_of(mirror.files[name])
    assert got.header("content-type") == TEXT


@pytest.mark.parametrize("name", STORED)
async def test_sha256sum_passes_sha256sum(
    mirror: Mirror, tmp_path: Path, sha256sum: str, name: str
) -> None:
    got = await mirror.site.ask(f"/dl/{name}.sha256sum")
    assert got.text == f"{hex_of(mirror.files[name])}  {name}\n"
    (tmp_path / "sums").write_bytes(got.body)
    (tmp_path / name).write_bytes(mirror.files[name])
    done = subprocess.run(
        [sha256sum, "-c", "--strict", "sums"], cwd=tmp_path, capture_output=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, f"{name}: OK\n".encode())


@pytest.mark.parametrize("name", [VERIFIED, SOURCE])
async def test_asc_is_the_upstreams_signature_byte_for_byte(mirror: Mirror, name: str) -> None:
    got = await mirror.site.ask(f"/dl/{name}.asc")
    assert got.body == mirror.signatures[name]
    assert got.header("content-type") == "application/pgp-signature"


async def test_gpg_accepts_the_served_signature_of_the_served_archive(
    mirror: Mirror, tmp_path: Path
) -> None:
    archive = tmp_path / VERIFIED
    archive.write_bytes((await mirror.site.ask(f"/dl/{VERIFIED}")).body)
    signature = tmp_path / f"{VERIFIED}.asc"
    signature.write_bytes((await mirror.site.ask(f"/dl/{VERIFIED}.asc")).body)
    room: Room = mirror.signer.room
    done = subprocess.run(
        [
            "gpg",
            "--homedir",
            room.home,
            "--batch",
            "--status-fd",
            "1",
            "--verify",
            signature,
            archive,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "GOODSIG" in done.stdout


async def test_asc_of_a_file_without_signature_is_404_with_a_line(mirror: Mirror) -> None:
    got = await mirror.site.ask(f"/dl/{SHA256_ONLY}.asc")
    assert got.status == 404
    assert got.text == (
        f"upstream publishes no signature for {SHA256_ONLY}; it is offered by its SHA-256\n"
    )


@pytest.mark.parametrize("root", ROOTS)
@pytest.mark.parametrize("name", STORED)
async def test_an_archive_is_served_by_its_digest(mirror: Mirror, root: str, name: str) -> None:
    digest = hex_of(mirror.files[name])
    by_digest, by_name = [await mirror.site.ask(root + n) for n in (digest, name)]
    assert by_digest.body == mirror.files[name]
    assert by_digest.lasting == by_name.lasting


async def test_only_offered_files_are_served_by_digest(mirror: Mirror) -> None:
    """The others are answered as by name: what is known is never 404."""
    held = {PENDING: 503, REFUSED_KIND: 403}
    for name, status in held.items():
        got = await mirror.site.ask(f"/dl/{hex_of(mirror.files[name])}")
        assert (got.status, name in got.text) == (status, True)
    unknown = await mirror.site.ask(f"/dl/{hex_of(mirror.files[UNVERIFIABLE])}")
    assert (unknown.status, "SHA256SUMS" in unknown.text) == (404, True)


NOT_A_DIGEST = [
    "ab" * 31,
    "ab" * 33,
    ("ab" * 32).upper(),
    "ab" * 32 + ".sha256",
    "ab" * 32 + ".asc",
    "zz" * 32,
]


@pytest.mark.parametrize("name", NOT_A_DIGEST)
async def test_what_is_nearly_a_digest_is_404(mirror: Mirror, name: str) -> None:
    assert (await mirror.site.ask(f"/dl/{name}")).status == 404


@pytest.mark.parametrize("target", every_target())
async def test_head_has_the_headers_of_get_and_no_body(mirror: Mirror, target: str) -> None:
    get = await mirror.site.ask(target)
    head = await mirror.site.ask(target, "HEAD")
    assert get.status == head.status == 200
    assert head.lasting == get.lasting
    closing = await mirror.site.raw(request(target, "HEAD", {"Connection": "close"}))
    assert closing.endswith(b"\r\n\r\n")


ERRORS = ["/dl/nothing", "/dl/go9.9.9.src.tar.gz", "/dl/%00", f"/dl/{QUARANTINED}"]


@pytest.mark.parametrize("target", ERRORS)
async def test_head_of_an_error_has_the_headers_of_get_and_no_body(
    mirror: Mirror, target: str
) -> None:
    get = await mirror.site.ask(target)
    head = await mirror.site.ask(target, "HEAD")
    assert get.status == head.status >= 400
    assert head.lasting == get.lasting
    closing = await mirror.site.raw(request(target, "HEAD", {"Connection": "close"}))
    assert closing.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("target", every_target())
async def test_go_is_the_same_surface_as_dl(mirror: Mirror, target: str) -> None:
    other = target.replace("/dl/", "/go/") if "/dl/" in target else target.replace("/go/", "/dl/")
    first, second = [await mirror.site.ask(t) for t in (target, other)]
    assert (first.body, first.lasting) == (second.body, second.lasting)


@pytest.mark.parametrize("target", every_target())
async def test_F20_a_go_get_query_changes_nothing(mirror: Mirror, target: str) -> None:
    more = target + ("&" if "?" in target else "?") + "go-get=1"
    plain, asked = [await mirror.site.ask(t) for t in (target, more)]
    assert (plain.status, plain.body, plain.lasting) == (asked.status, asked.body, asked.lasting)


@pytest.mark.parametrize("name", ["nothing", "go9.9.9.src.tar.gz", QUARANTINED, PENDING, "%00"])
async def test_F20_a_go_get_query_changes_no_error(mirror: Mirror, name: str) -> None:
    plain, asked = [await mirror.site.ask(f"/dl/{name}{q}") for q in ("", "?go-get=1")]
    assert plain.status == asked.status >= 400
    assert plain.body == asked.body


async def test_if_none_match_spares_the_body(mirror: Mirror) -> None:
    etag = f'"{hex_of(mirror.files[VERIFIED])}"'
    for tags in (etag, f"W/{etag}", f'"x", {etag}', "*"):
        got = await mirror.site.ask(f"/dl/{VERIFIED}", headers={"If-None-Match": tags})
        assert (got.status, got.body) == (304, b"")
        assert got.header("etag") == etag


@pytest.mark.parametrize("name", [".sha256", ".sha256sum", ".asc"])
async def test_if_none_match_works_for_small_answers(mirror: Mirror, name: str) -> None:
    target = f"/dl/{VERIFIED}{name}"
    etag = (await mirror.site.ask(target)).header("etag") or ""
    assert (await mirror.site.ask(target, headers={"If-None-Match": etag})).status == 304


async def test_F35_the_wrong_etag_gives_the_whole_file(mirror: Mirror) -> None:
    for headers in (
        {"If-None-Match": '"x"'},
        {"Range": "bytes=5-9", "If-Range": '"x"'},
        {"Range": "bytes=5-9", "If-Range": "Thu, 01 Jan 1970 00:00:00 GMT"},
    ):
        got = await mirror.site.ask(f"/dl/{VERIFIED}", headers=headers)
        assert (got.status, got.body) == (200, mirror.files[VERIFIED])


async def test_if_modified_since_spares_the_body(mirror: Mirror) -> None:
    date = (await mirror.site.ask(f"/dl/{VERIFIED}")).header("last-modified") or ""
    got = await mirror.site.ask(f"/dl/{VERIFIED}", headers={"If-Modified-Since": date})
    assert (got.status, got.body) == (304, b"")


@pytest.mark.parametrize("cut", [1, 1000, 65536, 262_144])
async def test_an_interrupted_download_joins_with_its_rest(mirror: Mirror, cut: int) -> None:
    data = mirror.files[VERIFIED]
    etag = f'"{hex_of(data)}"'
    rest = await mirror.site.ask(
        f"/dl/{VERIFIED}", headers={"Range": f"bytes={cut}-", "If-Range": etag}
    )
    assert (rest.status, rest.complete) == (206, True)
    assert rest.header("content-range") == f"bytes {cut}-{len(data) - 1}/{len(data)}"
    assert data[:cut] + rest.body == data


PARTS = [
    ("0-0", 0, 1),
    ("5-", 5, None),
    ("-5", -5, None),
    ("10-19", 10, 20),
    ("0-9999999", 0, None),
]


@pytest.mark.parametrize(("byte_range", "start", "end"), PARTS)
async def test_F34_a_range_is_just_those_bytes(
    mirror: Mirror, byte_range: str, start: int, end: int | None
) -> None:
    data = mirror.files[VERIFIED]
    headers = {"Range": f"bytes={byte_range}"}
    got = await mirror.site.ask(f"/dl/{VERIFIED}", headers=headers)
    assert (got.status, got.body) == (206, data[start:end])
    assert got.header("content-length") == str(len(data[start:end]))
    head = await mirror.site.ask(f"/dl/{VERIFIED}", "HEAD", headers=headers)
    assert (head.status, head.header("content-length")) == (200, str(len(data)))


async def test_F34_a_range_beyond_the_end_is_416_with_the_size(mirror: Mirror) -> None:
    size = len(mirror.files[VERIFIED])
    got = await mirror.site.ask(f"/dl/{VERIFIED}", headers={"Range": f"bytes={size}-"})
    assert (got.status, got.body) == (416, b"")
    assert got.header("content-range") == f"bytes */{size}"
    assert got.header("cache-control") == "no-store"


WHOLE = ["bytes=0-0,-1", "bytes=9-5", "bytes=x-", "pages=1", "bytes=" + "1" * 12_000 + "-"]


@pytest.mark.parametrize("byte_range", WHOLE, ids=range(len(WHOLE)))
async def test_F34_what_is_not_one_range_gives_the_whole(mirror: Mirror, byte_range: str) -> None:
    got = await mirror.site.ask(f"/dl/{SOURCE}", headers={"Range": byte_range})
    assert (got.status, got.body) == (200, mirror.files[SOURCE])


@pytest.mark.parametrize("count", [7000, 10_000])
async def test_F34_ranges_and_digits_without_end_are_refused_by_their_size(
    mirror: Mirror, count: int
) -> None:
    for value in ("bytes=" + "0-0," * count + "0-0", "bytes=" + "1" * 3 * count + "-"):
        got = await mirror.site.ask(f"/dl/{SOURCE}", headers={"Range": value})
        assert got.status == 431


async def test_one_connection_carries_many_requests_in_order(mirror: Mirror) -> None:
    """Prepared answers go out at once, others through the application: the order must hold."""
    targets = [f"/dl/{VERIFIED}.sha256", f"/dl/{VERIFIED}", "/dl/nothing", "/dl/SHA256SUMS"] * 3
    expected = [await mirror.site.ask(target) for target in targets]
    async with mirror.site.calling(buffer_bytes=2**22) as caller:
        for target, right in zip(targets, expected, strict=True):
            await caller.send(request(target))
            got = await caller.response()
            assert (got.status, got.body, got.lasting) == (right.status, right.body, right.lasting)
        # Pipelined: all are sent before any answer is read.
        await caller.send(b"".join(request(target) for target in targets))
        for right in expected:
            got = await caller.response()
            assert (got.status, got.body, got.lasting) == (right.status, right.body, right.lasting)


@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_a_client_that_asks_for_it_gets_its_connection_closed(
    mirror: Mirror, version: str
) -> None:
    for target in (f"/dl/{SOURCE}.sha256", f"/dl/{SOURCE}", "/dl/nothing"):
        right = await mirror.site.ask(target)
        ask = f"GET {target} HTTP/{version}\r\nHost: x\r\nConnection: close\r\n\r\n"
        raw = await mirror.site.raw(ask.encode())
        head, _, body = raw.partition(b"\r\n\r\n")
        assert head.split(b" ")[1] == str(right.status).encode()
        assert body == right.body


async def test_every_answer_but_a_prepared_one_has_the_request_id_of_its_log_line(
    mirror: Mirror,
) -> None:
    for target in (f"/dl/{SOURCE}", "/dl/nothing", "/dl/%00"):
        got = await mirror.site.ask(target)
        request_id = got.header("x-request-id") or ""
        assert len(request_id) == 16
        assert int(request_id, 16)
