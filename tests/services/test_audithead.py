"""The audit log's newest row outside the database: a restored older database is noticed. F80."""

from pathlib import Path
from secrets import token_hex

import pytest
from sqlalchemy import text

from app.core.errors import ConflictError, StorageError
from app.core.principal import OPERATOR
from app.db.audit import AuditLog, ChainHead
from app.services.assembly import Services
from app.services.audithead import AuditHead
from tests.conftest import MakeSettings
from tests.installation import running
from tests.services.bench import audited


async def change(services: Services, count: int = 1) -> None:
    for _ in range(count):
        await services.tenants.tokens.create(f"token {token_hex(4)}")


async def last(services: Services) -> ChainHead:
    head = await services.shared.db.read(lambda s: AuditLog(s).last())
    assert head is not None
    return head


def filed(services: Services) -> str:
    return path_of(services).read_text()


def path_of(services: Services) -> Path:
    return services.shared.settings.data_dir / "keys" / "logs" / "audit.chain"


def another(services: Services) -> AuditHead:
    """Return the head as another process has it, which remembers nothing."""
    return AuditHead(services.shared.db, services.shared.heads, services.shared.now)


def go_back(services: Services, count: int) -> None:
    """Take the newest rows away, as a restored older database does."""
    query = text("DELETE FROM audit WHERE seq > (SELECT max(seq) FROM audit) - :count")
    with services.shared.db.engine.begin() as connection:
        connection.execute(query, {"count": count})


async def test_the_newest_row_is_filed(services: Services) -> None:
    head = services.shared.audit_head
    for _ in range(3):
        await change(services)
        await head.step()
        newest = await last(services)
        assert filed(services) == f"{newest.seq} {newest.hash}\n"
        assert (await head.problem(), head.note()) == (None, None)


async def test_a_process_that_is_behind_files_no_older_row(services: Services) -> None:
    late = another(services)
    await change(services)
    before = await last(services)
    await change(services)
    await services.shared.audit_head.step()
    newest = filed(services)
    late._keep(before)
    assert filed(services) == newest


@pytest.mark.parametrize("grown", [0, 2, 5], ids=["shorter", "still shorter", "longer"])
async def test_F80_a_restored_older_database_is_noticed_until_an_admin_decides(
    services: Services, grown: int
) -> None:
    await change(services, 5)
    await services.shared.audit_head.step()
    before, seq = filed(services), (await last(services)).seq
    go_back(services, 3)
    await change(services, grown)
    head = another(services)
    assert (await services.shared.audit.verify())[1] is None  # the chain itself is whole
    problem = await head.problem()
    assert problem is not None
    assert problem.startswith(f"row {seq} of the audit log was written before and is ")
    await head.step()
    assert head.note() == problem
    assert filed(services) == before  # no later row hides it

    await head.recover(OPERATOR)
    [row] = await audited(services, "audit.recover")
    assert row.detail == f"without the row {seq} that was filed"
    await head.step()
    assert (await head.problem(), head.note()) == (None, None)
    assert (await last(services)).seq == int(filed(services).split()[0])
    with pytest.raises(ConflictError, match="nothing is wrong"):
        await head.recover(OPERATOR)


@pytest.mark.parametrize("content", [b"", b"7", b"7 abc\n", b"\xff" * 80])
async def test_an_unreadable_file_is_an_error_until_an_admin_decides(
    services: Services, content: bytes
) -> None:
    await change(services)
    path_of(services).write_bytes(content)
    head = another(services)
    with pytest.raises(StorageError, match="moorage audit recover"):
        await head.problem()
    await head.step()
    assert "moorage audit recover" in (head.note() or "")
    await head.recover(OPERATOR)
    assert await head.problem() is None
    [row] = await audited(services, "audit.recover")
    assert row.detail == "its head was unreadable"


async def test_a_first_start_has_nothing_to_compare_with(make_settings: MakeSettings) -> None:
    async with running(make_settings()) as services:
        assert await services.shared.audit_head.problem() is None
        with pytest.raises(ConflictError):
            await services.shared.audit_head.recover(OPERATOR)


async def test_F80_a_lost_head_is_noticed_once_one_was_kept(services: Services) -> None:
    await change(services)
    await services.shared.audit_head.step()
    path_of(services).unlink()
    head = another(services)
    problem = await head.problem()
    assert problem is not None
    assert "is lost" in problem
    await change(services)
    await head.step()
    assert head.note() == problem
    assert not path_of(services).exists()  # no new one hides it
    await head.recover(OPERATOR)
    [row] = await audited(services, "audit.recover")
    assert row.detail == "its head was lost"
    await head.step()
    assert (await head.problem(), head.note()) == (None, None)
