"""Rows of the tenants' own logs: one record of a version, one name for ever."""

import pytest
from sqlalchemy.exc import IntegrityError, NoResultFound

from app.db.engine import Session
from app.db.tenantlogs import LogRecord, TenantLog, TenantLogTable
from app.db.tenants import TenantTable
from tests.db.moments import T0
from tests.nouns import recorded_tenant

pytestmark = pytest.mark.both_shapes


def tenant(session: Session, name: str = "acme") -> int:
    TenantTable(session).add_all([recorded_tenant(name)])
    made = TenantTable(session).get(name)
    assert made is not None
    return made.id


def log(session: Session, tenant_id: int, name: str = "sum.example/acme") -> TenantLog:
    return TenantLogTable(session).add(tenant_id, name, "vkey", b"sealed", b"", T0)


def put(session: Session, of: TenantLog, number: int, module: str | None = None) -> LogRecord:
    record = LogRecord(number, module or f"example.com/m{number}", "v1.0.0", b"text %d" % number)
    TenantLogTable(session).append(of.id, record, {2 * number: bytes(32)}, b"head %d" % number, T0)
    return record


def test_a_new_log_is_empty_and_its_tenants(session: Session) -> None:
    table, owner = TenantLogTable(session), tenant(session)
    assert table.of(owner) is None
    made = log(session, owner)
    assert (made.size, made.head, made.retired, made.tenant_id) == (0, b"", False, owner)
    assert table.of(owner) == table.get(made.id) == table.locked(made.id) == made
    assert table.last(made.id) == -1
    assert table.records(made.id, 0, 10) == []


def test_a_record_comes_with_its_hashes_and_the_head_that_covers_it(session: Session) -> None:
    table = TenantLogTable(session)
    made = log(session, tenant(session))
    records = [put(session, made, number) for number in range(3)]
    after = table.get(made.id)
    assert (after.size, after.head) == (3, b"head 2")
    assert table.last(made.id) == 2
    assert table.records(made.id, 1, 1) == [records[1]]
    assert table.records(made.id, 1, 9) == records[1:]
    assert table.record(made.id, "example.com/m1", "v1.0.0") == records[1]
    assert table.record(made.id, "example.com/m1", "v1.0.1") is None
    assert set(table.hashes(made.id, [0, 1, 4])) == {0, 4}


@pytest.mark.parametrize(("number", "module"), [(0, "example.com/new"), (1, "example.com/m0")])
def test_no_number_and_no_version_has_two_records(
    session: Session, number: int, module: str
) -> None:
    made = log(session, tenant(session))
    put(session, made, 0)
    with pytest.raises(IntegrityError):
        put(session, made, number, module)


def test_a_tenants_logs_are_its_present_log_and_its_retired_ones(session: Session) -> None:
    table = TenantLogTable(session)
    acme, globex = tenant(session), tenant(session, "globex")
    assert table.of_tenant(acme) == []
    old = log(session, acme, "sum.example/old")
    table.retire(old.id)
    new = log(session, acme, "sum.example/new")
    log(session, globex, "sum.example/globex")
    assert [(made.id, made.retired) for made in table.of_tenant(acme)] == [
        (old.id, True),
        (new.id, False),
    ]


def test_two_logs_have_records_of_their_own(session: Session) -> None:
    table = TenantLogTable(session)
    one = log(session, tenant(session))
    two = log(session, tenant(session, "globex"), "sum.example/globex")
    put(session, one, 0)
    put(session, two, 0)
    assert table.last(one.id) == table.last(two.id) == 0
    table.retire(one.id)
    assert [each.retired for each in table.all()] == [True, False]


def test_a_name_is_given_once_even_after_its_tenant_is_gone(session: Session) -> None:
    table, owner = TenantLogTable(session), tenant(session)
    made = log(session, owner)
    table.release_of([owner])
    session.expire_all()
    gone = table.get(made.id)
    assert (gone.retired, gone.tenant_id) == (True, None)
    assert table.of(owner) is None
    with pytest.raises(IntegrityError):
        log(session, owner)


def test_a_retired_log_makes_room_for_another(session: Session) -> None:
    table, owner = TenantLogTable(session), tenant(session)
    first = log(session, owner)
    table.retire(first.id)
    second = log(session, owner, "sum.example/acme-2")
    current = table.of(owner)
    assert current is not None
    assert current.id == second.id
    assert second.id > first.id


def test_a_log_that_was_never_made_is_not_found(session: Session) -> None:
    with pytest.raises(NoResultFound):
        TenantLogTable(session).get(4711)


def test_a_seed_is_in_no_text_of_the_log(session: Session) -> None:
    assert "sealed" not in repr(log(session, tenant(session)))
