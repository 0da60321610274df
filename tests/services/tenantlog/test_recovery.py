"""A restored older database: read but not written, until an admin decides what clients see."""

import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import make_url

from app.core.errors import (
    ConflictError,
    StorageError,
)
from app.core.principal import OPERATOR
from app.db.sealed import SealedTable
from app.db.sqlite import is_sqlite
from app.services.secrets import SecretBox
from app.services.tenantlog.watch import LogWatch
from tests import postgres
from tests.services.publiclog.bench import V1, audited, run_sql, sums
from tests.services.publiclog.goclient import Misbehaved
from tests.services.tenantlog.owner import Owner, process

MakeOwner = Callable[[], Owner]
ROOT = Path(__file__).parents[3]


async def backed_up(owner: Owner, tmp_path: Path) -> str:
    if not is_sqlite(owner.db.url):
        owner.db.engine.dispose()
        owner.db.reader.dispose()  # a template must have no connections
        cluster = postgres.cluster()
        return cluster.url(cluster.create(make_url(owner.db.url).database or ""))
    path = tmp_path / "backup.db"
    with contextlib.closing(sqlite3.connect(owner.db.engine.url.database or "")) as connection:
        connection.execute("VACUUM INTO ?", (str(path),))
    return f"sqlite:///{path}"


@pytest.mark.both_shapes
async def test_a_log_whose_key_is_lost_is_replaced_by_a_new_one(owner: Owner) -> None:
    log = await owner.log()
    await owner.put_up_to(log, 3)
    watch = LogWatch(owner.db, owner.logs, owner.heads)
    await watch.step()
    assert watch.refusals == {}
    owner.logs._box = SecretBox(b"L" * 32)  # the key that sealed the log's own is lost
    await watch.step()
    assert "moorage sumdb recover --new-log" in watch.refusals[log.name]
    with pytest.raises(StorageError, match="can't be opened with this key"):
        await owner.put(log, 3)
    with pytest.raises(ConflictError, match="only --new-log helps"):
        await owner.recovery.recover("acme", OPERATOR, accept=True)
    new = await owner.recovery.recover("acme", OPERATOR, accept=False)
    assert (new.name, (await owner.put(new, 3)).record) == ("sum.corp.example/acme-2", 0)
    assert await owner.client(log).lookup("example.com/m2", V1) == sums(2)
    with pytest.raises(ConflictError, match="nothing is wrong"):
        await owner.recovery.recover("acme", OPERATOR, accept=False)
    await watch.step()
    assert watch.refusals == {}
    sealed = await owner.db.read(lambda s: SealedTable(s).all())
    assert [one.names for one in sealed if one.kind == "log"] == [(new.name,)]


@pytest.mark.both_shapes
async def test_F80_a_restored_older_database_is_read_but_not_written(
    owner: Owner, tmp_path: Path
) -> None:
    log = await owner.log()
    await owner.put_up_to(log, 10)
    backup = await backed_up(owner, tmp_path)
    await owner.put_up_to(log, 13)
    client = owner.client(log)
    await client.lookup("example.com/m12", V1)
    owner.db.close()
    with process(backup, tmp_path) as restored:
        with pytest.raises(ConflictError) as raised:
            await restored.put(log, 10)
        assert str(raised.value) == (
            "the log sum.corp.example/acme is not written to: its database has 10 records, and a "
            "tree of 13 was signed before; an older backup was restored. An admin decides with "
            "`moorage sumdb recover`"
        )
        assert (await restored.put(log, 9)).record == 9
        assert await restored.client(log).lookup("example.com/m9", V1) == sums(9)
        [finding] = (await restored.fsck(log)).findings
        assert "a tree of 13 records was signed before" in finding
        assert (await restored.fresh(log)).size == 10


async def test_F80_a_new_log_leaves_clients_of_the_old_one_in_peace(
    owner: Owner, tmp_path: Path
) -> None:
    log = await owner.log()
    await owner.put_up_to(log, 10)
    backup = await backed_up(owner, tmp_path)
    await owner.put_up_to(log, 13)
    with process(backup, tmp_path) as restored:
        new = await restored.recovery.recover("acme", OPERATOR, accept=False)
        assert (new.name, new.size) == ("sum.corp.example/acme-2", 0)
        assert new.vkey != log.vkey
        assert await restored.log() == new
        await restored.put(new, 10)
        with pytest.raises(ConflictError, match="is retired"):
            await restored.put(log, 10)
        assert await restored.client(log).lookup("example.com/m9", V1) == sums(9)
        assert await restored.client(new).lookup("example.com/m10", V1) == sums(10)
        [row] = await audited(restored.db, "sumdb.recover")
        assert row.detail == "retired"


@pytest.mark.both_shapes
async def test_F80_going_on_with_the_old_log_is_a_fork_for_those_who_saw_more(
    owner: Owner, tmp_path: Path
) -> None:
    log = await owner.log()
    await owner.put_up_to(log, 10)
    old = owner.client(log)
    await old.lookup("example.com/m9", V1)
    backup = await backed_up(owner, tmp_path)
    await owner.put_up_to(log, 13)
    saw_more = owner.client(log)
    await saw_more.lookup("example.com/m12", V1)
    with process(backup, tmp_path) as restored:
        # The very process that saw the larger head: what it remembers of the file is outdated.
        await restored.logs.latest(log)
        assert (
            await restored.recovery.recover("acme", OPERATOR, accept=True) == await restored.log()
        )
        for number in range(20, 25):
            await restored.put(log, number)
        tree = restored.heads.read(log.name)
        assert tree is not None
        assert tree.size == 15
        client = restored.client(log, old.latest)
        assert await client.lookup("example.com/m24", V1) == sums(24)
        with pytest.raises(Misbehaved):
            await restored.client(log, saw_more.latest).lookup("example.com/m24", V1)
        assert (await restored.fsck(log)).findings == ()


async def test_F80_other_processes_keep_smaller_heads_again_after_a_recovery(
    make_owner: MakeOwner,
) -> None:
    one, two = make_owner(), make_owner()
    log = await one.log()
    await one.put_up_to(log, 2)
    head_of_two = await one.logs.latest(log)
    await one.put_up_to(log, 3)
    for other in (one, two):
        await other.logs.latest(log)
    # As if an older database had been restored under both.
    await run_sql(one.db, "delete from log_hashes where place >= 3")
    await run_sql(one.db, "delete from log_records where record = 2")
    statement = "update tenant_logs set size = 2, head = :head"
    await run_sql(one.db, statement, head=head_of_two)
    await one.recovery.recover("acme", OPERATOR, accept=True)
    await two.put(log, 5)
    tree = two.heads.read(log.name)
    assert tree is not None
    assert tree.size == 3


async def test_F80_a_database_from_before_the_log_does_not_use_its_name_again(
    database_url: str, tmp_path: Path
) -> None:
    with process(database_url, tmp_path) as owner:
        backup = await backed_up(owner, tmp_path)
        log = await owner.log()
        await owner.put(log, 1)
    with process(backup, tmp_path) as restored:
        assert (await restored.log()).name == "sum.corp.example/acme-2"


async def test_F80_a_damaged_head_file_stops_the_log_until_an_admin_decides(owner: Owner) -> None:
    log = await owner.log()
    await owner.put_up_to(log, 3)
    owner.head_file(log).write_bytes(b"")
    with pytest.raises(StorageError, match="holds no tree head; restore it"):
        await owner.put(log, 3)
    await owner.recovery.recover("acme", OPERATOR, accept=True)
    await owner.put(log, 3)
    assert (await owner.fsck(log)).findings == ()


async def test_there_is_nothing_to_recover_in_a_log_that_is_well(owner: Owner) -> None:
    log = await owner.log()
    await owner.put(log, 1)
    with pytest.raises(ConflictError, match="nothing is wrong with the log"):
        await owner.recovery.recover("acme", OPERATOR, accept=True)
    await owner.logs.create("acme")
    assert (await owner.fresh(log)).retired is False


@pytest.mark.parametrize("accept", [True, False], ids=["accept", "new-log"])
async def test_F80_a_log_with_records_and_no_head_file_grows_no_more_until_an_admin_decides(
    owner: Owner, accept: bool
) -> None:
    """The file was lost: nobody knows how large the newest head was that clients have seen."""
    log = await owner.log()
    await owner.put_up_to(log, 3)
    owner.head_file(log).unlink()
    with pytest.raises(ConflictError, match="it has 3 records and no head"):
        await owner.put(log, 3)
    # What clients ask for makes no new file: that would hide the loss.
    owner.logs._filed_heads.clear()
    await owner.logs.latest(log)
    assert await owner.client(log).lookup("example.com/m2", V1) == sums(2)
    assert owner.heads.read(log.name) is None
    with pytest.raises(ConflictError, match="no head"):
        await owner.put(log, 3)
    assert (await owner.fsck(log)).findings == ("it has no head file; see `moorage sumdb recover`",)
    new = await owner.recovery.recover("acme", OPERATOR, accept=accept)
    await owner.put(new, 3)
    assert (new.name == log.name) is accept
    assert (await owner.fsck(new)).findings == ()


async def test_F80_a_crash_before_the_first_head_is_filed_stops_no_log(owner: Owner) -> None:
    """The empty log's head is filed before the first record is committed."""
    log = await owner.log()
    await owner.put(log, 0)
    tree = owner.heads.read(log.name)
    assert tree is not None
    head = (await owner.fresh(log)).head
    owner.heads.replace(log.name, log.head)  # as a kill right after the commit leaves it
    owner.logs._filed_heads.clear()
    await owner.put(log, 1)
    assert (await owner.fresh(log)).head != head


async def test_F80_logs_that_refuse_are_noticed_until_they_grow_again(owner: Owner) -> None:
    watch = LogWatch(owner.db, owner.logs, owner.heads)
    logs = {tenant: await owner.log(tenant) for tenant in ("acme", "globex", "initech", "quiet")}
    for log in logs.values():
        if log.name != logs["quiet"].name:
            await owner.put_up_to(log, 3)
    await watch.step()
    assert (watch.refusals, watch.note()) == ({}, None)
    owner.head_file(logs["acme"]).unlink()
    owner.head_file(logs["globex"]).write_bytes(b"")
    await watch.step()
    assert set(watch.refusals) == {logs["acme"].name, logs["globex"].name}
    note = watch.note()
    assert note is not None
    assert note.startswith("2 tenants' logs are not written to")
    assert "acme" not in note  # everybody may ask /readyz
    for tenant in ("acme", "globex"):
        await owner.recovery.recover(tenant, OPERATOR, accept=True)
    await watch.step()
    assert watch.refusals == {}


async def test_a_log_that_is_a_record_ahead_of_its_file_refuses_nothing(owner: Owner) -> None:
    """An append writes the database first, then the file."""
    log = await owner.log()
    await owner.put_up_to(log, 3)
    head = (await owner.fresh(log)).head
    await owner.put(log, 3)
    owner.heads.replace(log.name, head)
    watch = LogWatch(owner.db, owner.logs, owner.heads)
    await watch.step()
    assert watch.refusals == {}
