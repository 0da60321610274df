"""Look-ups: what they say does not depend on whether a session asks."""

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import text

from app.core.digest import Digest
from app.core.errors import DatabaseBusyError
from app.core.goproxy import RequestKind
from app.db.engine import Database, Session
from app.db.garbage import GarbageTable, is_marked
from app.db.modules import ModuleFile, ModuleTable, files_and_mark, files_of
from app.db.origins import OriginTable
from tests.db.moments import T0, blob

pytestmark = pytest.mark.both_shapes

NAME, V = "example.com/x", "v1.0.0"
ZIP, OTHER = Digest.of(b"zip"), Digest.of(b"other")


def with_files(session: Session) -> list[int]:
    """Record a .info, and a zip whose digest is ZIP, under the first of two origins."""
    origins = [OriginTable(session).origin(f"https://{name}.example") for name in ("one", "two")]
    table, at = ModuleTable(session), T0 + timedelta(microseconds=7)
    info = b'{"Version":"v1.0.0"}'
    digest = Digest.of(info)
    table.add(ModuleFile(origins[0], NAME, V, RequestKind.INFO, digest, len(info), at, info))
    blob(session, b"zip")
    table.add(ModuleFile(origins[0], NAME, V, RequestKind.ZIP, ZIP, 3, at, None, "h1:a", "h1:b"))
    return origins


async def test_a_look_up_says_the_same_with_and_without_a_session(database: Database) -> None:
    one, two = await database.write(with_files)
    lookups = [
        files_of(origins, NAME, V, kind)
        for origins in ([one], [two], [one, two], [])
        for kind in (None, RequestKind.ZIP, RequestKind.MOD)
    ]
    for lookup in lookups:
        assert await database.read(lookup) == await database.read(lambda s, ask=lookup: ask(s))
    [archive] = await database.read(files_of([two, one], NAME, V, RequestKind.ZIP))
    assert (archive.sha256, archive.stored_at) == (ZIP, T0 + timedelta(microseconds=7))


async def test_a_blob_without_a_mark_is_known_beside_the_files_of_a_version(
    database: Database,
) -> None:
    one, two = await database.write(with_files)
    await database.write(lambda s: GarbageTable(s).condemn([(OTHER, 5)], T0))

    async def seen(origin: int, digest: Digest) -> tuple[int, bool]:
        files, is_unmarked = await database.read(files_and_mark(origin, NAME, V, digest))
        return len(files), is_unmarked

    assert await seen(one, ZIP) == (2, True)
    assert await seen(one, Digest.of(b"new")) == (2, True)
    assert await seen(one, OTHER) == (2, False)
    assert await seen(two, ZIP) == (0, False)  # nothing is known without a row
    assert [await database.read(is_marked(digest)) for digest in (ZIP, OTHER)] == [False, True]


async def test_a_look_up_that_asks_for_what_it_may_store_requires_room(database: Database) -> None:
    one, _ = await database.write(with_files)
    answers = [
        await database.read_before_storing(files_of([one], NAME, V, kind), bool)
        for kind in (RequestKind.INFO, RequestKind.MOD)
    ]
    assert [len(files) for files in answers] == [1, 0]


@pytest.mark.only_sqlite
async def test_a_database_that_cannot_be_read_is_busy_for_a_look_up_too(database: Database) -> None:
    await database.write(lambda s: s.execute(text("drop table module_files")))
    with pytest.raises(DatabaseBusyError, match="no such table"):
        await database.read(files_of([1], NAME, V))


@pytest.mark.only_sqlite
async def test_a_look_up_sees_what_was_committed_before_it_and_holds_no_snapshot(
    database: Database,
) -> None:
    one, _ = await database.write(with_files)
    before = await asyncio.gather(*(database.read(files_of([one], NAME, V)) for _ in range(8)))
    await database.write(lambda s: s.execute(text("delete from module_files")))
    assert {len(files) for files in before} == {2}
    assert await database.read(files_of([one], NAME, V)) == []
