"""Reading the release index through the whole service: what is new, contradicted, lost, refused."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import anyio.to_thread
import pytest

from app.core import errors
from app.core.digest import Digest
from app.core.releasefile import FileState
from app.core.releaseindex import MAX_INDEX_BYTES
from app.db.releaseindex import IndexLog
from app.services.assembly import Services
from app.web.responses import status_of
from tests.conftest import MakeServices, MakeSettings, PutRelease
from tests.fakes.archives import archive_name, go_archive
from tests.fakes.faults import Fault, Framing
from tests.fakes.godev import FakeGodev
from tests.fakes.signer import Signer
from tests.installation import running
from tests.services.bench import (
    INDEX_PATH,
    NAME,
    PATH,
    WallClock,
    assert_sound,
    audit_rows,
    audited,
    body_of,
    count_of,
    index_document,
    record_of,
    records,
    sha256,
    stored,
)
from tests.statements import refused

OTHER = archive_name("go1.98.1")


async def test_the_first_reading_records_every_file_and_keeps_the_document(
    services: Services, fake: FakeGodev, put_release: PutRelease
) -> None:
    data = put_release()
    put_release("go1.98.1")
    assert (await services.releases.reader.status()).read_at is None
    change = await services.releases.reader.refresh("cli")

    assert set(change.added) == {NAME, OTHER}
    assert (change.vanished, change.conflicts) == ((), ())
    record = await record_of(services)
    assert (record.state, record.listed, record.has_bytes) == (FileState.KNOWN, True, False)
    assert (record.file.version, record.file.os, record.file.arch) == ("go1.99.1", "linux", "amd64")
    assert (record.file.sha256, record.file.size_bytes) == (Digest.of(data), len(data))
    assert record.index == change.document
    status = await services.releases.reader.status()
    assert (status.document, status.error) == (change.document, "")
    assert status.read_at == status.tried_at is not None
    document = await services.shared.store.read(change.document, max_bytes=MAX_INDEX_BYTES)
    assert {f["filename"] for r in json.loads(document) for f in r["files"]} == {NAME, OTHER}
    [row] = await audited(services, "index.accept")
    assert (row.actor, row.object) == ("cli", f"sha256:{change.document}")
    assert row.detail == "2 new, 0 vanished, 0 conflicting files"
    [request] = [r for r in fake.requests if r.path == INDEX_PATH]
    assert request.target == "/dl/?mode=json&include=all"


async def test_reading_the_same_document_again_changes_nothing(
    make_settings: MakeSettings, start_services: MakeServices, put_release: PutRelease
) -> None:
    put_release()
    settings, clock = make_settings(), WallClock()
    await start_services(settings)
    async with running(settings, clock) as services:
        await services.releases.reader.refresh()
        before, rows = await records(services), await audit_rows(services)
        clock.advance(hours=1)
        change = await services.releases.reader.refresh()
        assert (change.added, change.vanished, change.conflicts) == ((), (), ())
        assert (await records(services), await audit_rows(services)) == (before, rows)
        assert (await services.releases.reader.status()).read_at == clock()
        assert stored(services) == {change.document}


async def test_concurrent_readings_are_one(
    services: Services, fake: FakeGodev, put_release: PutRelease
) -> None:
    put_release()
    fake.fault(INDEX_PATH, Fault.stall(after=10))
    waiting = [asyncio.ensure_future(services.releases.reader.refresh()) for _ in range(20)]
    await anyio.to_thread.run_sync(fake.wait_until, lambda: fake.stalled == 1)
    fake.release()
    assert len({change.document for change in await asyncio.gather(*waiting)}) == 1
    assert fake.hits[INDEX_PATH] == 1


async def test_the_traps_of_the_real_index_are_taken(services: Services, fake: FakeGodev) -> None:
    """Section 4.1 of the protocol notes: gaps, odd platforms, names that are no versions."""
    fake.put_file("go1.4-bootstrap-20171003.tar.gz", b"b", version="go1.4", os="4",
                  arch="bootstrap", kind="archive")  # fmt: skip
    fake.put_file("go1.9.2rc2.linux-armv6l.tar.gz", b"c")
    fake.put_file("go1.2.2.src.tar.gz", b"d", sha256="", size=0)
    fake.put_file("go1.3.darwin-amd64-osx10.8.tar.gz", b"e", version="go1.3", os="darwin",
                  arch="amd64", kind="archive")  # fmt: skip
    fake.put_file("go1.3.darwin-amd64-osx10.6.tar.gz", b"f", version="go1.3", os="darwin",
                  arch="amd64", kind="archive")  # fmt: skip
    assert len((await services.releases.reader.refresh()).added) == 5
    assert (await record_of(services, "go1.2.2.src.tar.gz")).file.sha256 is None
    assert (await record_of(services, "go1.9.2rc2.linux-armv6l.tar.gz")).stable is False


# F61: what is refused whole, and what is skipped.


def entry(**changes: Any) -> dict[str, Any]:
    made = {
        "filename": "go1.97.1.linux-amd64.tar.gz",
        "os": "linux",
        "arch": "amd64",
        "version": "go1.97.1",
        "sha256": "ab" * 32,
        "size": 1000,
        "kind": "archive",
    }
    made |= changes
    return {key: value for key, value in made.items() if value is not ...}


def document(*files: dict[str, Any], **changes: Any) -> bytes:
    release = {"version": "go1.97.1", "stable": True, "files": list(files)} | changes
    return json.dumps([{k: v for k, v in release.items() if v is not ...}]).encode()


GOOD = document(entry())
MALFORMED = {
    "not-json": b"<!DOCTYPE html><html></html>",
    "empty": b"",
    "no-releases": b"[]",
    "an-object": b"{}",
    "null": b"null",
    "not-utf8": GOOD.replace(b"linux", b"lin\xffx"),
    "truncated": GOOD[: len(GOOD) // 2],
    "all-but-the-last-byte": GOOD[:-1],
    "trailing": GOOD + b"]",
    "deep": b"[" * 100_000,
    "missing-sha256": document(entry(sha256=...)),
    "missing-size": document(entry(size=...)),
    "missing-filename": document(entry(filename=...)),
    "missing-files": document(files=...),
    "missing-version": document(entry(), version=...),
    "sha256-63": document(entry(sha256="a" * 63)),
    "sha256-65": document(entry(sha256="a" * 65)),
    "sha256-capitals": document(entry(sha256="AB" * 32)),
    "sha256-number": document(entry(sha256=5)),
    "sha256-null": document(entry(sha256=None)),
    "size-negative": document(entry(size=-1)),
    "size-fraction": document(entry(size=1.5)),
    "size-text": document(entry(size="1000")),
    "size-true": document(entry(size=True)),
    "size-huge": document(entry(size=1 << 63)),
    "filename-dots": document(entry(filename="../x")),
    "filename-slash": document(entry(filename="go1.97.1/linux-amd64.tar.gz")),
    "filename-empty": document(entry(filename="")),
    "filename-suffix": document(entry(filename="go1.97.1.linux-amd64.exe")),
    "filename-nul": document(entry(filename="go1.97.1.linux-amd64\0.tar.gz")),
    "kind-odd": document(entry(kind="virus")),
    "stable-text": document(entry(), stable="yes"),
    "two-hashes-of-a-file": document(entry(), entry(sha256="cd" * 32)),
}
GROWN = {
    "kind": entry(filename="go1.97.1.sbom.tar.gz", kind="sbom"),
    "filename": entry(filename="go1.97.1.linux-amd64.tar.zst"),
    "arch": entry(filename="go1.97.1.wasm.tar.gz", arch=None),
    "sha256": entry(filename="go1.97.1.src.tar.gz", sha256="a" * 63),
}


async def assert_refused(
    services: Services, before: dict[str, Any], error: type[errors.UpstreamError]
) -> errors.UpstreamError:
    """The old list is kept, the error is told and audited, served files are still served."""
    known = await index_document(services)
    read_at = (await services.releases.reader.status()).read_at
    with pytest.raises(errors.UpstreamError) as raised:
        await services.releases.reader.refresh()
    assert type(raised.value) is error, raised.value
    assert await records(services) == before
    status = await services.releases.reader.status()
    assert (status.document, status.error) == (known, str(raised.value))
    assert status.read_at == read_at
    assert status.tried_at is not None
    [row] = await audited(services, "index.fail")
    assert row.detail == str(raised.value)
    assert (await services.releases.ingestion.ensure(NAME)).served
    await assert_sound(services)
    return raised.value


@pytest.fixture
async def with_a_release(quick: Services, put_release: PutRelease) -> dict[str, Any]:
    put_release()
    await quick.releases.reader.refresh()
    await quick.releases.ingestion.ensure(NAME)
    return await records(quick)


@pytest.mark.parametrize("name", MALFORMED)
async def test_F61_a_malformed_index_is_refused_whole(
    name: str, quick: Services, fake: FakeGodev, with_a_release: dict[str, Any]
) -> None:
    blobs = stored(quick)
    before = count_of("moorage_index_refresh_total", outcome="refused")
    fake.set_index(MALFORMED[name])
    error = await assert_refused(quick, with_a_release, errors.UpstreamContentError)
    assert status_of(error) == 502
    assert stored(quick) == blobs
    assert count_of("moorage_index_refresh_total", outcome="refused") == before + 1
    fake.set_index(None)
    await quick.releases.reader.refresh()
    assert (await quick.releases.reader.status()).error == ""


@pytest.mark.parametrize("key", GROWN)
async def test_an_index_that_grew_is_taken_but_for_what_is_not_understood(
    key: str, quick: Services, fake: FakeGodev, capsys: pytest.CaptureFixture[str]
) -> None:
    before = count_of("moorage_index_skipped_total", key=key)
    fake.set_index(document(GROWN[key], entry(), GROWN[key]))
    change = await quick.releases.reader.refresh()
    assert (change.added, change.vanished) == ((entry()["filename"],), ())
    [skipped] = change.skipped
    assert (skipped.key, skipped.count) == (key, 2)
    assert skipped.first.startswith(f"[0].files[0].{key}")
    assert count_of("moorage_index_skipped_total", key=key) == before + 2
    [row] = await audited(quick, "index.accept")
    assert row.detail == f"1 new, 0 vanished, 0 conflicting files; skipped for {key}: 2"
    await quick.releases.reader.refresh()
    assert capsys.readouterr().out.count("index has more than is understood") == 1
    # The plan shows it also after a reading that failed.
    fake.fault(INDEX_PATH, Fault.status(404), times=None)
    plan, error = await quick.releases.sync.plan()
    assert (plan.skipped, bool(error)) == ((skipped,), True)


async def test_the_document_that_the_malformed_ones_are_made_of_is_good(
    quick: Services, fake: FakeGodev
) -> None:
    fake.set_index(GOOD)
    assert (await quick.releases.reader.refresh()).added == ("go1.97.1.linux-amd64.tar.gz",)


@pytest.mark.parametrize("framing", [Framing.LENGTH, Framing.CHUNKED, Framing.CLOSE])
async def test_F61_an_oversized_index_is_refused(
    framing: Framing, quick: Services, fake: FakeGodev, with_a_release: dict[str, Any]
) -> None:
    fake.fault(INDEX_PATH, Fault.oversized(MAX_INDEX_BYTES + 1, framing))
    await assert_refused(quick, with_a_release, errors.UpstreamContentError)


UNREACHABLE = {
    "404": (Fault.status(404), errors.UpstreamAbsentError, 502),
    "403": (Fault.status(403), errors.UpstreamRefusedError, 502),
    "500": (Fault.status(500), errors.UpstreamUnavailableError, 503),
    "429": (Fault.status(429), errors.UpstreamUnavailableError, 503),
    "reset": (Fault.reset(after=10), errors.UpstreamUnavailableError, 503),
    "truncated": (Fault.truncate(after="half"), errors.UpstreamContentError, 502),
    "truncated-chunks": (Fault.truncate_chunked(after="half"), errors.UpstreamContentError, 502),
    "truncated-unframed": (Fault.truncate_unframed(after="half"), errors.UpstreamContentError, 502),
    "html": (Fault.html_200(), errors.UpstreamContentError, 502),
    "empty": (Fault.empty_200(), errors.UpstreamContentError, 502),
    "loop": (Fault.redirect_loop(), errors.UpstreamContentError, 502),
    "206": (Fault.partial_206(), errors.UpstreamContentError, 502),
    "huge-header": (Fault.huge_header(), errors.UpstreamContentError, 502),
}


@pytest.mark.parametrize("name", UNREACHABLE)
async def test_an_index_that_can_t_be_had_leaves_the_old_one(
    name: str, quick: Services, fake: FakeGodev, with_a_release: dict[str, Any]
) -> None:
    fault, error, status = UNREACHABLE[name]
    fake.fault(INDEX_PATH, fault, times=None)
    assert status_of(await assert_refused(quick, with_a_release, error)) == status


async def test_an_index_server_that_is_down_leaves_the_old_index(
    quick: Services, fake: FakeGodev, with_a_release: dict[str, Any]
) -> None:
    fake.stop()
    await assert_refused(quick, with_a_release, errors.UpstreamUnavailableError)


async def test_the_same_failure_is_audited_once(
    quick: Services, fake: FakeGodev, with_a_release: dict[str, Any]
) -> None:
    fake.set_index(b"[]")
    for _ in range(3):
        with pytest.raises(errors.UpstreamContentError):
            await quick.releases.reader.refresh()
    fake.set_index(b"{}")
    with pytest.raises(errors.UpstreamContentError):
        await quick.releases.reader.refresh()
    assert len(await audited(quick, "index.fail")) == 2


async def test_an_index_that_was_never_read_is_an_error_and_no_empty_list(
    quick: Services, fake: FakeGodev
) -> None:
    fake.fault(INDEX_PATH, Fault.status(404), times=None)
    with pytest.raises(errors.UpstreamAbsentError):
        await quick.releases.reader.refresh()
    status = await quick.releases.reader.status()
    assert (status.read_at, status.document) == (None, None)
    assert status.error


# F62: contradictions, losses, returns.

CHANGED: dict[str, Callable[[FakeGodev, bytes], str]] = {
    "hash": lambda fake, data: fake.put_file(NAME, data, sha256="ab" * 32),
    "size": lambda fake, data: fake.put_file(NAME, data, size=len(data) + 1),
    "hash-and-bytes": lambda fake, data: fake.put_file(NAME, data + b"evil"),
    "hash-gone": lambda fake, data: fake.put_file(NAME, data, sha256=""),
    "size-gone": lambda fake, data: fake.put_file(NAME, data, size=0),
}


@pytest.mark.parametrize("ingested", [True, False], ids=["served", "known"])
@pytest.mark.parametrize("name", CHANGED)
async def test_F62_a_changed_hash_or_size_is_refused_and_kept_as_evidence(
    name: str, ingested: bool, quick: Services, fake: FakeGodev, put_release: PutRelease
) -> None:
    data = put_release()
    await quick.releases.reader.refresh()
    if ingested:
        await quick.releases.ingestion.ensure(NAME)
    before, counted = await record_of(quick), count_of("moorage_index_conflicts_total")
    seen_sha256 = CHANGED[name](fake, data)

    change = await quick.releases.reader.refresh()

    assert await record_of(quick) == before
    [conflict] = change.conflicts
    assert (conflict.filename, conflict.index) == (NAME, change.document)
    assert (conflict.recorded_sha256, conflict.recorded_size_bytes) == (sha256(data), len(data))
    assert conflict.seen_sha256 == seen_sha256
    assert await quick.shared.db.read(lambda s: IndexLog(s).conflicts(NAME)) == [conflict]
    [row] = await audited(quick, "index.conflict")
    assert row.object == NAME
    assert sha256(data) in row.detail
    assert seen_sha256 in row.detail
    assert count_of("moorage_index_conflicts_total") == counted + 1
    evidence = await quick.shared.store.read(change.document, max_bytes=MAX_INDEX_BYTES)
    assert NAME.encode() in evidence
    entry = await quick.releases.catalog.file(NAME)
    assert entry is not None
    assert entry[1] == [conflict]

    # A second reading alarms again but keeps the evidence once.
    await quick.releases.reader.refresh()
    assert len(await quick.shared.db.read(lambda s: IndexLog(s).conflicts())) == 1
    assert len(await audited(quick, "index.conflict")) == 1
    assert count_of("moorage_index_conflicts_total") == counted + 2

    if ingested:
        assert await body_of(quick, await quick.releases.ingestion.ensure(NAME)) == data
    await assert_sound(quick)


async def test_F62_bytes_that_fit_the_new_hash_are_refused_by_the_recorded_one(
    quick: Services, fake: FakeGodev, put_release: PutRelease
) -> None:
    data = put_release()
    await quick.releases.reader.refresh()
    evil = go_archive(seed=1)
    fake.put_file(NAME, evil + b"\0" * (len(data) - len(evil)))
    await quick.releases.reader.refresh()
    with pytest.raises((errors.VerificationError, errors.UpstreamContentError)):
        await quick.releases.ingestion.ensure(NAME)
    assert not (await record_of(quick)).served


async def test_F62_every_different_claim_is_evidence_of_its_own(
    quick: Services, fake: FakeGodev, put_release: PutRelease
) -> None:
    data = put_release()
    await quick.releases.reader.refresh()
    for claim in ("ab" * 32, "cd" * 32, "ab" * 32):
        fake.put_file(NAME, data, sha256=claim)
        await quick.releases.reader.refresh()
    kept = await quick.shared.db.read(lambda s: IndexLog(s).conflicts(NAME))
    assert [conflict.seen_sha256 for conflict in kept] == ["ab" * 32, "cd" * 32]
    assert len(await audited(quick, "index.conflict")) == 2
    fake.put_file(NAME, data)
    assert (await quick.releases.reader.refresh()).conflicts == ()


async def test_F62_a_contradicted_file_does_not_keep_new_files_out(
    quick: Services, fake: FakeGodev, put_release: PutRelease
) -> None:
    data = put_release()
    await quick.releases.reader.refresh()
    fake.put_file(NAME, data, sha256="ab" * 32)
    put_release("go1.98.1")
    assert (await quick.releases.reader.refresh()).added == (OTHER,)


async def test_F62_a_vanished_file_stays_served_and_may_come_back(
    services: Services, fake: FakeGodev, put_release: PutRelease
) -> None:
    data = put_release()
    put_release("go1.98.1")
    await services.releases.reader.refresh()
    before = await services.releases.ingestion.ensure(NAME)
    fake.remove(NAME)
    change = await services.releases.reader.refresh()
    assert change.vanished == (NAME,)
    record = await services.releases.ingestion.ensure(NAME)
    assert (record.listed, record.state) == (False, FileState.VERIFIED)
    assert await body_of(services, record) == data
    assert NAME in {
        r.file.filename for r in (await services.releases.catalog.current(fresh=True)).offered
    }
    assert (await services.releases.reader.refresh()).vanished == ()  # told once

    put_release()
    change = await services.releases.reader.refresh()
    assert (change.added, change.conflicts) == ((), ())
    assert await record_of(services) == before


async def test_F62_a_vanished_file_that_was_never_fetched_is_no_longer_offered(
    services: Services, fake: FakeGodev, put_release: PutRelease
) -> None:
    put_release()
    put_release("go1.98.1")
    await services.releases.reader.refresh()
    fake.remove(NAME)
    await services.releases.reader.refresh()
    catalog = await services.releases.catalog.current(fresh=True)
    assert [r.file.filename for r in catalog.offered] == [OTHER]


async def test_a_file_that_is_not_understood_any_more_is_fetched_by_its_recorded_hash(
    quick: Services, fake: FakeGodev, signer: Signer, put_release: PutRelease
) -> None:
    data = put_release()
    put_release("go1.98.1")
    await quick.releases.reader.refresh()
    signature = signer.sign(data)
    fake.put_file(NAME, data, signature=signature, kind="bundle", sha256="ab" * 32)
    change = await quick.releases.reader.refresh()
    assert change.vanished == (NAME,)
    assert {s.key for s in change.skipped} == {"kind", "files"}
    record = await quick.releases.ingestion.ensure(NAME)
    assert record.file.sha256 == Digest.of(data)
    assert await body_of(quick, record) == data


async def test_F62_a_vanished_file_that_returns_with_another_hash_is_refused(
    services: Services, fake: FakeGodev, put_release: PutRelease
) -> None:
    data = put_release()
    put_release("go1.98.1")
    await services.releases.reader.refresh()
    fake.remove(NAME)
    await services.releases.reader.refresh()
    fake.put_file(NAME, data + b"evil")
    assert len((await services.releases.reader.refresh()).conflicts) == 1
    record = await record_of(services)
    assert record.file.sha256 == Digest.of(data)


@pytest.mark.parametrize("gap", [{"sha256": ""}, {"size": 0}, {"sha256": "", "size": 0}])
async def test_a_hash_filled_in_later_is_accepted(
    gap: dict[str, Any], services: Services, fake: FakeGodev, put_release: PutRelease
) -> None:
    data = put_release()
    fake.put_file(NAME, data, **gap)
    await services.releases.reader.refresh()
    with pytest.raises(errors.DeniedError):
        await services.releases.ingestion.ensure(NAME)
    put_release()
    change = await services.releases.reader.refresh()
    assert change.conflicts == ()
    record = await record_of(services)
    assert (record.file.sha256, record.index) == (Digest.of(data), change.document)
    assert await body_of(services, await services.releases.ingestion.ensure(NAME)) == data
    assert fake.hits[PATH] == 1


async def test_a_reading_that_can_t_be_recorded_changes_nothing(
    services: Services, put_release: PutRelease
) -> None:
    put_release()
    with (
        refused(services.shared.db, "INSERT INTO release_files", "no more rows"),
        pytest.raises(errors.ConflictError, match="no more rows"),
    ):
        await services.releases.reader.refresh()
    assert await records(services) == {}
    assert (await services.releases.reader.status()).document is None
    assert await audited(services, "index.accept") == []
    assert len((await services.releases.reader.refresh()).added) == 1
