"""Damaged blobs: out of reach, quarantined, fetched again; fsck and scrub that find them. F90."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest

from app.core import errors
from app.core.digest import Digest
from app.core.releasefile import FileRecord, FileState
from app.db.blobs import Blobs
from app.db.leases import LeaseTable
from app.services.assembly import Services
from app.services.clock import utc_now
from app.services.fsck import FsckFinding, FsckProblem
from app.services.leases import TTL
from app.storage.blobstore import BlobCondition
from tests.conftest import MakeSettings, PutRelease
from tests.fakes.archives import archive_name
from tests.fakes.faults import Fault
from tests.fakes.godev import FakeGodev
from tests.installation import running
from tests.services.bench import (
    NAME,
    PATH,
    WallClock,
    assert_sound,
    audited,
    blob_path,
    body_of,
    count_of,
    flipped,
    quarantined,
    record_of,
    spoil,
    staged,
    stored,
)

ASC = f"{PATH}.asc"
OTHER = archive_name("go1.98.1")


@dataclass
class Bench:
    """Services with one file served, and a clock of ours that starts at the present."""

    services: Services
    clock: WallClock
    data: bytes
    record: FileRecord

    @property
    def digest(self) -> Digest:
        assert self.record.file.sha256 is not None
        return self.record.file.sha256

    @property
    def path(self) -> Path:
        return blob_path(self.services, self.digest)

    async def fsck(self, *, deep: bool = True, repair: bool = False) -> list[FsckFinding]:
        return list((await self.services.upkeep.fsck.run(deep=deep, repair=repair)).findings)


@pytest.fixture
async def bench(
    make_settings: MakeSettings, fake: FakeGodev, put_release: PutRelease
) -> AsyncIterator[Bench]:
    data = put_release()
    clock = WallClock(utc_now())  # the ages of blobs are those of real files
    async with running(make_settings(), clock) as services:
        await services.releases.reader.refresh()
        record = await services.releases.ingestion.ensure(NAME)
        fake.forget()
        yield Bench(services, clock, data, record)


DAMAGE: dict[str, tuple[Callable[[Path, bytes], object], FsckProblem]] = {
    "missing": (lambda path, _: path.unlink(), FsckProblem.MISSING),
    "empty": (lambda path, _: spoil(path, b""), FsckProblem.SHORT),
    "short": (lambda path, data: spoil(path, data[:-1]), FsckProblem.SHORT),
    "long": (lambda path, data: spoil(path, data + b"\0"), FsckProblem.SHORT),
    "flipped": (lambda path, data: spoil(path, flipped(data)), FsckProblem.DAMAGED),
}


@pytest.mark.parametrize("name", DAMAGE)
async def test_F90_fsck_finds_damage_and_repairs_it(
    name: str, bench: Bench, fake: FakeGodev
) -> None:
    damage, problem = DAMAGE[name]
    damage(bench.path, bench.data)
    [finding] = await bench.fsck()
    assert (finding.problem, finding.object) == (problem, f"sha256:{bench.digest}")
    assert (finding.names, finding.size_bytes) == ((NAME,), len(bench.data))
    assert finding.harmful
    assert "fetch it again" in finding.action
    # It only said so.
    assert await record_of(bench.services) == bench.record
    assert quarantined(bench.services) == []

    assert await bench.fsck(repair=True) == [replace(finding, result="fetched again", healed=True)]
    record = await record_of(bench.services)
    assert (record.damaged, record.state) == (False, FileState.VERIFIED)
    assert len(quarantined(bench.services)) == (problem is not FsckProblem.MISSING)
    [row] = await audited(bench.services, "blob.damage")
    assert (row.object, row.detail) == (finding.object, f"fsck: {problem}")
    assert fake.hits == {PATH: 1}
    assert await body_of(bench.services, record) == bench.data
    assert await bench.fsck() == []
    await assert_sound(bench.services)


async def test_a_shallow_fsck_reads_no_bytes(bench: Bench) -> None:
    spoil(bench.path, flipped(bench.data))
    assert await bench.fsck(deep=False) == []
    assert len(await bench.fsck(deep=True)) == 1


async def test_F90_a_healed_file_keeps_its_verdict_and_asks_for_no_signature(
    bench: Bench, fake: FakeGodev
) -> None:
    before = count_of("moorage_blobs_damaged_total")
    spoil(bench.path, flipped(bench.data))
    with pytest.raises(errors.BlobDamagedError):
        await body_of(bench.services, bench.record)
    await bench.services.upkeep.repair.damaged(bench.digest, "found while serving", fetch=False)
    assert count_of("moorage_blobs_damaged_total") == before + 1
    [path] = quarantined(bench.services)
    assert path.read_bytes() == flipped(bench.data)  # evidence
    fake.set_signature(NAME, None)
    healed = await bench.services.releases.ingestion.ensure(NAME)
    assert healed.verdict == bench.record.verdict
    assert (healed.state, healed.signature) == (FileState.VERIFIED, bench.record.signature)
    assert (healed.damaged, healed.toolchain) == (False, bench.record.toolchain)
    assert healed.ingested_at == bench.record.ingested_at
    assert dict(fake.hits) == {PATH: 1}
    assert await body_of(bench.services, healed) == bench.data


async def test_F90_repair_fetches_in_the_background_and_once(bench: Bench, fake: FakeGodev) -> None:
    spoil(bench.path, flipped(bench.data))
    for _ in range(3):
        await bench.services.upkeep.repair.damaged(bench.digest, "found while serving")
    while (await record_of(bench.services)).damaged:
        healed = await bench.services.releases.ingestion.ensure(NAME)
    assert await body_of(bench.services, healed) == bench.data
    assert len(await audited(bench.services, "blob.damage")) == 1
    assert fake.hits[PATH] == 1


async def test_F90_what_another_process_heals_during_the_check_is_not_quarantined(
    bench: Bench, fake: FakeGodev, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(bench.path, flipped(bench.data))
    shared, repair = bench.services.shared, bench.services.upkeep.repair
    check = shared.store.check

    async def heal_behind(*arguments: Any, **options: Any) -> BlobCondition:
        condition = await check(*arguments, **options)
        spoil(bench.path, bench.data)
        at = bench.clock() + timedelta(seconds=1)
        size_bytes = len(bench.data)
        await shared.db.write(lambda s: Blobs(s).record(bench.digest, size_bytes, at))
        return condition

    monkeypatch.setattr(shared.store, "check", heal_behind)
    assert not await repair.suspect(bench.digest, len(bench.data), "test")
    assert quarantined(bench.services) == []
    assert not (await record_of(bench.services)).damaged
    assert await body_of(bench.services, await record_of(bench.services)) == bench.data
    assert fake.hits[PATH] == 0


async def test_F90_damage_while_upstream_is_down_is_503_and_heals_later(
    bench: Bench, fake: FakeGodev
) -> None:
    spoil(bench.path, flipped(bench.data))
    fake.fault(PATH, Fault.status(501), times=None)
    await bench.services.upkeep.repair.damaged(bench.digest, "test", fetch=False)
    with pytest.raises(errors.UpstreamUnavailableError):
        await bench.services.releases.ingestion.ensure(NAME)
    record = await record_of(bench.services)
    assert (record.state, record.damaged) == (FileState.VERIFIED, True)
    fake.clear_faults()
    healed = await bench.services.releases.ingestion.ensure(NAME)
    assert await body_of(bench.services, healed) == bench.data


async def test_F90_damage_while_upstream_sends_wrong_bytes_is_never_served(
    bench: Bench, fake: FakeGodev
) -> None:
    spoil(bench.path, flipped(bench.data))
    fake.fault(PATH, Fault.flip_byte(at=0), times=None)
    await bench.services.upkeep.repair.damaged(bench.digest, "test", fetch=False)
    with pytest.raises(errors.VerificationError):
        await bench.services.releases.ingestion.ensure(NAME)
    assert not bench.path.exists()
    assert staged(bench.services) == []
    fake.clear_faults()
    healed = await bench.services.releases.ingestion.ensure(NAME)
    assert (healed.state, healed.damaged) == (FileState.VERIFIED, False)
    assert await body_of(bench.services, healed) == bench.data
    await assert_sound(bench.services)


async def test_a_repair_that_is_closed_leaves_the_file_recorded_as_damaged(
    bench: Bench, fake: FakeGodev
) -> None:
    fake.fault(PATH, Fault.delay_headers_until_released())
    await bench.services.upkeep.repair.damaged(bench.digest, "test")
    await anyio.to_thread.run_sync(fake.wait_until, lambda: fake.stalled == 1)
    await bench.services.upkeep.repair.aclose()
    assert (await record_of(bench.services)).damaged
    fake.release()
    assert not (await bench.services.releases.ingestion.ensure(NAME)).damaged


# Orphans and leftovers.


async def test_a_young_orphan_is_kept_because_its_row_may_be_about_to_come(bench: Bench) -> None:
    digest = await bench.services.shared.store.put(b"orphan")
    [finding] = await bench.fsck(repair=True)
    assert (finding.problem, finding.names, finding.harmful) == (FsckProblem.ORPHAN, (), False)
    assert "keep it" in finding.action
    assert digest in stored(bench.services)


async def test_an_old_orphan_is_condemned_by_repair_alone(bench: Bench) -> None:
    digest = await bench.services.shared.store.put(b"orphan")
    bench.clock.advance(minutes=61)
    [finding] = await bench.fsck()
    assert (finding.object, finding.size_bytes) == (f"sha256:{digest}", 6)
    assert finding.action.startswith("condemn it")
    assert await audited(bench.services, "blob.condemn") == []
    assert await bench.fsck(repair=True) == [replace(finding, result="condemned", healed=True)]
    assert digest in stored(bench.services)
    [row] = await audited(bench.services, "blob.condemn")
    assert (row.actor, row.object) == ("cli", f"sha256:{digest}")
    assert await bench.fsck() == []
    assert await body_of(bench.services, bench.record) == bench.data


@pytest.mark.parametrize(("minutes", "action"), [(59, "keep it for now"), (61, "condemn it")])
async def test_the_age_of_an_orphan_is_that_of_its_file(
    minutes: int, action: str, bench: Bench
) -> None:
    digest = await bench.services.shared.store.put(b"orphan")
    at = (bench.clock() - timedelta(minutes=minutes)).timestamp()
    os.utime(blob_path(bench.services, digest), (at, at))
    [finding] = await bench.fsck()
    assert finding.action.startswith(action)


async def test_leftovers_of_dead_processes_are_removed_by_repair_alone(bench: Bench) -> None:
    folder = bench.services.shared.settings.data_dir / "tmp" / ("ab" * 16)
    folder.mkdir()
    (folder / ("cd" * 8)).write_bytes(b"half a download")
    [finding] = await bench.fsck()
    assert (finding.problem, finding.size_bytes, finding.harmful) == (
        FsckProblem.LEFTOVER,
        15,
        False,
    )
    assert folder.exists()
    await bench.fsck(repair=True)
    assert not folder.exists()
    assert await bench.fsck() == []


async def test_F91_a_start_removes_what_dead_processes_left(
    bench: Bench, make_settings: MakeSettings
) -> None:
    folder = bench.services.shared.settings.data_dir / "tmp" / ("ab" * 16)
    folder.mkdir()
    (folder / ("cd" * 8)).write_bytes(b"half a download")
    async with running(make_settings(), bench.clock):
        assert not folder.exists()


async def test_what_a_live_process_stages_is_no_leftover(bench: Bench) -> None:
    async with bench.services.shared.store.stage() as staging:
        await staging.write(b"x")
        await staging.seal()  # the first bytes wait in memory; now they are in a file
        assert await bench.fsck(repair=True) == []
        assert len(staged(bench.services)) == 1


async def test_everything_at_once_is_found_and_progress_is_told(
    bench: Bench, put_release: PutRelease
) -> None:
    put_release("go1.98.1")
    await bench.services.releases.reader.refresh()
    other = await bench.services.releases.ingestion.ensure(OTHER)
    assert other.file.sha256 is not None
    spoil(bench.path, flipped(bench.data))
    blob_path(bench.services, other.file.sha256).unlink()
    await bench.services.shared.store.put(b"orphan")
    steps: list[tuple[int, int]] = []
    report = await bench.services.upkeep.fsck.run(
        deep=True, repair=False, progress=lambda done, of: steps.append((done, of))
    )
    assert sorted(f.problem for f in report.findings) == ["damaged", "missing", "orphan"]
    # Two documents of the index, two archives, and the tree and the sums of each.
    assert (report.clean, report.deep, report.checked) == (False, True, 8)
    assert steps == [(n, 8) for n in range(1, 9)]


async def test_a_sound_store_is_clean(bench: Bench) -> None:
    report = await bench.services.upkeep.fsck.run(deep=True, repair=True)
    assert (report.clean, report.findings, report.checked) == (True, (), 4)


# Scrub: the same in the background, a little at a time.


async def test_scrub_leaves_alone_what_was_hashed_within_its_days(bench: Bench) -> None:
    spoil(bench.path, flipped(bench.data))
    bench.clock.advance(days=29)
    assert await bench.services.upkeep.scrub.step() == 0
    assert not (await record_of(bench.services)).damaged


async def test_scrub_finds_a_flipped_byte_and_has_the_file_fetched_again(
    bench: Bench, fake: FakeGodev
) -> None:
    spoil(bench.path, flipped(bench.data))
    bench.clock.advance(days=31)
    assert await bench.services.upkeep.scrub.step() == 1
    [row] = await audited(bench.services, "blob.damage")
    assert row.detail == "scrub: damaged"
    healed = await bench.services.releases.ingestion.ensure(NAME)
    assert await body_of(bench.services, healed) == bench.data
    assert fake.hits[PATH] == 1
    assert await bench.services.upkeep.scrub.step() == 0


async def test_scrub_writes_down_what_it_found_right(bench: Bench) -> None:
    bench.clock.advance(days=31)
    assert await bench.services.upkeep.scrub.step() == 0
    checked = await bench.services.shared.db.read(lambda s: Blobs(s).all())
    assert {blob.checked_at for blob in checked} == {bench.clock()}


async def test_scrub_takes_the_longest_unchecked_first_and_twenty_at_a_time(bench: Bench) -> None:
    long_ago = bench.clock() - timedelta(days=100)
    contents = [b"%d" % number for number in range(25)]
    digests = [await bench.services.shared.store.put(content) for content in contents]

    def record(at_days: int) -> Callable[[object], None]:
        at = long_ago + timedelta(days=at_days)
        return lambda s: Blobs(s).record(digests[at_days], len(contents[at_days]), at)  # type: ignore[arg-type]

    for number in range(25):
        await bench.services.shared.db.write(record(number))
    await bench.services.upkeep.scrub.step()
    checked = await bench.services.shared.db.read(lambda s: Blobs(s).all())
    fresh = {blob.digest for blob in checked if blob.checked_at == bench.clock()}
    assert set(digests[:20]) <= fresh
    assert not fresh & set(digests[20:])


async def test_scrub_can_be_turned_off(
    make_settings: MakeSettings, put_release: PutRelease
) -> None:
    put_release()
    clock = WallClock(utc_now())
    never = make_settings(storage={"scrub_days": 0})
    async with running(never, clock) as services:
        await services.releases.reader.refresh()
        record = await services.releases.ingestion.ensure(NAME)
        assert record.file.sha256 is not None
        blob_path(services, record.file.sha256).unlink()
        clock.advance(days=10_000)
        assert await services.upkeep.scrub.step() == 0
        condition = await services.shared.store.check(record.file.sha256, 1, deep=True)
        assert condition is BlobCondition.MISSING


async def test_a_file_that_was_only_touched_is_not_taken_away(bench: Bench, tmp_path: Path) -> None:
    """Linking changes the file's ctime, and with it the seal that readers compare."""
    os.link(bench.path, tmp_path / "copy")
    assert bench.record.file.sha256 is not None
    size = bench.record.file.size_bytes
    assert not await bench.services.upkeep.repair.suspect(bench.digest, size, "it changed")
    assert quarantined(bench.services) == []
    assert not (await record_of(bench.services)).damaged


# Marks of damage whose cause is gone.


async def mark(bench: Bench) -> None:
    """Have the blob marked as a late mount leaves it: missing when asked for, and back later."""
    away = bench.path.with_suffix(".away")
    bench.path.rename(away)
    assert await bench.services.upkeep.repair.suspect(
        bench.digest, len(bench.data), "test", fetch=False
    )
    away.rename(bench.path)
    assert (await record_of(bench.services)).damaged


async def test_F103_fsck_reports_a_mark_and_repair_takes_it_back(
    bench: Bench, fake: FakeGodev
) -> None:
    await mark(bench)
    fake.fault(PATH, Fault.status(501), times=None)
    [finding] = await bench.fsck(deep=False)
    assert (finding.problem, finding.names, finding.harmful) == (FsckProblem.MARKED, (NAME,), True)
    assert (await record_of(bench.services)).damaged  # it only said so

    [repaired] = await bench.fsck(deep=False, repair=True)
    assert (repaired.result, repaired.healed) == ("its bytes are right", True)
    assert not (await record_of(bench.services)).damaged
    [row] = await audited(bench.services, "blob.whole")
    assert (row.object, row.detail) == (finding.object, "fsck")
    assert await bench.fsck() == []
    assert fake.hits == {}


async def test_F103_a_suspicion_that_finds_the_bytes_right_takes_the_mark_back(
    bench: Bench,
) -> None:
    await mark(bench)
    assert not await bench.services.upkeep.repair.suspect(bench.digest, len(bench.data), "test")
    assert not (await record_of(bench.services)).damaged


async def test_F103_a_marked_archive_whose_bytes_are_back_is_served_without_upstream(
    bench: Bench, fake: FakeGodev
) -> None:
    await mark(bench)
    fake.fault(PATH, Fault.status(501), times=None)
    record = await bench.services.releases.ingestion.ensure(NAME)
    assert await body_of(bench.services, record) == bench.data
    assert fake.hits == {}


async def test_fsck_says_what_it_could_not_repair(bench: Bench, fake: FakeGodev) -> None:
    spoil(bench.path, flipped(bench.data))
    fake.fault(PATH, Fault.status(501), times=None)
    [finding] = await bench.fsck(repair=True)
    assert (finding.healed, finding.harmful) == (False, True)
    assert finding.result.startswith("not fetched again: ")
    assert "501" in finding.result


async def test_scrub_looks_at_a_blob_that_was_checked_while_a_clock_was_ahead(
    bench: Bench,
) -> None:
    bench.clock.advance(days=31)
    assert await bench.services.upkeep.scrub.step() == 0
    bench.clock.advance(days=-31)
    spoil(bench.path, flipped(bench.data))
    assert await bench.services.upkeep.scrub.step() == 1


async def test_F103_a_marked_toolchain_whose_bytes_are_back_is_not_built_again(
    bench: Bench,
) -> None:
    toolchains = bench.services.modules.toolchains
    version = "v0.0.1-go1.99.1.linux-amd64"
    built = await toolchains.zip(version)
    path = blob_path(bench.services, built.sha256)
    away, inode = path.with_suffix(".away"), path.stat().st_ino
    path.rename(away)
    assert await bench.services.upkeep.repair.suspect(
        built.sha256, built.size_bytes, "test", fetch=False
    )
    away.rename(path)
    again = await toolchains.zip(version)
    assert (again.sha256, again.damaged) == (built.sha256, False)
    assert path.stat().st_ino == inode
    assert len(await audited(bench.services, "blob.whole")) == 1


async def test_a_toolchain_that_waits_for_its_build_holds_no_lease(bench: Bench) -> None:
    toolchains, db = bench.services.modules.toolchains, bench.services.shared.db
    async with toolchains._building.hold("another client"):
        building = asyncio.ensure_future(toolchains.zip("v0.0.1-go1.99.1.linux-amd64", client="a"))
        async with asyncio.timeout(60):
            while "a" not in toolchains._building._waiting:
                await asyncio.sleep(0.01)
        now = bench.services.shared.now()
        assert await db.read(lambda s: LeaseTable(s).live("toolchain:", now, TTL)) == {}
    assert (await building).size_bytes
