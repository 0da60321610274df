"""Backups: whole at every moment, small from the second one on, and restored as they were."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import closing, nullcontext
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Any

import pytest

from app.core.digest import Digest
from app.core.errors import BadInputError, ConflictError, StorageError, UnknownError
from app.db import dump
from app.db.dump import DatabaseCopy
from app.db.engine import Database
from app.db.sqlite import sqlite_url
from app.services.backup import restoring
from app.services.backup.age import BackupAge
from app.services.backup.making import read_heads
from app.services.backup.place import BackupPlace
from app.services.leases import Leases
from app.storage.cache import BlobCache
from app.storage.objects import ANY, LocalObjects, S3Objects
from app.storage.s3 import S3BlobStore
from tests import postgres
from tests.fakes.s3 import FakeS3
from tests.services.backup.bench import (
    FailingObjects,
    Installation,
    KilledError,
    installation,
    recorded,
    restored,
)
from tests.services.tenantlog.owner import process
from tests.shapes import Shape
from tests.test_metrics import value

both_shapes = pytest.mark.both_shapes


@pytest.fixture
def here(database_url: str, tmp_path: Path) -> Iterator[Installation]:
    with installation(database_url, tmp_path) as made:
        yield made


@pytest.fixture
def objects(tmp_path: Path) -> FailingObjects:
    return FailingObjects(tmp_path / "backups")


@pytest.fixture
def target(shape: Shape, tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """Return an empty data directory and the URL of an empty database."""
    folder = tmp_path / "restored"
    is_sqlite = shape is Shape.SQLITE
    made = nullcontext("") if is_sqlite else postgres.cluster().database()
    with made as url:
        yield folder, sqlite_url(folder / "moorage.db") if is_sqlite else url


async def filled(here: Installation) -> dict[str, int]:
    for number in range(5):
        await here.put(b"%d" % number * 10_000)
    await here.owner.put_up_to(await here.owner.log(), 3)
    return await recorded(here.db)


@both_shapes
async def test_what_is_restored_is_what_was_there(
    here: Installation, objects: FailingObjects, target: tuple[Path, str]
) -> None:
    blobs = await filled(here)
    made = await here.create(objects)
    assert BackupPlace(objects).problems(made, deep=True) == []
    result = await restored(objects, *target)
    folder, url = target
    assert (result.missing, result.newer_heads) == ((), ())
    for name in blobs:
        data = (folder / "blobs" / name[:2] / name).read_bytes()
        assert Digest.of(data).hex == name
    with process(url, folder / "keys") as owner:
        assert await recorded(owner.db) == blobs
        log = await owner.log()
        assert (await owner.fsck(log)).findings == ()
        await owner.put_up_to(log, 4)  # the log goes on


@both_shapes
async def test_a_second_backup_copies_what_is_new(
    here: Installation, objects: FailingObjects
) -> None:
    for number in range(100):
        await here.put(number.to_bytes(4, "big") * 1000)
    first = await here.create(objects)
    await here.put(b"one more")
    second = await here.create(objects)
    assert second.manifest.blob_count == 101
    assert second.manifest.new_bytes < first.manifest.new_bytes * 0.5
    assert second.manifest.new_bytes - second.manifest.database.size_bytes < 10_000


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_killed_at_any_write_no_backup_counts_and_the_next_is_whole(
    here: Installation, tmp_path: Path, moment: str
) -> None:
    await filled(here)
    counting = FailingObjects(tmp_path / "counted")
    await here.create(counting)
    for number in range(1, counting.writes + 1):
        objects = FailingObjects(tmp_path / f"{moment}-{number}")
        objects.killed_at = (number, moment)
        with pytest.raises(BaseException) as ended:
            await here.create(objects)
        assert "KilledError" in repr(ended.value)
        place = BackupPlace(objects)
        is_last = (number, moment) == (counting.writes, "after")
        assert len(place.all()) == int(is_last)
        objects.killed_at = None
        made = await here.create(objects)
        assert place.problems(made, deep=True) == []
        if not is_last:
            assert place.all() == [made]


@both_shapes
async def test_a_log_that_grew_after_its_backup_is_not_written_to(
    here: Installation, objects: FailingObjects, target: tuple[Path, str]
) -> None:
    await filled(here)
    older = await here.create(objects)
    log = await here.owner.log()
    await here.owner.put_up_to(log, 5)
    await here.create(objects)  # a later backup knows the newer head
    folder, url = target
    result = await restored(objects, folder, url, older.id)
    assert [name.endswith(".head") for name in result.newer_heads] == [True]
    refused = pytest.raises(ConflictError, match="a tree of 5 was signed before")
    with process(url, folder / "keys") as owner, refused:
        await owner.put_up_to(await owner.log(), 4)


@both_shapes
async def test_newer_heads_of_a_folder_are_taken_over(
    here: Installation, objects: FailingObjects, target: tuple[Path, str]
) -> None:
    await filled(here)
    await here.create(objects)
    await here.owner.put_up_to(await here.owner.log(), 4)
    folder, url = target
    result = await restored(objects, folder, url, heads=here.folder / "keys" / "logs")
    assert len(result.newer_heads) == 1


async def test_a_backup_that_is_given_up_ends_within_its_dump(
    here: Installation, objects: FailingObjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C does not wait for the rest of a long one."""
    await filled(here)
    begun, goes_on, ended = threading.Event(), threading.Event(), threading.Event()

    def pieces(_copy: DatabaseCopy) -> Iterator[bytes]:
        try:
            begun.set()
            goes_on.wait(60)
            for number in range(1000):
                yield b"piece %d" % number
        finally:
            ended.set()

    monkeypatch.setattr(DatabaseCopy, "pieces", pieces)
    making = asyncio.create_task(here.create(objects))
    assert await asyncio.to_thread(begun.wait, 60)
    written = objects.writes
    making.cancel()
    with pytest.raises(asyncio.CancelledError):
        await making
    goes_on.set()
    assert await asyncio.to_thread(ended.wait, 60)
    assert objects.writes == written


async def test_a_log_that_grows_meanwhile_is_copied_again(
    here: Installation, objects: FailingObjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    await filled(here)
    log = await here.owner.log()
    copied = []
    original = BackupPlace.put_stream

    def put_stream(self: BackupPlace, parts: object, stored: dict[str, int]) -> object:
        copied.append(1)
        return original(self, parts, stored)  # type: ignore[arg-type]

    monkeypatch.setattr(BackupPlace, "put_stream", put_stream)
    service = here.service()
    copy_blobs, rounds = service._copy_blobs, []

    async def grow(*args: object) -> None:
        rounds.append(1)
        if len(rounds) == 2:  # behind the first copy of the database, before the heads
            await here.owner.put_up_to(log, 4)
        await copy_blobs(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(service, "_copy_blobs", grow)
    made = await service.create(BackupPlace(objects), lambda done, total: None)
    assert (made.manifest.behind, len(copied)) == ((), 3)


async def test_a_damaged_backup_is_noticed(here: Installation, objects: FailingObjects) -> None:
    await filled(here)
    made = await here.create(objects)
    folder = objects._folder
    place = BackupPlace(objects)
    for path in sorted(folder.glob("*/*/*")):
        content = path.read_bytes()
        path.write_bytes(bytes([content[0] ^ 1]) + content[1:])
        if path.name == "manifest.json":
            with pytest.raises(BadInputError, match=r"manifest of backup .* is damaged"):
                place.get(made.id)
        else:
            assert place.problems(made, deep=True), path
        path.unlink()
        if path.name != "manifest.json":
            assert place.problems(made, deep=False), path
        path.write_bytes(content)
    assert place.problems(made, deep=True) == []


async def test_what_was_damaged_is_stored_again(
    here: Installation, objects: FailingObjects
) -> None:
    await filled(here)
    first = await here.create(objects)
    pieces = [objects._folder / piece.key for piece in first.manifest.database.pieces]
    damaged = [*objects._folder.glob("blobs/*/*"), *pieces]
    for path in damaged:
        path.write_bytes(b"x" * path.stat().st_size)
    place = BackupPlace(objects)
    assert len(place.problems(first, deep=True, discard=True)) >= len(damaged)
    second = await here.create(objects)
    assert place.problems(second, deep=True) == []
    assert {p for p in place.problems(first, deep=True) if p.startswith("blob ")} == set()


@pytest.mark.only_sqlite  # PostgreSQL's leases go by its own clock
async def test_a_backup_that_stood_still_does_not_count(
    here: Installation, objects: FailingObjects
) -> None:
    await filled(here)
    service, place = here.service(), BackupPlace(objects)
    copy_blobs = service._copy_blobs

    async def stand_still(*args: object) -> None:
        await copy_blobs(*args)  # type: ignore[arg-type]
        here.clock.advance(minutes=5)
        taken = await Leases(here.db, here.clock, "there/1/2").try_acquire("backup")
        assert taken is not None

    service._copy_blobs = stand_still  # type: ignore[method-assign]
    with pytest.raises(ConflictError, match="stood still"):
        await service.create(place, lambda done, total: None)
    assert place.all() == []


async def test_a_blob_that_the_store_lacks_is_said(
    here: Installation, objects: FailingObjects
) -> None:
    await filled(here)
    digest = await here.put(b"lost")
    await here.store.delete(digest)
    made = await here.create(objects)
    assert made.manifest.lacking == (digest,)
    assert BackupPlace(objects).problems(made, deep=True) == []


async def test_prune_keeps_what_the_others_need(
    here: Installation, objects: FailingObjects
) -> None:
    await filled(here)
    first = await here.create(objects)
    gone = Digest.of(b"0" * 10_000)
    await here.forget(gone)
    second = await here.create(objects)
    place, service = BackupPlace(objects), here.service()
    dry = await service.prune(place, keep=1, dry_run=True)
    assert place.all() == [first, second]
    assert await service.prune(place, keep=1, dry_run=False) == dry
    assert (dry.removed, dry.kept) == ((first.id,), (second.id,))
    assert place.all() == [second]
    assert place.problems(second, deep=True) == []
    assert not (objects._folder / "blobs" / gone.hex[:2] / gone.hex).exists()
    with pytest.raises(UnknownError):
        place.get(first.id)


async def test_a_place_belongs_to_one_database(
    here: Installation, objects: FailingObjects, tmp_path: Path
) -> None:
    await here.create(objects)
    with pytest.raises(ConflictError, match="another Moorage"):
        BackupPlace(objects).bind("f" * 32)


@pytest.mark.only_sqlite  # a data directory with the database's file
async def test_a_restore_into_a_place_in_use_is_refused(
    here: Installation, objects: FailingObjects, tmp_path: Path
) -> None:
    await here.create(objects)
    folder = tmp_path / "full"
    folder.mkdir()
    (folder / "file").touch()
    with pytest.raises(ConflictError, match="not empty"):
        await restored(objects, folder, sqlite_url(folder / "moorage.db"))
    with pytest.raises(ConflictError, match="a database already"):
        await restored(objects, tmp_path / "new", here.db.url)


@pytest.mark.only_sqlite  # the database's file is looked for
async def test_a_killed_restore_goes_on(
    here: Installation, objects: FailingObjects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs = await filled(here)
    await here.create(objects)
    folder = tmp_path / "restored"
    url = sqlite_url(folder / "moorage.db")
    reads = objects.get_file
    for number in range(len(blobs)):
        left = [min(number, 1)]  # reads until the end
        counting = Lock()

        def get_file(
            key: str, path: Path, left: list[int] = left, counting: Any = counting
        ) -> bool:
            with counting:
                if not left[0]:
                    raise KilledError
                left[0] -= 1
            return reads(key, path)

        monkeypatch.setattr(objects, "get_file", get_file)
        with pytest.raises(KilledError):
            await restored(objects, folder, url)
        assert not (folder / "moorage.db").exists()
        assert (folder / "restore.unfinished").exists()
    monkeypatch.setattr(objects, "get_file", reads)
    assert (await restored(objects, folder, url)).blobs == len(blobs)
    with closing(Database(url)) as db:
        assert await recorded(db) == blobs
    assert not (folder / "restore.unfinished").exists()
    assert not (folder / "restore.tmp").exists()


@pytest.mark.only_sqlite  # the database is a file of the data directory
async def test_a_file_of_the_right_size_with_wrong_bytes_does_not_count_as_restored(
    here: Installation, objects: FailingObjects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs = await filled(here)
    await here.create(objects)
    folder = tmp_path / "restored"
    url = sqlite_url(folder / "moorage.db")
    monkeypatch.setattr(dump, "put_back", _killed)
    with pytest.raises(KilledError):
        await restored(objects, folder, url)
    for path in folder.glob("blobs/*/*"):  # as a power cut before the sync leaves them
        path.chmod(0o600)
        path.write_bytes(bytes(path.stat().st_size))
    monkeypatch.undo()
    await restored(objects, folder, url)
    for name in blobs:
        assert Digest.of((folder / "blobs" / name[:2] / name).read_bytes()).hex == name


@pytest.mark.only_sqlite  # the database is a file of the data directory
async def test_killed_between_the_database_and_the_end_a_restore_goes_on(
    here: Installation, objects: FailingObjects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs = await filled(here)
    await here.create(objects)
    folder = tmp_path / "restored"
    url = sqlite_url(folder / "moorage.db")
    monkeypatch.setattr(restoring.Begun, "end", _killed)
    with pytest.raises(KilledError):
        await restored(objects, folder, url)
    assert (folder / "moorage.db").exists()
    monkeypatch.undo()
    with pytest.raises(ConflictError, match="another MOORAGE_DATABASE_URL"):
        await restored(objects, folder, sqlite_url(tmp_path / "other.db"))
    assert (await restored(objects, folder, url)).blobs == len(blobs)
    assert not (folder / "restore.unfinished").exists()


def _killed(*_arguments: object) -> None:
    raise KilledError


class CountedObjects(S3Objects):
    """A bucket that counts the reads of whole objects and ends the process at the n-th upload."""

    reads = 0
    killed_at = 0
    writes = 0

    def get_file(self, key: str, path: Path) -> bool:
        self.reads += 1
        return super().get_file(key, path)

    def put_file(self, key: str, path: Path) -> None:
        self.writes += 1
        if self.writes == self.killed_at:
            raise KilledError
        super().put_file(key, path)


@both_shapes
async def test_what_is_restored_into_s3_is_what_was_there(
    here: Installation, objects: FailingObjects, target: tuple[Path, str], s3: FakeS3
) -> None:
    blobs = await filled(here)
    await here.create(objects)
    client = s3.client("moorage")
    stored, heads = S3Objects(client, "blobs"), S3Objects(client, "heads")
    result = await restored(objects, *target, stored=stored, stored_heads=heads)
    assert (result.blobs, result.missing, result.newer_heads) == (len(blobs), (), ())
    assert not list((target[0] / "blobs").glob("*/*"))
    cache = BlobCache(target[0] / "cache", min_free_fraction=0.0)
    with closing(S3BlobStore(client, cache, 1 << 30)) as store:
        for name, size_bytes in blobs.items():
            (await store.open(Digest(name), size_bytes)).close()
    assert read_heads(heads) == read_heads(LocalObjects(here.folder / "keys" / "logs")) != {}
    assert not (target[0] / "restore.copied").exists()


@pytest.mark.only_sqlite  # the database is a file of the data directory
async def test_a_killed_restore_into_s3_goes_on_and_reads_nothing_of_its_own_again(
    here: Installation, objects: FailingObjects, tmp_path: Path, s3: FakeS3
) -> None:
    blobs = await filled(here)
    await here.create(objects)
    folder = tmp_path / "restored"
    url = sqlite_url(folder / "moorage.db")
    client = s3.client()
    first = next(iter(blobs))
    foreign = S3Objects(client, "blobs")  # it was there before: only its bytes can say what it is
    foreign.put(f"{first[:2]}/{first}", bytes(blobs[first]), expected=ANY)
    stored = CountedObjects(client, "blobs")
    stored.killed_at = 4
    with pytest.raises(KilledError):
        await restored(objects, folder, url, stored=stored)
    done = (folder / "restore.copied").read_text().split()
    assert stored.reads == 1
    assert set(done) < set(blobs)
    again = CountedObjects(client, "blobs")
    await restored(objects, folder, url, stored=again)
    assert (again.reads, again.writes) == (int(first not in done), len(blobs) - len(done))
    for name in blobs:
        data = client.get(f"blobs/{name[:2]}/{name}")
        assert data is not None
        assert Digest.of(b"".join(data[1])).hex == name


@pytest.mark.only_sqlite  # the database is a file of the data directory
async def test_newer_heads_of_a_store_that_survived_stay(
    here: Installation, objects: FailingObjects, tmp_path: Path, s3: FakeS3
) -> None:
    await filled(here)
    await here.create(objects)
    await here.owner.put_up_to(await here.owner.log(), 4)
    client = s3.client()
    survived = S3Objects(client, "heads")
    newest = read_heads(LocalObjects(here.folder / "keys" / "logs"))
    for name, head in newest.items():
        survived.put(name, head, expected=ANY)
    folder = tmp_path / "restored"
    url = sqlite_url(folder / "moorage.db")
    stored = S3Objects(client, "blobs")
    result = await restored(objects, folder, url, stored=stored, stored_heads=survived)
    assert len(result.newer_heads) == 1
    assert read_heads(survived) == newest


async def test_a_folder_that_has_blobs_of_its_own_is_no_place_of_backups(
    here: Installation,
) -> None:
    await filled(here)
    with pytest.raises(ConflictError, match="no place of backups"):
        await here.create(LocalObjects(here.folder))
    assert not (here.folder / "installation").exists()


async def test_a_damaged_object_is_said_and_ends_no_backup(
    here: Installation, objects: FailingObjects, tmp_path: Path, s3: FakeS3
) -> None:
    client = s3.client()
    cache = BlobCache(tmp_path / "cache", min_free_fraction=0.0)
    with closing(S3BlobStore(client, cache, 1 << 30)) as store:
        in_s3 = replace(here, store=store)
        digest = await in_s3.put(b"some bytes")
        client.put(f"blobs/{digest.hex[:2]}/{digest.hex}", b"same bytes")
        await cache.delete(digest)
        made = await in_s3.create(objects)
    assert made.manifest.lacking == (digest,)


async def test_the_age_of_the_newest_backup_is_a_metric(
    here: Installation, objects: FailingObjects
) -> None:
    name = "moorage_backup_last_completed_timestamp_seconds"
    place = BackupPlace(objects)
    age = BackupAge("directory", lambda: place)
    await age.step()
    assert value(name, store="directory") == 0
    await here.create(objects)
    made = await here.create(objects)
    await age.step()
    assert value(name, store="directory") == int(made.manifest.made_at.timestamp())

    def away() -> BackupPlace:
        raise StorageError("the place is away")

    with pytest.raises(StorageError):
        await BackupAge("directory", away).step()
    assert value(name, store="directory") > 0
