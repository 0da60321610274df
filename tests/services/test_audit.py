"""The audit log in the database: every change leaves a row, in its transaction or not at all."""

from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest
from sqlalchemy import text

from app.core import errors
from app.db.audit import AuditLog
from app.services.assembly import Services
from app.services.clock import utc_now
from app.services.jobs import SYNC
from tests.conftest import PutRelease
from tests.fakes.faults import Fault
from tests.fakes.godev import FakeGodev
from tests.services.bench import NAME, PATH, audit_rows, record_of, run_sql
from tests.statements import refused

Change = Callable[[Services], Awaitable[object]]


async def create(services: Services) -> object:
    return await services.tenants.tokens.create("name")


async def revoke(services: Services) -> object:
    [token] = await services.tenants.tokens.page()
    return await services.tenants.tokens.revoke(token.id)


async def take_over(services: Services) -> object:
    armored = (await services.releases.keyring.recorded()).armored + b"\n"
    return await services.releases.keyring.take_over(armored, "cli", replace=False)


async def read_index(services: Services) -> object:
    return await services.releases.reader.refresh("cli")


async def fail_to_read_index(services: Services) -> object:
    with suppress(errors.UpstreamError):
        await services.releases.reader.refresh("cli")
    return None


async def ingest(services: Services) -> object:
    return await services.releases.ingestion.ensure(NAME, actor="cli")


async def ingest_wrong_bytes(services: Services) -> object:
    with suppress(errors.VerificationError):
        await services.releases.ingestion.ensure(NAME, actor="cli")
    return None


async def ask_for_a_job(services: Services) -> object:
    return await services.upkeep.jobs.ask_for(SYNC, "cli")


async def lose_a_blob(services: Services) -> object:
    digest = (await record_of(services)).file.sha256
    assert digest is not None
    return await services.upkeep.repair.damaged(digest, "test", fetch=False)


async def contradict(services: Services) -> object:
    return await services.releases.reader.refresh("cli")


# What is done before, the change itself, the actions of its rows.
CHANGES: dict[str, tuple[list[Change], Change, list[str]]] = {
    "token.create": ([], create, ["token.create"]),
    "token.revoke": ([create], revoke, ["token.revoke"]),
    "keyring": ([], take_over, ["keyring.activate"]),
    "index": ([], read_index, ["index.accept"]),
    "index-failure": ([], fail_to_read_index, ["index.fail"]),
    "index-conflict": ([read_index], contradict, ["index.accept", "index.conflict"]),
    "ingestion": ([read_index], ingest, ["release.verified"]),
    "quarantine": ([read_index], ingest_wrong_bytes, ["release.quarantined"]),
    "job": ([], ask_for_a_job, ["job.create"]),
    "damage": ([read_index, ingest], lose_a_blob, ["blob.damage"]),
}


def arrange(name: str, fake: FakeGodev, data: bytes) -> None:
    if name == "index-failure":
        fake.set_index(b"[]")
    if name == "index-conflict":
        fake.put_file(NAME, data, sha256="ab" * 32)
    if name == "quarantine":
        fake.fault(PATH, Fault.flip_byte(at=0), times=None)


async def dump(services: Services) -> dict[str, list[object]]:
    """Return every row of every table that says what is so; leases are not that."""
    tables = "blobs generation jobs keyrings tokens index_documents index_conflicts index_status "
    tables += "release_files release_verdicts audit"

    def work(session: object) -> dict[str, list[object]]:
        return {
            table: [tuple(row) for row in session.execute(text(f"SELECT * FROM {table}"))]  # type: ignore[attr-defined]
            for table in tables.split()
        }

    return await services.shared.db.read(work)


@pytest.mark.parametrize("name", CHANGES)
async def test_every_change_leaves_its_row(
    name: str, quick: Services, fake: FakeGodev, put_release: PutRelease
) -> None:
    data = put_release()
    before, change, actions = CHANGES[name]
    for earlier in before:
        await earlier(quick)
    arrange(name, fake, data)
    seen = len(await audit_rows(quick))
    await change(quick)
    new = (await audit_rows(quick))[seen:]
    assert [row.action for row in new] == actions
    assert all(
        row.actor == ("system" if name in ("index-failure", "damage") else "cli") for row in new
    )
    assert await quick.shared.audit.verify() == (seen + len(new), None)


@pytest.mark.parametrize("name", CHANGES)
async def test_a_change_that_cannot_be_audited_does_not_happen(
    name: str, quick: Services, fake: FakeGodev, put_release: PutRelease
) -> None:
    """A dropped event fails the change (F-ToB-4)."""
    data = put_release()
    before, change, _ = CHANGES[name]
    for earlier in before:
        await earlier(quick)
    arrange(name, fake, data)
    rows = await dump(quick)
    with (
        refused(quick.shared.db, "INSERT INTO audit", "no audit"),
        pytest.raises(errors.ConflictError, match="no audit"),
    ):
        await change(quick)
    assert await dump(quick) == rows
    await change(quick)
    assert await dump(quick) != rows


async def test_a_change_that_fails_leaves_no_row(services: Services) -> None:
    token, _ = await services.tenants.tokens.create("name")
    seen = await audit_rows(services)
    with (
        refused(services.shared.db, "UPDATE generation", "no"),
        pytest.raises(errors.ConflictError),
    ):
        await services.tenants.tokens.revoke(token.id)  # the bump comes after the audit row
    assert await audit_rows(services) == seen
    assert (await services.tenants.tokens.page())[0].revoked_at is None


FORGERIES = {
    "modified": "UPDATE audit SET actor = 'nobody' WHERE seq = {seq}",
    "time": "UPDATE audit SET at = '2020-01-01 00:00:00.000000' WHERE seq = {seq}",
    "detail": "UPDATE audit SET detail = detail || ' ' WHERE seq = {seq}",
    "removed": "DELETE FROM audit WHERE seq = {seq}",
    "moved": "UPDATE audit SET seq = -1 WHERE seq = {seq}",
    "previous-hash": "UPDATE audit SET prev_hash = hash WHERE seq = {seq}",
}


@pytest.mark.parametrize("seq", [1, 2, 5])
@pytest.mark.parametrize("name", FORGERIES)
async def test_a_forged_row_is_found_at_that_row(name: str, seq: int, services: Services) -> None:
    for number in range(6):
        await services.tenants.tokens.create(f"token {number}")
    assert await services.shared.audit.verify() == (7, None)
    await run_sql(services, FORGERIES[name].format(seq=seq))
    assert (await services.shared.audit.verify())[1] == seq


async def test_a_chain_longer_than_one_batch_is_checked_to_its_end(services: Services) -> None:
    await services.shared.db.write(fill)
    checked, broken = await services.shared.audit.verify()
    assert (checked > 1005, broken) == (True, None)
    await run_sql(services, "UPDATE audit SET object = 'x' WHERE seq = 1003")
    assert (await services.shared.audit.verify())[1] == 1003


def fill(session: object) -> None:
    log = AuditLog(session)  # type: ignore[arg-type]
    for number in range(1005):
        log.append(utc_now(), "system", "test.row", f"object {number}")


async def test_rows_are_listed_oldest_first_and_page_by_page(services: Services) -> None:
    for number in range(5):
        await services.tenants.tokens.create(f"token {number}")
    first = await services.shared.audit.list(after=0, limit=4)
    rest = await services.shared.audit.list(after=first[-1].seq, limit=4)
    assert [row.seq for row in (*first, *rest)] == [1, 2, 3, 4, 5, 6]
    assert [row.detail for row in rest] == [
        f"token {number}: admin for the platform" for number in (3, 4)
    ]
