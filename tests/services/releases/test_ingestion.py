"""Ingestion as it should go: states, policy, sharing of one fetch, adoption, memory of failures."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import anyio.to_thread
import pytest
from sqlalchemy import text

from app.core import errors
from app.core.digest import Digest
from app.core.gorelease import ReleaseFileKind
from app.core.releasefile import FileState
from app.db.engine import Session, make_engine
from app.db.leases import LeaseTable
from app.db.postgresql import WITHOUT_LIMITS
from app.db.sqlite import is_sqlite
from app.services.assembly import Services
from app.services.releases.derive import read_contents
from app.services.releases.policy import Progress
from app.storage.local import LocalBlobStore
from app.web.responses import status_of
from tests.conftest import MakeServices, MakeSettings, PutRelease
from tests.fakes.archives import archive_name, go_archive, source_name, src_archive
from tests.fakes.faults import Fault, FaultKind, Reply, rope
from tests.fakes.godev import FakeGodev
from tests.fakes.signer import Signer
from tests.installation import running
from tests.services.bench import (
    NAME,
    PATH,
    Stopwatch,
    WallClock,
    assert_nothing_kept,
    assert_sound,
    audited,
    blob_path,
    body_of,
    count_of,
    flipped,
    index_document,
    record_of,
    records,
    run_sql,
    spoil,
    staged,
    stored,
)
from tests.services.conftest import Rewire

ZIP = archive_name("go1.99.1", "windows")


async def until_stalled(fake: FakeGodev) -> None:
    await anyio.to_thread.run_sync(fake.wait_until, lambda: fake.stalled == 1)


@contextmanager
def locked(services: Services) -> Iterator[None]:
    """Hold the write lock from elsewhere; the services' writer waits 50 ms for it, not 5 s."""
    if is_sqlite(services.shared.db.url):
        with services.shared.db.engine.connect() as own:
            own.exec_driver_sql("PRAGMA busy_timeout=50")
    other = make_engine(services.shared.db.url)
    try:
        with other.execution_options(**{WITHOUT_LIMITS: True}).begin():
            yield
    finally:
        other.dispose()


async def test_a_signed_archive_is_verified_and_everything_about_it_is_recorded(
    services: Services, fake: FakeGodev, put_release: PutRelease, signer: Signer
) -> None:
    data = put_release()
    await services.releases.reader.refresh()
    record = await services.releases.ingestion.ensure(NAME, actor="token:1f2e3d4c")

    assert record == await record_of(services)
    assert (record.state, record.reason, record.served) == (FileState.VERIFIED, "", True)
    assert (record.has_bytes, record.damaged, record.listed, record.stable) == (
        True, False, True, True,
    )  # fmt: skip
    assert record.file.sha256 == Digest.of(data)
    assert record.source_url == fake.files_url + NAME
    assert record.index == await index_document(services)
    assert record.ingested_at is not None
    assert record.signature is not None
    assert record.signature.startswith(b"-----BEGIN PGP SIGNATURE-----")
    verdict = record.verdict
    assert verdict is not None
    assert (verdict.accepted, verdict.reason) == (True, "good")
    assert (verdict.subkey, verdict.primary) == (signer.current, signer.primary)
    assert verdict.signed_at is not None
    assert verdict.signed_at.isoformat() == "2020-06-01T00:00:00+00:00"
    assert verdict.keyring == Digest.of(signer.export)
    assert verdict.gpg_version == services.releases.gpg.version
    assert await body_of(services, record) == data
    [row] = await audited(services, "release.verified")
    assert (row.actor, row.object) == ("token:1f2e3d4c", NAME)
    await assert_sound(services)


async def test_the_toolchain_identity_of_an_archive_is_stored(
    services: Services, put_release: PutRelease, tmp_path: Path
) -> None:
    data = put_release()
    await services.releases.reader.refresh()
    record = await services.releases.ingestion.ensure(NAME)
    path = tmp_path / NAME
    path.write_bytes(data)
    assert record.toolchain == read_contents(record.file, path).toolchain
    assert record.toolchain is not None
    assert record.toolchain.version == "v0.0.1-go1.99.1.linux-amd64"
    assert record.toolchain.h1.startswith("h1:")


async def test_a_source_archive_has_no_toolchain_identity(
    services: Services, fake: FakeGodev, signer: Signer
) -> None:
    data = src_archive()
    fake.put_file(source_name("go1.99.1"), data, signature=signer.sign(data))
    await services.releases.reader.refresh()
    record = await services.releases.ingestion.ensure(source_name("go1.99.1"))
    assert (record.file.kind, record.state) == (ReleaseFileKind.SOURCE, FileState.VERIFIED)
    assert record.toolchain is None


async def test_signed_bytes_that_are_no_archive_are_served_without_a_toolchain_identity(
    services: Services, fake: FakeGodev, signer: Signer
) -> None:
    data = b"upstream's own bytes all the same"
    fake.put_file(NAME, data, signature=signer.sign(data))
    await services.releases.reader.refresh()
    record = await services.releases.ingestion.ensure(NAME)
    assert (record.state, record.toolchain) == (FileState.VERIFIED, None)


async def test_a_name_that_no_index_has_is_unknown(services: Services, fake: FakeGodev) -> None:
    fake.put_file(NAME, go_archive())
    await services.releases.reader.refresh()
    with pytest.raises(errors.UnknownError) as raised:
        await services.releases.ingestion.ensure("go1.98.1.linux-amd64.tar.gz")
    assert status_of(raised.value) == 404
    assert [path for path in fake.hits if path.startswith("/go/")] == []


async def test_a_second_call_asks_nobody(
    services: Services, fake: FakeGodev, put_release: PutRelease
) -> None:
    put_release()
    await services.releases.reader.refresh()
    first = await services.releases.ingestion.ensure(NAME)
    fake.forget()
    assert await services.releases.ingestion.ensure(NAME) == first
    assert fake.hits == {}
    assert len(await audited(services, "release.verified")) == 1


# Policy by suffix: what upstream signs, what settings allow without.


def put_zip(fake: FakeGodev) -> bytes:
    data = go_archive("go1.99.1", "windows")
    fake.put_file(ZIP, data)
    return data


async def test_a_zip_is_offered_on_its_sha256_by_default_and_no_signature_is_asked_for(
    services: Services, fake: FakeGodev
) -> None:
    data = put_zip(fake)
    await services.releases.reader.refresh()
    record = await services.releases.ingestion.ensure(ZIP)
    assert (record.state, record.verdict, record.signature) == (FileState.SHA256_ONLY, None, None)
    assert record.toolchain is not None
    assert record.toolchain.version == "v0.0.1-go1.99.1.windows-amd64"
    assert await body_of(services, record) == data
    assert fake.hits[f"/go/{ZIP}.asc"] == 0


@pytest.mark.parametrize("suffix", ["zip", "msi", "pkg"])
async def test_a_suffix_that_settings_leave_out_is_denied_and_not_fetched(
    suffix: str, start_services: MakeServices, fake: FakeGodev
) -> None:
    name = f"go1.99.1.windows-amd64.{suffix}"
    fake.put_file(name, b"content")
    others = [one for one in ("zip", "msi", "pkg") if one != suffix]
    services = await start_services(releases={"sha256_only": others})
    await services.releases.reader.refresh()
    for forced in (False, True):
        with pytest.raises(errors.DeniedError, match=r"SHA256_ONLY") as raised:
            await services.releases.ingestion.ensure(name, forced=forced)
        assert status_of(raised.value) == 403
    assert fake.hits[f"/go/{name}"] == 0
    await assert_nothing_kept(services, name)


async def test_a_file_whose_suffix_settings_leave_out_later_is_denied_until_they_allow_it_again(
    start_services: MakeServices, make_settings: MakeSettings, fake: FakeGodev
) -> None:
    data = put_zip(fake)
    services = await start_services(make_settings())
    await services.releases.reader.refresh()
    await services.releases.ingestion.ensure(ZIP)
    stricter = await start_services(make_settings(releases={"sha256_only": []}))
    with pytest.raises(errors.DeniedError, match="SHA256_ONLY"):
        await stricter.releases.ingestion.ensure(ZIP)
    assert await stricter.releases.ingestion.judge_again() == []
    assert (await stricter.releases.catalog.current(fresh=True)).offered == ()
    again = await start_services(make_settings())
    assert await body_of(again, await again.releases.ingestion.ensure(ZIP)) == data
    assert fake.hits[f"/go/{ZIP}"] == 1
    await assert_sound(again)


async def test_an_unsigned_tar_gz_is_held_back_again_when_settings_ask_for_signatures(
    start_services: MakeServices,
    make_settings: MakeSettings,
    fake: FakeGodev,
    put_release: PutRelease,
    signer: Signer,
) -> None:
    data = put_release(signed=False)
    lenient = await start_services(make_settings(releases={"sha256_only": ["tar.gz"]}))
    await lenient.releases.reader.refresh()
    assert (await lenient.releases.ingestion.ensure(NAME)).state == FileState.SHA256_ONLY
    strict = await start_services(make_settings())
    assert (await strict.releases.catalog.current(fresh=True)).offered == ()
    with pytest.raises(errors.NotYetError, match="no signature"):
        await strict.releases.ingestion.ensure(NAME)
    fake.set_signature(NAME, signer.sign(data))
    record = await strict.releases.ingestion.ensure(NAME)
    assert (record.state, fake.hits[PATH]) == (FileState.VERIFIED, 1)
    assert await body_of(strict, record) == data


async def test_an_unsigned_tar_gz_is_pending_by_default(
    services: Services, put_release: PutRelease
) -> None:
    put_release(signed=False)
    await services.releases.reader.refresh()
    with pytest.raises(errors.NotYetError, match="no signature") as raised:
        await services.releases.ingestion.ensure(NAME)
    assert status_of(raised.value) == 503
    record = await record_of(services)
    assert (record.state, record.has_bytes) == (FileState.PENDING_SIGNATURE, True)
    assert not record.served


@pytest.fixture
async def lenient(start_services: MakeServices, rewire: Rewire) -> AsyncIterator[Services]:
    """Services whose settings offer tar.gz files on their SHA-256 where no signature exists."""
    yield rewire(await start_services(releases={"sha256_only": ["tar.gz", "zip"]}))


async def test_an_unsigned_tar_gz_is_offered_where_settings_say_so(
    lenient: Services, put_release: PutRelease
) -> None:
    data = put_release(signed=False)
    await lenient.releases.reader.refresh()
    record = await lenient.releases.ingestion.ensure(NAME)
    assert (record.state, record.verdict) == (FileState.SHA256_ONLY, None)
    assert await body_of(lenient, record) == data


async def test_a_signature_that_exists_is_checked_even_where_settings_could_do_without(
    lenient: Services, fake: FakeGodev, put_release: PutRelease, signer: Signer
) -> None:
    put_release()
    await lenient.releases.reader.refresh()
    fake.set_signature(NAME, signer.sign(b"another file"))
    with pytest.raises(errors.VerificationError):
        await lenient.releases.ingestion.ensure(NAME)
    assert (await record_of(lenient)).state == FileState.QUARANTINED


async def test_a_signature_that_could_not_be_fetched_is_not_taken_for_an_absent_one(
    lenient: Services, fake: FakeGodev, put_release: PutRelease
) -> None:
    put_release(signed=False)
    await lenient.releases.reader.refresh()
    fake.fault(f"{PATH}.asc", Fault.status(500), times=None)
    with pytest.raises(errors.NotYetError, match="could not be fetched"):
        await lenient.releases.ingestion.ensure(NAME)
    fake.clear_faults()
    assert (await lenient.releases.ingestion.ensure(NAME)).state == FileState.SHA256_ONLY
    assert fake.hits[PATH] == 1


@pytest.mark.parametrize("lie", [{"sha256": ""}, {"size": 0}, {"sha256": "", "size": 0}])
async def test_a_file_without_hash_or_size_in_the_index_is_denied(
    lie: dict[str, object], services: Services, fake: FakeGodev
) -> None:
    fake.put_file(NAME, go_archive(), **lie)  # type: ignore[arg-type]
    await services.releases.reader.refresh()
    for forced in (False, True):
        with pytest.raises(errors.DeniedError, match="can't be verified"):
            await services.releases.ingestion.ensure(NAME, forced=forced)
    assert fake.hits[PATH] == 0
    await assert_nothing_kept(services)


async def test_without_on_demand_only_what_was_asked_for_is_fetched(
    start_services: MakeServices, fake: FakeGodev, put_release: PutRelease
) -> None:
    data = put_release()
    services = await start_services(releases={"select": {"on_demand": False}})
    await services.releases.reader.refresh()
    with pytest.raises(errors.DeniedError, match="does not fetch on demand"):
        await services.releases.ingestion.ensure(NAME)
    assert fake.hits[PATH] == 0
    assert (await services.releases.ingestion.ensure(NAME, forced=True)).served
    record = await services.releases.ingestion.ensure(NAME)
    assert await body_of(services, record) == data


async def test_without_on_demand_a_damaged_file_is_repaired_all_the_same(
    start_services: MakeServices, put_release: PutRelease
) -> None:
    put_release()
    services = await start_services(releases={"select": {"on_demand": False}})
    await services.releases.reader.refresh()
    record = await services.releases.ingestion.ensure(NAME, forced=True)
    assert record.file.sha256 is not None
    await services.upkeep.repair.damaged(record.file.sha256, "test", fetch=False)
    assert (await services.releases.ingestion.ensure(NAME)).damaged is False


# Failures are remembered for a while.


async def test_a_failure_is_answered_from_memory_for_a_while(
    services: Services, rewire: Rewire, fake: FakeGodev, put_release: PutRelease
) -> None:
    data = put_release()
    clock = Stopwatch()
    quick = rewire(services, monotonic=clock, retry_failed_s=30)
    await quick.releases.reader.refresh()
    fake.fault(PATH, Fault.status(404), times=1)
    with pytest.raises(errors.UpstreamError) as first:
        await quick.releases.ingestion.ensure(NAME)
    for clock.seconds in (1000.0, 1029.9):
        with pytest.raises(errors.UpstreamError) as again:
            await quick.releases.ingestion.ensure(NAME)
        assert str(again.value) == str(first.value)
    assert fake.hits[PATH] == 1
    clock.seconds = 1030.0
    assert await body_of(quick, await quick.releases.ingestion.ensure(NAME)) == data


async def test_a_remembered_failure_does_not_stop_who_asks_for_the_file_on_purpose(
    services: Services, rewire: Rewire, fake: FakeGodev, put_release: PutRelease
) -> None:
    put_release()
    quick = rewire(services, monotonic=Stopwatch(), retry_failed_s=30)
    await quick.releases.reader.refresh()
    fake.fault(PATH, Fault.status(404), times=1)
    with pytest.raises(errors.UpstreamError):
        await quick.releases.ingestion.ensure(NAME)
    assert (await quick.releases.ingestion.ensure(NAME, forced=True)).served
    assert (await quick.releases.ingestion.ensure(NAME)).served


# One fetch for all who wait.


async def test_F38_concurrent_requests_cause_one_download(
    services: Services, fake: FakeGodev, put_release: PutRelease
) -> None:
    data = put_release()
    await services.releases.reader.refresh()
    records = await asyncio.gather(*(services.releases.ingestion.ensure(NAME) for _ in range(50)))
    assert {record.state for record in records} == {FileState.VERIFIED}
    assert (fake.hits[PATH], fake.hits[f"{PATH}.asc"]) == (1, 1)
    assert await body_of(services, records[0]) == data


async def test_a_failure_reaches_all_who_wait(
    quick: Services, fake: FakeGodev, put_release: PutRelease
) -> None:
    put_release()
    await quick.releases.reader.refresh()
    held = Fault(FaultKind.STATUS, lambda *_: Reply(404, {}, rope(b""), hold_head=True))
    fake.fault(PATH, held, times=1)
    waiting = [asyncio.ensure_future(quick.releases.ingestion.ensure(NAME)) for _ in range(20)]
    while sum(quick.releases.ingestion._flight._waiters.values()) < len(waiting):
        await asyncio.sleep(0.01)
    await until_stalled(fake)
    fake.release()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert {type(result) for result in results} == {errors.UpstreamError}
    assert fake.hits[PATH] == 1
    assert (await quick.releases.ingestion.ensure(NAME)).served


async def test_F36_a_fetch_goes_on_when_everybody_who_waited_has_gone(
    services: Services, fake: FakeGodev, put_release: PutRelease
) -> None:
    data = put_release()
    await services.releases.reader.refresh()
    fake.fault(PATH, Fault.stall(after="half"))
    waiting = [asyncio.ensure_future(services.releases.ingestion.ensure(NAME)) for _ in range(3)]
    await until_stalled(fake)
    for one in waiting:
        one.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert all(one.cancelled() for one in waiting)
    fake.release()
    record = await services.releases.ingestion.ensure(NAME)
    assert await body_of(services, record) == data
    assert fake.hits[PATH] == 1


async def test_F37_the_first_caller_takes_nobody_with_it(
    services: Services, fake: FakeGodev, put_release: PutRelease
) -> None:
    put_release()
    await services.releases.reader.refresh()
    fake.fault(PATH, Fault.stall(after="half"))
    leader, *others = [
        asyncio.ensure_future(services.releases.ingestion.ensure(NAME)) for _ in range(10)
    ]
    await until_stalled(fake)
    leader.cancel()
    await asyncio.gather(leader, return_exceptions=True)
    fake.release()
    assert {record.state for record in await asyncio.gather(*others)} == {FileState.VERIFIED}
    assert fake.hits[PATH] == 1


async def test_F39_more_waiters_and_more_files_than_settings_allow_are_turned_away(
    start_services: MakeServices, fake: FakeGodev, put_release: PutRelease
) -> None:
    put_release()
    put_release("go1.98.1")
    services = await start_services(limits={"waiters_per_key": 3, "cold_queue": 1})
    await services.releases.reader.refresh()
    fake.fault(PATH, Fault.stall(after="half"))
    waiting = [asyncio.ensure_future(services.releases.ingestion.ensure(NAME)) for _ in range(3)]
    await until_stalled(fake)
    for name in (NAME, archive_name("go1.98.1")):
        with pytest.raises(errors.OverloadedError) as raised:
            await services.releases.ingestion.ensure(name)
        assert status_of(raised.value) == 503
        assert raised.value.retry_after_s > 0
    fake.release()
    assert all(record.served for record in await asyncio.gather(*waiting))
    assert (await services.releases.ingestion.ensure(archive_name("go1.98.1"))).served


async def test_no_more_downloads_run_at_once_than_settings_allow(
    start_services: MakeServices, fake: FakeGodev, put_release: PutRelease
) -> None:
    names = [archive_name(f"go1.{minor}.1") for minor in (96, 97, 98, 99)]
    for name in names:
        put_release(name.partition(".linux")[0])
        fake.fault(f"/go/{name}", Fault.stall(after="half"))
    services = await start_services(releases={"parallel": 2})
    await services.releases.reader.refresh()
    waiting = [asyncio.ensure_future(services.releases.ingestion.ensure(name)) for name in names]
    await anyio.to_thread.run_sync(fake.wait_until, lambda: fake.stalled == 2)
    while services.releases.ingestion._places._total < 4:  # two wait for a slot
        await asyncio.sleep(0.001)
    assert sum(fake.hits[f"/go/{name}"] for name in names) == 2
    fake.release()
    await anyio.to_thread.run_sync(fake.wait_until, lambda: sum(fake.hits.values()) >= 5)
    fake.clear_faults()
    while not all(one.done() for one in waiting):
        fake.release()
        await asyncio.sleep(0.02)
    assert all(record.served for record in await asyncio.gather(*waiting))


async def test_whoever_waits_for_a_slot_holds_no_lease_and_clients_get_slots_in_turn(
    start_services: MakeServices, fake: FakeGodev, put_release: PutRelease
) -> None:
    names = [archive_name(f"go1.{minor}.1") for minor in range(90, 97)]
    for name in names:
        put_release(name.partition(".linux")[0])
    fake.fault(f"/go/{names[0]}", Fault.delay_headers_until_released())
    services = await start_services(releases={"parallel": 1})
    await services.releases.reader.refresh()
    ingestion = services.releases.ingestion
    asked_for = [(name, "10.0.0.1") for name in names[:5]]
    # The second address asks for a file of the first one's queue, and for one of its own.
    asked_for += [(names[4], "10.0.0.2"), (names[5], "10.0.0.2"), (names[6], "10.0.0.3")]
    order: list[str] = []

    async def ask(name: str, client: str) -> None:
        await ingestion.ensure(name, client=client)
        if name not in order:
            order.append(name)

    waiting = []
    for name, client in asked_for:
        waiting.append(asyncio.ensure_future(ask(name, client)))
        if name == names[0]:
            await anyio.to_thread.run_sync(fake.wait_until, lambda: fake.stalled == 1)
            continue
        while name not in ingestion._queued or client not in ingestion._queued[name].clients:
            await asyncio.sleep(0.001)
    leases = "select count(*) from leases where name like 'ingest:%'"
    assert await services.shared.db.read(lambda s: s.execute(text(leases)).scalar_one()) == 1
    fake.release()
    await asyncio.gather(*waiting)
    assert order == [names[n] for n in (0, 1, 4, 6, 2, 5, 3)]
    assert not ingestion._queued
    assert not ingestion._places._by_tenant


async def test_when_the_queue_is_full_another_address_still_has_its_part(
    start_services: MakeServices, fake: FakeGodev, put_release: PutRelease
) -> None:
    names = [archive_name(f"go1.{minor}.1") for minor in range(90, 96)]
    for name in names:
        put_release(name.partition(".linux")[0])
    fake.fault(f"/go/{names[0]}", Fault.delay_headers_until_released())
    services = await start_services(releases={"parallel": 1}, limits={"cold_queue": 4})
    await services.releases.reader.refresh()
    ingestion = services.releases.ingestion
    waiting = [asyncio.ensure_future(ingestion.ensure(names[0], client="10.0.0.1"))]
    await anyio.to_thread.run_sync(fake.wait_until, lambda: fake.stalled == 1)
    waiting += [
        asyncio.ensure_future(ingestion.ensure(name, client="10.0.0.1")) for name in names[1:4]
    ]
    while ingestion._places._total < 4:
        await asyncio.sleep(0.001)
    with pytest.raises(errors.OverloadedError):
        await ingestion.ensure(names[4], client="10.0.0.1")
    other = asyncio.ensure_future(ingestion.ensure(names[5], client="10.0.0.2"))
    while ingestion._places._total < 5:
        await asyncio.sleep(0.001)
    fake.release()
    assert all(record.served for record in await asyncio.gather(*waiting, other))
    # A refusal for want of a place is not remembered as a failure of the file.
    assert (await ingestion.ensure(names[4], client="10.0.0.1")).served


async def test_two_processes_on_one_data_directory_cause_one_download(
    make_settings: MakeSettings,
    start_services: MakeServices,
    fake: FakeGodev,
    put_release: PutRelease,
) -> None:
    data = put_release()
    settings = make_settings()
    first, second = await start_services(settings), await start_services(settings)
    await first.releases.reader.refresh()
    records = await asyncio.gather(
        *(process.releases.ingestion.ensure(NAME) for _ in range(20) for process in (first, second))
    )
    assert {record.state for record in records} == {FileState.VERIFIED}
    assert (fake.hits[PATH], fake.hits[f"{PATH}.asc"]) == (1, 1)
    assert [await body_of(one, records[0]) for one in (first, second)] == [data, data]
    assert len(await audited(first, "release.verified")) == 1
    await assert_sound(first)


# What crashes leave, and what a shutdown does.


async def test_F91_a_blob_without_a_row_is_adopted_instead_of_downloaded(
    services: Services, fake: FakeGodev, put_release: PutRelease
) -> None:
    data = put_release()
    await services.releases.reader.refresh()
    await services.shared.store.put(data)
    record = await services.releases.ingestion.ensure(NAME)
    assert record.state == FileState.VERIFIED
    assert fake.hits[PATH] == 0
    assert record.source_url is None
    assert await body_of(services, record) == data
    await assert_sound(services)


@pytest.mark.parametrize("worsen", [lambda d: d[:-1], flipped], ids=["short", "flipped"])
async def test_F91_a_bad_blob_without_a_row_is_not_adopted(
    worsen: Callable[[bytes], bytes], services: Services, fake: FakeGodev, put_release: PutRelease
) -> None:
    data = put_release()
    await services.releases.reader.refresh()
    digest = await services.shared.store.put(data)
    spoil(blob_path(services, digest), worsen(data))
    record = await services.releases.ingestion.ensure(NAME)
    assert fake.hits[PATH] == 1
    assert await body_of(services, record) == data


async def test_F94_a_database_locked_at_the_end_leaves_an_orphan_that_a_retry_adopts(
    make_settings: MakeSettings,
    start_services: MakeServices,
    fake: FakeGodev,
    put_release: PutRelease,
) -> None:
    data = put_release()
    settings = make_settings(database={"lock_s": 1})
    await (await start_services(settings)).releases.reader.refresh()
    clock = WallClock()
    async with running(settings, clock) as services:
        fake.fault(PATH, Fault.stall(after="half"))
        waiting = asyncio.ensure_future(services.releases.ingestion.ensure(NAME))
        await until_stalled(fake)
        with locked(services):
            fake.release()
            with pytest.raises(errors.DatabaseBusyError) as raised:
                await waiting
            assert status_of(raised.value) == 503
            record = await record_of(services)
            assert (record.state, record.has_bytes) == (FileState.KNOWN, False)
            assert staged(services) == []
            assert Digest.of(data) in stored(services)  # durable before its row
        clock.advance(seconds=20)  # the lease could not be let go either; it has run out now
        if not is_sqlite(services.shared.db.url):  # whose own clock stays
            await run_sql(services, "UPDATE leases SET expires_at = expires_at - interval '20 s'")
        record = await services.releases.ingestion.ensure(NAME)
        assert await body_of(services, record) == data
        assert fake.hits[PATH] == 1
        await assert_sound(services)


async def test_F93_a_lease_that_was_lost_during_the_download_records_nothing(
    services: Services, fake: FakeGodev, put_release: PutRelease
) -> None:
    """Another process took over and is not done: its result counts, whatever it will be."""
    data = put_release()
    await services.releases.reader.refresh()
    before = await record_of(services)
    fake.fault(PATH, Fault.stall(after="half"))
    waiting = asyncio.ensure_future(services.releases.ingestion.ensure(NAME))
    await until_stalled(fake)
    later = services.shared.now() + timedelta(hours=1)

    def take_over(session: Session) -> int | None:
        name = f"ingest:{NAME}"
        table = LeaseTable(session)
        return table.acquire(name, "elsewhere/1/1", later, timedelta(hours=1), dead_owner=None)

    assert await services.shared.db.write(take_over) is not None
    fake.release()
    with pytest.raises(errors.NotYetError, match="it is being fetched"):
        await waiting
    assert await record_of(services) == before
    assert await audited(services, "release.verified") == []
    assert Digest.of(data) in stored(services)  # durable: the other process adopts it
    assert staged(services) == []


async def test_F97_closing_cancels_a_download_and_leaves_nothing_staged(
    make_settings: MakeSettings,
    start_services: MakeServices,
    fake: FakeGodev,
    put_release: PutRelease,
) -> None:
    data = put_release()
    settings = make_settings()
    other = await start_services(settings)
    async with running(settings) as services:
        await services.releases.reader.refresh()
        fake.fault(PATH, Fault.stall(after="half"))
        waiting = asyncio.ensure_future(services.releases.ingestion.ensure(NAME))
        await until_stalled(fake)
        await services.releases.ingestion.aclose(drain_s=0)
        await asyncio.gather(waiting, return_exceptions=True)
        assert waiting.cancelled()
        assert staged(services) == []
        with pytest.raises(errors.OverloadedError, match="shutting down"):
            await services.releases.ingestion.ensure(NAME)
    # The lease was let go: another process need not wait for it to run out.
    assert await body_of(other, await other.releases.ingestion.ensure(NAME)) == data
    await assert_sound(other)


async def test_F97_closing_gives_a_running_ingestion_time_to_finish(
    make_settings: MakeSettings,
    start_services: MakeServices,
    fake: FakeGodev,
    put_release: PutRelease,
) -> None:
    put_release()
    services = await start_services(make_settings())
    await services.releases.reader.refresh()
    fake.fault(PATH, Fault.stall(after="half"))
    waiting = asyncio.ensure_future(services.releases.ingestion.ensure(NAME))
    await until_stalled(fake)
    closing = asyncio.ensure_future(services.releases.ingestion.aclose(drain_s=30))
    await asyncio.sleep(0)
    fake.release()
    await closing
    assert (await waiting).served


async def test_F88_a_disk_without_room_is_507_and_what_is_there_stays_served(
    quick: Services, rewire: Rewire, fake: FakeGodev, put_release: PutRelease
) -> None:
    data = put_release()
    put_release("go1.98.1")
    other = archive_name("go1.98.1")
    await quick.releases.reader.refresh()
    await quick.releases.ingestion.ensure(NAME)
    full_store = LocalBlobStore(quick.shared.settings.data_dir, min_free_fraction=1.0)
    full = rewire(quick, store=full_store)
    with pytest.raises(errors.StorageFullError) as raised:
        await full.releases.ingestion.ensure(other)
    assert status_of(raised.value) == 507
    assert fake.hits[f"/go/{other}"] == 0
    assert await body_of(full, await full.releases.ingestion.ensure(NAME)) == data
    full_store.close()
    assert (await quick.releases.ingestion.ensure(other)).served
    await assert_sound(quick)


# Progress and metrics.


async def test_progress_is_told_from_the_first_byte_to_the_end(
    services: Services, put_release: PutRelease
) -> None:
    data = put_release(extra_bytes=300_000)
    await services.releases.reader.refresh()
    reports: list[Progress] = []
    await services.releases.ingestion.ensure(NAME, report=reports.append)
    phases = list(dict.fromkeys(p.phase for p in reports))
    assert phases == ["fetch", "verify", "done"]
    fetched = [p.done_bytes for p in reports if p.phase == "fetch"]
    assert fetched == sorted(fetched)
    assert fetched[-1] == len(data)
    assert {(p.filename, p.total_bytes) for p in reports} == {(NAME, len(data))}


async def test_a_failure_is_told_to_who_watches(
    quick: Services, fake: FakeGodev, put_release: PutRelease
) -> None:
    put_release()
    await quick.releases.reader.refresh()
    fake.fault(PATH, Fault.status(404))
    reports: list[Progress] = []
    with pytest.raises(errors.UpstreamError):
        await quick.releases.ingestion.ensure(NAME, report=reports.append)
    assert reports[-1].phase == "failed"


async def test_ingestions_are_counted_by_their_outcome(
    services: Services, put_release: PutRelease
) -> None:
    put_release()
    await services.releases.reader.refresh()
    before = count_of("moorage_release_ingestions_total", outcome="verified")
    await services.releases.ingestion.ensure(NAME)
    await services.releases.ingestion.ensure(NAME)
    assert count_of("moorage_release_ingestions_total", outcome="verified") == before + 1


async def test_two_names_of_the_same_bytes_share_one_blob_and_one_download(
    services: Services, fake: FakeGodev, put_release: PutRelease, signer: Signer
) -> None:
    data = put_release()
    twin = "go1.99.1.linux-amd64-again.tar.gz"
    fake.put_file(
        twin, data, signature=signer.sign(data), os="linux", arch="amd64", version="go1.99.1"
    )
    await services.releases.reader.refresh()
    for name in (NAME, twin):
        assert (await services.releases.ingestion.ensure(name)).served
    assert fake.hits[f"/go/{twin}"] == 0
    assert len(stored(services)) == 4  # with the index, the tree and the sums of the pieces
    assert {r.file.sha256 for r in (await records(services)).values()} == {Digest.of(data)}
