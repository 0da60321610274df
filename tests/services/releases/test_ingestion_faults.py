"""Bad upstreams, by number: the right error, nothing stored, nothing served, a retry succeeds."""

from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate
from time import time

import pytest

from app.core import errors
from app.core.releasefile import FileState
from app.services.assembly import Services
from app.settings.sections.network import Network
from app.upstream.breaker import BreakerState
from app.web.responses import status_of
from tests.conftest import MakeServices, MakeSettings, PutRelease
from tests.fakes.archives import archive_name, go_archive
from tests.fakes.faults import HTML, Fault
from tests.fakes.godev import FakeGodev
from tests.fakes.signer import Signer
from tests.services.bench import (
    NAME,
    PATH,
    Sleeps,
    assert_nothing_kept,
    assert_sound,
    body_of,
    count_of,
    record_of,
    staged,
    stored,
)
from tests.services.conftest import Rewire

CONTENT, UNAVAILABLE = errors.UpstreamContentError, errors.UpstreamUnavailableError
TIMEOUT, WRONG, PLAIN = errors.UpstreamTimeoutError, errors.VerificationError, errors.UpstreamError
REFUSED = errors.UpstreamRefusedError


@dataclass(frozen=True)
class Row:
    """A fault that stays, and what comes of it.

    Attributes:
        fault: or a function that makes it from the archive.
        hits: how often the archive is asked for: 1 where another attempt can't help.
    """

    name: str
    fault: Fault | Callable[[bytes], Fault]
    error: type[errors.MoorageError]
    status: int
    hits: int
    deadline_s: float = 60.0


def html_of_the_same_length(data: bytes) -> Fault:
    return Fault.wrong_content(HTML + b" " * (len(data) - len(HTML)))


PERSISTENT = (
    Row("F40-cut-at-0", Fault.truncate(after=0), CONTENT, 502, 4),
    Row("F40-cut-at-half", Fault.truncate(after="half"), CONTENT, 502, 4),
    Row("F40-cut-before-the-last-byte", Fault.truncate(after="last"), CONTENT, 502, 4),
    Row("F40-length-too-large", Fault.wrong_length(+5), CONTENT, 502, 1),
    Row("F41-chunked", Fault.truncate_chunked(after="half"), CONTENT, 502, 4),
    Row("F41-ended", Fault.truncate_chunked(after="last", last_chunk=True), CONTENT, 502, 4),
    Row("F41-no-length", Fault.truncate_unframed(after="half"), CONTENT, 502, 4),
    Row("F41-empty", Fault.empty_200(), CONTENT, 502, 1),
    Row("F42-length-too-small", Fault.wrong_length(-5), CONTENT, 502, 1),
    Row("F42-longer", Fault.oversized(4_000_000), CONTENT, 502, 1),
    Row("F43-stall", Fault.stall(after="half"), TIMEOUT, 504, 1, deadline_s=0.3),
    Row("F43-no-head", Fault.delay_headers_until_released(), TIMEOUT, 504, 1, deadline_s=0.3),
    Row("F43-drip", Fault.drip(1, 0.02), TIMEOUT, 504, 1, deadline_s=0.3),
    Row("F44-at-0", Fault.reset(after=0), UNAVAILABLE, 503, 4),
    Row("F44-at-half", Fault.reset(after="half"), UNAVAILABLE, 503, 4),
    Row("F44-at-last", Fault.reset(after="last"), UNAVAILABLE, 503, 4),
    Row("F44-at-once", Fault.reset_at_once(), UNAVAILABLE, 503, 4),
    Row("F45-first-byte", Fault.flip_byte(at=0), WRONG, 502, 2),
    Row("F45-half", Fault.flip_byte(at="half"), WRONG, 502, 2),
    Row("F45-last-byte", Fault.flip_byte(at="last"), WRONG, 502, 2),
    Row("F46-html", Fault.html_200(), CONTENT, 502, 1),
    Row("F46-html-of-the-same-length", html_of_the_same_length, WRONG, 502, 2),
    Row("F47-404", Fault.status(404), PLAIN, 502, 1),
    Row("F47-410", Fault.status(410), PLAIN, 502, 1),
    Row("F48-401", Fault.status(401, b"who are you?"), REFUSED, 502, 1),
    Row("F48-403", Fault.status(403, b"who are you?"), REFUSED, 502, 1),
    Row("F49-429", Fault.status(429), UNAVAILABLE, 503, 4),
    Row("F49-3600", Fault.status(429, headers={"Retry-After": "3600"}), UNAVAILABLE, 503, 1),
    Row("F49-garbage", Fault.status(429, headers={"Retry-After": "soon"}), UNAVAILABLE, 503, 4),
    Row("F50-500", Fault.status(500), UNAVAILABLE, 503, 4),
    Row("F50-501", Fault.status(501), UNAVAILABLE, 503, 1),
    Row("F50-503", Fault.status(503, b"<html>try later</html>"), UNAVAILABLE, 503, 4),
    Row("F52-redirect-loop", Fault.redirect_loop(), CONTENT, 502, 1),
    Row("F53-file", Fault.redirect("file:///etc/passwd"), PLAIN, 502, 1),
    Row("F53-ftp", Fault.redirect("ftp://127.0.0.1/x"), PLAIN, 502, 1),
    Row("F53-gopher", Fault.redirect("gopher://127.0.0.1/x"), PLAIN, 502, 1),
    Row("F53-javascript", Fault.redirect("javascript:alert(1)"), PLAIN, 502, 1),
    Row("F53-user", Fault.redirect("http://me:secret@127.0.0.1/x"), PLAIN, 502, 1),
    Row("F58-half", Fault.partial_206(), CONTENT, 502, 1),
    Row("F58-all-but-the-first", Fault.partial_206(first=1), CONTENT, 502, 1),
    Row("F60-huge-header", Fault.huge_header(), CONTENT, 502, 1),
    Row("F67-another-release", lambda _: Fault.wrong_content(OTHER_RELEASE), CONTENT, 502, 1),
    Row("no-content", Fault.status(204), CONTENT, 502, 1),
    Row("not-modified", Fault.status(304), CONTENT, 502, 1),
)
OTHER_RELEASE = go_archive("go1.98.1", extra_bytes=1000)


@pytest.mark.parametrize("row", PERSISTENT, ids=lambda row: row.name)
async def test_bad_answer_for_an_archive(
    row: Row,
    services: Services,
    rewire: Rewire,
    fake: FakeGodev,
    put_release: PutRelease,
) -> None:
    quick = rewire(services, deadline_s=row.deadline_s)
    data = put_release()
    await quick.releases.reader.refresh()
    fake.fault(PATH, row.fault if isinstance(row.fault, Fault) else row.fault(data), times=None)

    with pytest.raises(errors.MoorageError) as raised:
        await quick.releases.ingestion.ensure(NAME)

    assert type(raised.value) is row.error, raised.value
    assert status_of(raised.value) == row.status
    assert fake.hits[PATH] == row.hits
    assert "who are you" not in str(raised.value)
    assert "secret" not in str(raised.value)
    wrong = row.error is WRONG
    assert (await record_of(quick)).state == (FileState.QUARANTINED if wrong else FileState.KNOWN)
    await assert_nothing_kept(quick)

    fake.clear_faults()
    patient = rewire(services)
    record = await patient.releases.ingestion.ensure(NAME)
    assert (record.state, record.reason) == (FileState.VERIFIED, "")
    assert await body_of(patient, record) == data
    assert fake.hits[PATH] == row.hits + 1
    await assert_sound(patient)


PASSING = {
    "F40": (Fault.truncate(after="half"), 1),
    "F41-chunked": (Fault.truncate_chunked(after="half"), 1),
    "F41-no-length": (Fault.truncate_unframed(after="half"), 1),
    "F44-at-0": (Fault.reset(after=0), 1),
    "F44-at-half": (Fault.reset(after="half"), 1),
    "F44-at-last": (Fault.reset(after="last"), 1),
    "F44-at-once": (Fault.reset_at_once(), 1),
    "F45": (Fault.flip_byte(at="half"), 1),
    "F46-html-of-the-same-length": (html_of_the_same_length, 1),
    "F49": (Fault.status(429), 3),
    "F50": (Fault.status(500), 3),
}


@pytest.mark.parametrize("name", PASSING)
async def test_a_fault_that_passes_is_overcome_within_one_request(
    name: str, quick: Services, fake: FakeGodev, put_release: PutRelease
) -> None:
    fault, times = PASSING[name]
    data = put_release()
    await quick.releases.reader.refresh()
    fake.fault(PATH, fault if isinstance(fault, Fault) else fault(data), times=times)
    record = await quick.releases.ingestion.ensure(NAME)
    assert record.state == FileState.VERIFIED
    assert await body_of(quick, record) == data
    assert fake.hits[PATH] == times + 1
    await assert_sound(quick)


async def test_F42_bytes_behind_the_declared_length_are_not_taken(
    quick: Services, fake: FakeGodev, put_release: PutRelease
) -> None:
    """HTTP ends the body there: the file is right, and the connection is not used again."""
    data = put_release()
    await quick.releases.reader.refresh()
    fake.fault(PATH, Fault.longer_than_length(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad"))
    record = await quick.releases.ingestion.ensure(NAME)
    assert record.state == FileState.VERIFIED
    assert await body_of(quick, record) == data
    await assert_sound(quick)


async def test_F42_an_endless_body_is_cut_at_the_limit(
    quick: Services, fake: FakeGodev, put_release: PutRelease
) -> None:
    put_release()
    await quick.releases.reader.refresh()
    fake.fault(PATH, Fault.oversized(200_000_000))
    with pytest.raises(CONTENT, match="sent more than"):
        await quick.releases.ingestion.ensure(NAME)
    assert fake.bytes_sent[PATH] < 20_000_000  # what the kernel buffers
    await assert_nothing_kept(quick)


async def test_F45_the_quarantine_says_why_and_is_audited_once(
    quick: Services, fake: FakeGodev, put_release: PutRelease
) -> None:
    put_release()
    await quick.releases.reader.refresh()
    fake.fault(PATH, Fault.flip_byte(at="half"), times=None)
    before = count_of("moorage_release_ingestions_total", outcome="VerificationError")
    for _ in range(2):
        with pytest.raises(WRONG, match=r"has SHA-256 [0-9a-f]{64}, the release index says"):
            await quick.releases.ingestion.ensure(NAME)
    record = await record_of(quick)
    assert record.state == FileState.QUARANTINED
    assert "the release index says" in record.reason
    rows = [r for r in await quick.shared.audit.list(after=0, limit=100) if r.object == NAME]
    assert [(r.action, r.detail) for r in rows] == [("release.quarantined", record.reason)]
    after = count_of("moorage_release_ingestions_total", outcome="VerificationError")
    assert after == before + 2


@pytest.mark.parametrize(
    ("value", "slept"),
    [
        ("2", lambda s: s == 2.0),
        ("0", lambda s: s == 0.0),
        ("a date", lambda s: 10 < s <= 20),
        ("Thu, 01 Jan 1970 00:00:00 GMT", lambda s: s == 0.0),
        ("soon", lambda s: 0 <= s <= 0.1),
        ("-1", lambda s: 0 <= s <= 0.1),
    ],
    ids=["seconds", "zero", "date", "past", "garbage", "negative"],
)
async def test_F49_retry_after_is_obeyed(
    value: str,
    slept: Callable[[float], bool],
    services: Services,
    rewire: Rewire,
    fake: FakeGodev,
    put_release: PutRelease,
) -> None:
    sleeps = Sleeps()
    quick = rewire(services, sleep=sleeps)
    put_release()
    await quick.releases.reader.refresh()
    if value == "a date":
        value = formatdate(time() + 20, usegmt=True)
    fake.fault(PATH, Fault.status(429, headers={"Retry-After": value}))
    assert (await quick.releases.ingestion.ensure(NAME)).state == FileState.VERIFIED
    assert len(sleeps) == 1
    assert slept(sleeps[0])


async def test_F49_a_long_retry_after_is_passed_on(
    quick: Services, fake: FakeGodev, put_release: PutRelease
) -> None:
    put_release()
    await quick.releases.reader.refresh()
    fake.fault(PATH, Fault.status(503, headers={"Retry-After": "3600"}))
    with pytest.raises(UNAVAILABLE) as raised:
        await quick.releases.ingestion.ensure(NAME)
    assert raised.value.retry_after_s == 3600


async def test_F50_an_upstream_that_fails_for_ever_is_left_alone(
    quick: Services, fake: FakeGodev, put_release: PutRelease
) -> None:
    put_release()
    await quick.releases.reader.refresh()
    fake.fault(PATH, Fault.status(500), times=None)
    for _ in range(30):
        if quick.shared.client.breaker_states()[fake.base_url] is BreakerState.OPEN:
            break
        with pytest.raises(UNAVAILABLE):
            await quick.releases.ingestion.ensure(NAME)
    seen = fake.hits[PATH]
    assert 13 <= seen <= 30
    with pytest.raises(UNAVAILABLE, match="left alone") as raised:
        await quick.releases.ingestion.ensure(NAME)
    assert fake.hits[PATH] == seen
    assert status_of(raised.value) == 503
    assert raised.value.retry_after_s > 0
    await assert_nothing_kept(quick)


async def test_F52_nine_redirects_are_followed_and_ten_are_not(
    quick: Services, fake: FakeGodev, put_release: PutRelease
) -> None:
    data = put_release()
    await quick.releases.reader.refresh()
    for hop in range(10):
        fake.fault(PATH, Fault.redirect(f"{PATH}?hop={hop}"))
    with pytest.raises(CONTENT, match="stopped after 10 redirects"):
        await quick.releases.ingestion.ensure(NAME)
    await assert_nothing_kept(quick)
    fake.clear_faults()
    for hop in range(9):
        fake.fault(PATH, Fault.redirect(f"{PATH}?hop={hop}"))
    assert await body_of(quick, await quick.releases.ingestion.ensure(NAME)) == data


@pytest.mark.parametrize(
    "target",
    [
        "http://127.0.0.1:1/go/x",  # the address is allowed, the port is not
        "http://127.0.0.2:{port}/go/x",
        "http://2130706434:{port}/go/x",  # getaddrinfo takes it for 127.0.0.2
        "http://0x7f.2:{port}/x",
        "http://127.1:1/x",
        "http://0.0.0.0:{port}/x",
        "http://10.0.0.1/x",
        "http://169.254.169.254/latest/meta-data",
        "http://100.64.0.1/x",
        "http://[::1]:{port}/x",
        "http://[::ffff:127.0.0.1]:1/x",
        "http://[64:ff9b::a00:1]:{port}/x",
        "http://[2002:a00:1::]:{port}/x",
    ],
)
async def test_F54_a_redirect_to_a_private_address_is_not_followed(
    target: str,
    make_settings: MakeSettings,
    start_services: MakeServices,
    rewire: Rewire,
    fake: FakeGodev,
    put_release: PutRelease,
) -> None:
    port = fake.base_url.rpartition(":")[2]
    only_the_fake = Network(allow=(f"127.0.0.1/32:{port}",))
    settings = make_settings().model_copy(update={"network": only_the_fake})
    quick = rewire(await start_services(settings))
    data = put_release()
    await quick.releases.reader.refresh()
    fake.forget()
    fake.fault(PATH, Fault.redirect(target.format(port=port)))
    with pytest.raises(PLAIN) as raised:
        await quick.releases.ingestion.ensure(NAME)
    assert status_of(raised.value) == 502
    assert dict(fake.hits) == {PATH: 1}
    await assert_nothing_kept(quick)
    assert await body_of(quick, await quick.releases.ingestion.ensure(NAME)) == data


async def test_F67_a_valid_file_of_another_release_of_the_same_length_is_rejected(
    quick: Services, fake: FakeGodev, put_release: PutRelease
) -> None:
    """Its own signature is good, but the index binds the name to a hash."""
    data = put_release(extra_bytes=2000)
    other = put_release("go1.98.1", extra_bytes=2000)
    other += b"\0" * (len(data) - len(other))
    await quick.releases.reader.refresh()
    assert len(other) == len(data)
    fake.fault(PATH, Fault.wrong_content(other), times=None)
    with pytest.raises(WRONG):
        await quick.releases.ingestion.ensure(NAME)
    assert fake.hits[f"{PATH}.asc"] == 0
    await assert_nothing_kept(quick)


async def test_F67_an_index_that_gives_a_release_the_hash_of_another_is_not_believed(
    quick: Services, fake: FakeGodev, signer: Signer
) -> None:
    """Hash and signature are right; only the archive itself says which release it is."""
    other = go_archive("go1.98.1")
    fake.put_file(NAME, other, signature=signer.sign(other))
    await quick.releases.reader.refresh()
    with pytest.raises(WRONG, match=r"holds the toolchain v0\.0\.1-go1\.98\.1\."):
        await quick.releases.ingestion.ensure(NAME)
    assert (await record_of(quick)).state is FileState.QUARANTINED


async def test_a_size_that_the_index_gets_wrong_stores_nothing(
    quick: Services, fake: FakeGodev, put_release: PutRelease
) -> None:
    data = put_release()
    fake.put_file(NAME, data, size=len(data) - 1)
    await quick.releases.reader.refresh()
    with pytest.raises(CONTENT):
        await quick.releases.ingestion.ensure(NAME)
    await assert_nothing_kept(quick)


@pytest.mark.parametrize(
    "fault",
    [
        Fault.status(404),
        Fault.status(500),
        Fault.status(403),
        Fault.reset(after="half"),
        Fault.truncate(after="half"),
        Fault.flip_byte(at="half"),
        Fault.html_200(),
        Fault.redirect_loop(),
    ],
    ids=lambda fault: f"{fault.kind}",
)
async def test_a_source_that_fails_is_followed_by_the_next_one(
    fault: Fault,
    start_services: MakeServices,
    rewire: Rewire,
    fake: FakeGodev,
    put_release: PutRelease,
) -> None:
    data = put_release()
    with FakeGodev(files={NAME: data}) as second:
        urls = [fake.files_url, second.files_url]
        quick = rewire(await start_services(releases={"files_urls": urls}))
        await quick.releases.reader.refresh()
        fake.fault(PATH, fault, times=None)
        record = await quick.releases.ingestion.ensure(NAME)
        assert record.state == FileState.VERIFIED
        assert record.source_url == second.files_url + NAME
        assert second.hits[PATH] == 1
        assert await body_of(quick, record) == data
        await assert_sound(quick)


async def test_the_first_source_that_works_is_the_only_one_asked(
    start_services: MakeServices, rewire: Rewire, fake: FakeGodev, put_release: PutRelease
) -> None:
    data = put_release()
    with FakeGodev(files={NAME: data}) as second:
        urls = [fake.files_url, second.files_url]
        quick = rewire(await start_services(releases={"files_urls": urls}))
        await quick.releases.reader.refresh()
        record = await quick.releases.ingestion.ensure(NAME)
        assert record.source_url == fake.files_url + NAME
        assert second.hits == {}


@pytest.mark.parametrize(
    ("first", "second_fault", "error"),
    [
        (Fault.status(404), Fault.status(404), PLAIN),
        (Fault.status(404), Fault.status(500), UNAVAILABLE),
        (Fault.status(500), Fault.status(404), UNAVAILABLE),
        (Fault.status(500), Fault.flip_byte(at=0), WRONG),
        (Fault.flip_byte(at=0), Fault.status(500), WRONG),
        (Fault.html_200(), Fault.status(404), CONTENT),
    ],
    ids=["404-404", "404-500", "500-404", "500-wrong", "wrong-500", "html-404"],
)
async def test_where_every_source_fails_the_worst_failure_is_told(
    first: Fault,
    second_fault: Fault,
    error: type[errors.MoorageError],
    start_services: MakeServices,
    rewire: Rewire,
    fake: FakeGodev,
    put_release: PutRelease,
) -> None:
    """Never 404: the index lists the file, so it exists."""
    data = put_release()
    with FakeGodev(files={NAME: data}) as second:
        urls = [fake.files_url, second.files_url]
        quick = rewire(await start_services(releases={"files_urls": urls}))
        await quick.releases.reader.refresh()
        fake.fault(PATH, first, times=None)
        second.fault(PATH, second_fault, times=None)
        with pytest.raises(error) as raised:
            await quick.releases.ingestion.ensure(NAME)
        assert status_of(raised.value) != 404
        await assert_nothing_kept(quick)


async def test_an_upstream_that_is_down_is_503_and_comes_back(
    quick: Services, fake: FakeGodev, put_release: PutRelease
) -> None:
    data = put_release()
    await quick.releases.reader.refresh()
    fake.stop()
    with pytest.raises(UNAVAILABLE) as raised:
        await quick.releases.ingestion.ensure(NAME)
    assert status_of(raised.value) == 503
    await assert_nothing_kept(quick)
    fake.start()
    assert await body_of(quick, await quick.releases.ingestion.ensure(NAME)) == data


async def test_what_is_served_stays_served_while_every_upstream_is_down(
    quick: Services, fake: FakeGodev, put_release: PutRelease
) -> None:
    data = put_release()
    await quick.releases.reader.refresh()
    await quick.releases.ingestion.ensure(NAME)
    fake.stop()
    record = await quick.releases.ingestion.ensure(NAME)
    assert record.served
    assert await body_of(quick, record) == data


async def test_a_file_that_fails_leaves_the_others_alone(
    quick: Services, fake: FakeGodev, put_release: PutRelease
) -> None:
    put_release()
    other = put_release("go1.98.1")
    await quick.releases.reader.refresh()
    fake.fault(PATH, Fault.flip_byte(at="half"), times=None)
    record = await quick.releases.ingestion.ensure(archive_name("go1.98.1"))
    with pytest.raises(WRONG):
        await quick.releases.ingestion.ensure(NAME)
    assert await body_of(quick, record) == other
    assert staged(quick) == []
    assert len(stored(quick)) == 4
