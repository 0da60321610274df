"""Trees and sums of archives: made at ingestion, made up for later, made anew after damage."""

import asyncio
import gzip
import io
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from app.core import errors
from app.core.chunks import sum_pieces
from app.core.derived import Derived
from app.core.digest import Digest
from app.core.goarchive import iter_entries
from app.core.releasefile import FileState
from app.core.tree import read_tree, render_tree
from app.db.blobs import Blobs
from app.services.assembly import Services
from app.services.clock import utc_now
from app.services.fsck import FsckProblem
from app.storage.local import LocalBlobStore
from tests.conftest import MakeServices, MakeSettings, PutRelease
from tests.fakes.archives import archive_name, go_archive, source_name, src_archive
from tests.fakes.godev import FakeGodev
from tests.fakes.signer import Signer
from tests.installation import running
from tests.services.bench import (
    NAME,
    WallClock,
    assert_sound,
    audited,
    blob_path,
    close_rewired,
    flipped,
    record_of,
    rewired,
    run_sql,
    spoil,
    stored,
)

ZIP = archive_name("go1.99.1", "windows")


def tree_and_sums(data: bytes, suffix: str = "tar.gz") -> tuple[bytes, bytes]:
    tree = b"".join(render_tree(read_tree(iter_entries(io.BytesIO(data), suffix))))
    return tree, sum_pieces(io.BytesIO(data)).sums


async def ingested(services: Services, name: str = NAME) -> Derived:
    await services.releases.reader.refresh()
    record = await services.releases.ingestion.ensure(name, forced=True)
    assert record.derived is not None
    return record.derived


async def bytes_of(services: Services, derived: Derived) -> tuple[bytes, bytes]:
    store = services.shared.store
    tree = await store.read(derived.tree.sha256, max_bytes=derived.tree.size_bytes)
    return tree, await store.read(derived.chunks.sha256, max_bytes=derived.chunks.size_bytes)


async def without_derived(services: Services) -> None:
    """Make the database one of a version that derived nothing."""
    derived = (await record_of(services)).derived
    assert derived is not None
    await run_sql(services, "DELETE FROM derived_files")
    for file in (derived.tree, derived.chunks):
        await run_sql(services, f"DELETE FROM blobs WHERE sha256 = '{file.sha256}'")
        await services.shared.store.delete(file.sha256)
    assert (await record_of(services)).derived is None


async def test_an_archive_that_comes_in_has_its_tree_and_sums(
    services: Services, put_release: PutRelease
) -> None:
    data = put_release()
    derived = await ingested(services)
    tree, sums = await bytes_of(services, derived)
    assert (tree, sums) == tree_and_sums(data)
    assert (derived.tree.size_bytes, derived.chunks.size_bytes) == (len(tree), len(sums))
    assert derived.zst is None
    assert derived.tar_sha256 == Digest.of(gzip.decompress(data))
    catalog = await services.releases.catalog.current(fresh=True)
    assert catalog.records[NAME].derived == derived
    await assert_sound(services)


async def test_a_zip_has_them_too(
    start_services: MakeServices, fake: FakeGodev, signer: Signer
) -> None:
    services = await start_services(releases={"sha256_only": ["zip"]})
    data = go_archive("go1.99.1", "windows")
    fake.put_file(ZIP, data, signature=None)
    derived = await ingested(services, ZIP)
    assert await bytes_of(services, derived) == tree_and_sums(data, "zip")
    assert derived.tar_sha256 is None
    assert await services.releases.derived.missing() == []


async def test_a_tars_digest_that_is_missing_is_made_up_for(
    services: Services, put_release: PutRelease
) -> None:
    """Archives of before the digest was kept have their tree and sums."""
    put_release()
    derived = await ingested(services)
    await run_sql(services, "UPDATE derived_files SET tar_sha256 = NULL")
    await services.releases.derived.step()
    assert (await record_of(services)).derived == derived
    await assert_sound(services)


async def test_a_source_archive_has_none(
    services: Services, fake: FakeGodev, signer: Signer
) -> None:
    data = src_archive()
    name = source_name("go1.99.1")
    fake.put_file(name, data, signature=signer.sign(data))
    await services.releases.reader.refresh()
    assert (await services.releases.ingestion.ensure(name)).derived is None
    assert await services.releases.derived.missing() == []


async def test_signed_bytes_that_are_no_archive_are_served_without(
    services: Services, fake: FakeGodev, signer: Signer
) -> None:
    data = b"upstream's own bytes all the same"
    fake.put_file(NAME, data, signature=signer.sign(data))
    await services.releases.reader.refresh()
    record = await services.releases.ingestion.ensure(NAME)
    assert (record.state, record.derived) == (FileState.VERIFIED, None)
    for _ in range(2):  # the second step does not read the archive again
        await services.releases.derived.step()
    assert (await record_of(services)).derived is None


async def test_a_file_that_waits_for_its_signature_is_derived_once(
    services: Services, put_release: PutRelease, fake: FakeGodev, signer: Signer
) -> None:
    data = put_release(signed=False)
    await services.releases.reader.refresh()
    for _ in range(2):
        with pytest.raises(errors.NotYetError):
            await services.releases.ingestion.ensure(NAME, forced=True)
    derived = (await record_of(services)).derived
    assert len(await audited(services, "release.pending-signature")) == 1
    fake.put_file(NAME, data, signature=signer.sign(data))
    assert await ingested(services) == derived


async def test_a_quarantined_archive_has_none(
    services: Services, fake: FakeGodev, put_release: PutRelease, signer: Signer
) -> None:
    data = go_archive("go1.98.1")  # another release under this name
    fake.put_file(NAME, data, signature=signer.sign(data))
    await services.releases.reader.refresh()
    with pytest.raises(errors.VerificationError):
        await services.releases.ingestion.ensure(NAME)
    assert (await record_of(services)).derived is None
    assert len(stored(services)) == 2  # the index and the archive


# What came in without


async def by_step(services: Services) -> None:
    await services.releases.derived.step()


async def by_fsck(services: Services) -> None:
    report = await services.upkeep.fsck.run(deep=False, repair=True)
    [finding] = [f for f in report.findings if f.problem is FsckProblem.UNDERIVED]
    assert (finding.object, finding.result, finding.healed) == (NAME, "made", True)
    assert report.clean


@pytest.mark.parametrize("way", [by_step, by_fsck])
async def test_an_archive_of_an_earlier_version_gets_them(
    services: Services, put_release: PutRelease, way: Callable[[Services], Awaitable[None]]
) -> None:
    put_release()
    derived = await ingested(services)
    await without_derived(services)
    await way(services)
    assert (await record_of(services)).derived == derived
    assert (await services.releases.catalog.current(fresh=True)).records[NAME].derived == derived
    await assert_sound(services)


async def test_fsck_names_what_is_missing_and_harms_nothing(
    services: Services, put_release: PutRelease
) -> None:
    put_release()
    await ingested(services)
    await without_derived(services)
    report = await services.upkeep.fsck.run(deep=False, repair=False)
    assert [(f.problem, f.object, f.action) for f in report.findings] == [
        (FsckProblem.UNDERIVED, NAME, "make its tree and sums")
    ]
    assert report.clean
    assert (await record_of(services)).derived is None


async def test_nothing_is_derived_from_damaged_bytes(
    services: Services, put_release: PutRelease
) -> None:
    data = put_release()
    await ingested(services)
    await without_derived(services)
    record = await record_of(services)
    spoil(blob_path(services, record.sha256), flipped(data))
    await services.releases.derived.step()
    assert (await record_of(services)).derived is None


# Faults


class FullFor(LocalBlobStore):
    """A store that has no room for what is not the archive."""

    def __init__(self, root: Path, kept: str) -> None:
        super().__init__(root)
        self.kept: str | None = kept

    async def commit(self, staged: object, expected: object) -> None:
        if self.kept is not None and str(expected) != self.kept:
            raise errors.StorageFullError("no space left")
        await super().commit(staged, expected)  # type: ignore[arg-type]


async def test_a_disk_too_full_for_the_tree_does_not_hold_the_archive_back(
    services: Services, put_release: PutRelease
) -> None:
    data = put_release()
    await services.releases.reader.refresh()
    sha256 = (await record_of(services)).sha256
    store = FullFor(services.shared.settings.data_dir, sha256.hex)
    full = rewired(services, store=store)
    record = await full.releases.ingestion.ensure(NAME)
    assert (record.state, record.derived) == (FileState.VERIFIED, None)
    with pytest.raises(errors.StorageFullError):
        await full.releases.derived.step()
    store.kept = None
    await full.releases.derived.step()  # a full disk is asked again
    made = (await record_of(services)).derived
    assert made is not None
    assert await bytes_of(services, made) == tree_and_sums(data)
    store.close()
    await close_rewired(full)
    await assert_sound(services)


async def test_after_a_kill_before_the_rows_the_blobs_are_adopted(
    services: Services, put_release: PutRelease
) -> None:
    data = put_release()
    derived = await ingested(services)
    await run_sql(services, "DELETE FROM derived_files")  # as if the transaction had not been
    for file in (derived.tree, derived.chunks):
        await run_sql(services, f"DELETE FROM blobs WHERE sha256 = '{file.sha256}'")
    report = await services.upkeep.fsck.run(deep=False, repair=False)
    assert {f.problem for f in report.findings} == {FsckProblem.ORPHAN, FsckProblem.UNDERIVED}
    await services.releases.derived.step()
    assert (await record_of(services)).derived == derived
    assert await bytes_of(services, derived) == tree_and_sums(data)
    assert len(stored(services)) == 4
    await assert_sound(services)


@pytest.mark.parametrize("kind", ["tree", "chunks"])
async def test_a_damaged_derived_file_is_found_and_derived_anew(
    services: Services, put_release: PutRelease, fake: FakeGodev, kind: str
) -> None:
    put_release()
    derived = await ingested(services)
    file = getattr(derived, kind)
    path = blob_path(services, file.sha256)
    right = path.read_bytes()
    spoil(path, flipped(right))
    fake.forget()
    report = await services.upkeep.fsck.run(deep=True, repair=True)
    [finding] = report.findings
    assert finding.names == (f"{NAME}.{kind}",)
    assert (finding.problem, finding.healed) == (FsckProblem.DAMAGED, True)
    assert path.read_bytes() == right
    assert fake.hits == {}  # nothing was asked of upstream
    assert (await record_of(services)).derived == derived
    await assert_sound(services)


async def test_the_scrub_finds_a_damaged_tree_too(
    make_settings: MakeSettings, put_release: PutRelease
) -> None:
    put_release()
    clock = WallClock(utc_now())
    async with running(make_settings(), now=clock) as services:
        derived = await ingested(services)
        path = blob_path(services, derived.tree.sha256)
        right = path.read_bytes()
        spoil(path, flipped(right))
        clock.advance(days=31)
        assert await services.upkeep.scrub.step() == 1
        assert await services.upkeep.repair.heal(derived.tree.sha256) is None
        assert path.read_bytes() == right
        await assert_sound(services)


async def test_where_the_archive_is_damaged_too_both_come_back(
    services: Services, put_release: PutRelease, fake: FakeGodev
) -> None:
    data = put_release()
    derived = await ingested(services)
    sha256 = (await record_of(services)).sha256
    for digest in (sha256, derived.tree.sha256):
        path = blob_path(services, digest)
        spoil(path, flipped(path.read_bytes()))
    report = await services.upkeep.fsck.run(deep=True, repair=True)
    assert all(finding.healed for finding in report.findings)
    assert blob_path(services, sha256).read_bytes() == data
    assert (await record_of(services)).derived == derived
    await assert_sound(services)


async def test_what_is_replaced_leaves_no_row_of_a_blob(
    services: Services, put_release: PutRelease
) -> None:
    """Another version of the program may make other bytes from the same archive."""
    put_release()
    derived = await ingested(services)
    other = await services.shared.store.put(b"a tree of another format\n")

    def as_before(session: object) -> None:
        Blobs(session).record(other, 25, services.shared.now())  # type: ignore[arg-type]

    await services.shared.db.write(as_before)
    await run_sql(services, f"UPDATE derived_files SET tree_sha256 = '{other}'")
    await services.releases.derived.make(await record_of(services))
    assert (await record_of(services)).derived == derived
    assert not await services.shared.db.read(lambda s: Blobs(s).has(other))
    assert await services.shared.db.read(lambda s: Blobs(s).has(derived.tree.sha256))


async def test_a_herd_at_a_new_archive_derives_once(
    services: Services, put_release: PutRelease
) -> None:
    put_release()
    await services.releases.reader.refresh()
    records = await asyncio.gather(*(services.releases.ingestion.ensure(NAME) for _ in range(50)))
    assert len({record.derived for record in records}) == 1
    assert records[0].derived is not None
    assert len(stored(services)) == 4
