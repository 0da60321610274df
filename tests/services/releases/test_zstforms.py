"""The zstd forms of archives: made in the background, checked, replaced after damage."""

import asyncio
import gzip
import io
from pathlib import Path
from typing import Any

import pytest

from app.core import errors
from app.core.chunks import sum_pieces
from app.core.derived import Zst
from app.core.digest import Digest
from app.core.zst import Recompression, ZstSums
from app.db.blobs import Blobs
from app.services.assembly import Services
from app.services.fsck import FsckProblem
from app.services.releases.recompress import Recompressor
from app.services.releases.zstforms import ZstForms
from app.storage.local import LocalBlobStore
from tests.conftest import MakeServices, PutRelease
from tests.fakes.archives import archive_name, go_archive
from tests.fakes.godev import FakeGodev
from tests.services.bench import (
    NAME,
    assert_sound,
    blob_path,
    flipped,
    record_of,
    spoil,
    staged,
    stored,
)

FAST: dict[str, Any] = {"zstd": {"level": 1, "niceness": 0}}


class Here:
    """A recompressor in this process: what it does is that of the real one's process."""

    def __init__(self, level: int = 1) -> None:
        self.level = level
        self.runs = 0

    async def run(self, archive: Path, write: Any) -> ZstSums:
        self.runs += 1
        work = Recompression(self.level)
        with archive.open("rb") as stream:
            for piece in work.pieces(stream):
                await write(piece)
        return work.sums


def forms(services: Services, recompressor: Any, store: Any = None) -> ZstForms:
    shared = services.shared
    return ZstForms(shared.db, store or shared.store, recompressor, shared.now)


async def zst_of(services: Services, name: str = NAME) -> Zst | None:
    derived = (await record_of(services, name)).derived
    assert derived is not None
    return derived.zst


async def ingest(services: Services, *names: str) -> None:
    await services.releases.reader.refresh()
    for name in names or (NAME,):
        await services.releases.ingestion.ensure(name, forced=True)


async def assert_right(services: Services, archive: bytes, name: str = NAME) -> None:
    """Assert that the recorded form holds the archive's tar, and its sums are its own."""
    zst = await zst_of(services, name)
    assert zst is not None
    store = services.shared.store
    body = await store.read(zst.sha256, max_bytes=zst.size_bytes)
    assert len(body) == zst.size_bytes
    sums = await store.read(zst.chunks.sha256, max_bytes=zst.chunks.size_bytes)
    assert sums == sum_pieces(io.BytesIO(body)).sums
    assert len(sums) == zst.chunks.size_bytes
    from app.core.zst import zstd  # the module that this version of Python has

    assert zstd.decompress(body) == gzip.decompress(archive)


async def test_a_process_of_its_own_makes_the_form(
    start_services: MakeServices, put_release: PutRelease
) -> None:
    services = await start_services(releases=FAST)
    data = put_release(extra_bytes=3 << 20)
    await ingest(services)
    assert await zst_of(services) is None
    await services.releases.zst.step()
    await assert_right(services, data)
    catalog = await services.releases.catalog.current(fresh=True)
    derived = catalog.records[NAME].derived
    assert derived is not None
    assert derived.zst == await zst_of(services)
    await assert_sound(services)


async def test_the_newest_release_comes_first_and_each_archive_once(
    services: Services, put_release: PutRelease
) -> None:
    for version in ("go1.98.1", "go1.99.1", "go1.97.1"):
        put_release(version)
    await ingest(services, *(archive_name(v) for v in ("go1.98.1", "go1.99.1", "go1.97.1")))
    here = Here()
    work = forms(services, here)
    assert [r.file.version for r in await work.missing()] == ["go1.99.1", "go1.98.1", "go1.97.1"]
    await work.step()
    await work.step()
    assert here.runs == 3
    assert await work.missing() == []
    assert staged(services) == []


async def test_a_zip_has_none(start_services: MakeServices, fake: FakeGodev) -> None:
    services = await start_services(releases={"sha256_only": ["zip"]})
    name = archive_name("go1.99.1", "windows")
    fake.put_file(name, go_archive("go1.99.1", "windows"), signature=None)
    await ingest(services, name)
    assert await services.releases.zst.missing() == []


async def test_none_are_made_where_settings_say_so(
    start_services: MakeServices, put_release: PutRelease
) -> None:
    services = await start_services(releases={"zstd": {"enabled": False}})
    put_release()
    await ingest(services)
    await services.releases.zst.step()
    assert await zst_of(services) is None


# Faults


async def test_a_cancelled_one_ends_its_process_and_leaves_nothing(
    start_services: MakeServices, put_release: PutRelease
) -> None:
    services = await start_services(releases=FAST)
    put_release(extra_bytes=6 << 20)
    await ingest(services)
    before = stored(services)
    recompressor = Recompressor(level=1, niceness=0)
    first = asyncio.Event()

    class Stalling(Recompressor):
        async def run(self, archive: Path, write: Any) -> ZstSums:
            async def stall(piece: bytes) -> None:
                await write(piece)
                first.set()
                await asyncio.Event().wait()

            return await recompressor.run(archive, stall)

    step = asyncio.ensure_future(forms(services, Stalling(1, 0)).step())
    await first.wait()
    step.cancel()
    with pytest.raises(asyncio.CancelledError):
        await step
    assert (stored(services), staged(services)) == (before, [])
    assert await zst_of(services) is None


async def test_a_process_that_dies_is_a_failure_with_its_exit_code(
    services: Services, put_release: PutRelease, tmp_path: Path
) -> None:
    put_release()
    await ingest(services)
    sha256 = (await record_of(services)).sha256

    async def nowhere(_piece: bytes) -> None: ...

    with pytest.raises(errors.StorageError, match="ended early, with exit code 1"):
        await Recompressor(level=1000, niceness=0).run(blob_path(services, sha256), nowhere)
    (tmp_path / "no archive").write_bytes(b"nothing like it")
    with pytest.raises(errors.BadInputError, match="can't be read"):
        await Recompressor(level=1, niceness=0).run(tmp_path / "no archive", nowhere)


async def test_a_failure_is_not_tried_again_at_once_and_holds_up_no_other(
    services: Services, put_release: PutRelease
) -> None:
    for version in ("go1.99.1", "go1.98.1"):
        put_release(version)
    await ingest(services, NAME, archive_name("go1.98.1"))
    sha256 = (await record_of(services)).sha256
    spoil(blob_path(services, sha256), b"spoilt")
    here = Here()
    work = forms(services, here)
    await work.step()
    await work.step()
    assert here.runs == 2
    assert await zst_of(services) is None
    assert await zst_of(services, archive_name("go1.98.1")) is not None


async def test_a_form_of_other_bytes_than_the_archives_is_not_recorded(
    services: Services, put_release: PutRelease
) -> None:
    put_release()
    await ingest(services)
    before = stored(services)
    sha256 = (await record_of(services)).sha256
    spoil(blob_path(services, sha256), go_archive("go1.99.1", seed=7))  # a whole archive
    await forms(services, Here()).step()
    assert await zst_of(services) is None
    assert (stored(services), staged(services)) == (before, [])


class Full(LocalBlobStore):
    """A store without room for one blob more after some."""

    left = 0

    async def commit(self, staged: Any, expected: Digest) -> None:
        if self.left == 0:
            raise errors.StorageFullError("no space left")
        self.left -= 1
        await super().commit(staged, expected)


@pytest.mark.parametrize("fitting", [0, 1], ids=["the form", "its sums"])
async def test_a_full_disk_leaves_no_half_form_and_is_asked_again(
    services: Services, put_release: PutRelease, fitting: int
) -> None:
    data = put_release()
    await ingest(services)
    store = Full(services.shared.settings.data_dir)
    store.left = fitting
    work = forms(services, Here(), store)
    with pytest.raises(errors.StorageFullError):
        await work.step()
    assert await zst_of(services) is None
    assert staged(services) == []
    store.left = 2
    await work.step()
    await assert_right(services, data)
    store.close()
    await assert_sound(services)


@pytest.mark.parametrize("kind", ["zst", "zst.chunks"])
async def test_a_damaged_form_is_made_anew(
    start_services: MakeServices, put_release: PutRelease, kind: str
) -> None:
    services = await start_services(releases=FAST)
    data = put_release()
    await ingest(services)
    await forms(services, Here(level=9)).step()  # by other settings: other bytes
    before = await zst_of(services)
    assert before is not None
    path = blob_path(services, before.sha256 if kind == "zst" else before.chunks.sha256)
    spoil(path, flipped(path.read_bytes()))
    report = await services.upkeep.fsck.run(deep=True, repair=True)
    [finding] = report.findings
    assert finding.names == (f"{NAME}.{kind}",)
    assert (finding.problem, finding.healed) == (FsckProblem.DAMAGED, True)
    await assert_right(services, data)
    for digest in (before.sha256, before.chunks.sha256):
        assert not await services.shared.db.read(lambda s, d=digest: Blobs(s).has(d))
    assert (await services.upkeep.fsck.run(deep=True, repair=False)).clean


async def test_a_damaged_form_goes_where_none_are_made_any_more(
    start_services: MakeServices, put_release: PutRelease
) -> None:
    services = await start_services(releases={"zstd": {"enabled": False}})
    put_release()
    await ingest(services)
    await forms(services, Here()).step()
    before = await zst_of(services)
    assert before is not None
    path = blob_path(services, before.sha256)
    spoil(path, flipped(path.read_bytes()))
    report = await services.upkeep.fsck.run(deep=True, repair=True)
    assert [f.healed for f in report.findings] == [True]
    assert await zst_of(services) is None
    assert (await services.upkeep.fsck.run(deep=True, repair=False)).clean
