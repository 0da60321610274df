"""Checking a tenant's whole log: every kind of damage is found and told in one line."""

from datetime import UTC, datetime

import pytest

from app.core import tlog
from app.core.digest import Digest
from app.core.goproxy import RequestKind
from app.core.note import sign
from app.core.notekey import generate, parse_skey
from app.core.tlog import Tree
from app.db.engine import Session
from app.db.modules import ModuleFile, ModuleTable
from app.services.secrets import SecretBox
from app.services.sumdb import fsck
from tests.services.publiclog.bench import V1, run_sql, sums
from tests.services.tenantlog.owner import Owner

SIZE = 21


@pytest.mark.parametrize("size", [0, 1, 2, SIZE])
async def test_a_log_that_is_whole_has_no_findings(owner: Owner, size: int) -> None:
    log = await owner.log()
    await owner.put_up_to(log, size)
    report = await owner.fsck(log)
    assert (report.log, report.records, report.findings) == (log.name, size, ())


@pytest.mark.parametrize(
    ("damage", "finding"),
    [
        (
            "update log_records set text = cast(replace(cast(text as text), 'h1:0', 'h1:1') "
            "as blob) where record = 7",
            "record 7 (example.com/m7@v1.0.0): its stored hashes are not those of its text",
        ),
        (
            "update log_records set text = cast('x' as blob) where record = 7",
            "record 7 (example.com/m7@v1.0.0): malformed record: it does not end in a newline",
        ),
        (
            "update log_records set module = 'example.com/other' where record = 7",
            "record 7 (example.com/other@v1.0.0): the record of example.com/other@v1.0.0 "
            "has a line for example.com/m7@v1.0.0",
        ),
        (
            "update log_hashes set hash = zeroblob(32) where place = 8",
            "record 5 (example.com/m5@v1.0.0): its stored hashes are not those of its text",
        ),
        (
            "delete from log_hashes where place = 8",
            "record 5 (example.com/m5@v1.0.0): its stored hashes are not those of its text",
        ),
        (
            "delete from log_records where record = 0",
            "record 0 is missing; what follows was not looked at",
        ),
        (
            "delete from log_records where record = 7",
            "record 7 is missing; what follows was not looked at",
        ),
        (
            "delete from log_records where record = 20",
            "record 20 is missing; what follows was not looked at",
        ),
        ("delete from log_records", "record 0 is missing; what follows was not looked at"),
        (
            "update tenant_logs set head = cast('x' as blob)",
            "the head does not verify: malformed note: "
            "it does not end in a blank line and signature lines",
        ),
        ("update tenant_logs set size = 20", "record 20 is beyond the head"),
        (
            "update tenant_logs set size = 22",
            "record 21 is missing; what follows was not looked at",
        ),
    ],
)
async def test_damage_is_found_whatever_is_read_at_once(
    owner: Owner, monkeypatch: pytest.MonkeyPatch, damage: str, finding: str
) -> None:
    log = await owner.log()
    await owner.put_up_to(log, SIZE)
    await run_sql(owner.db, damage)
    for batch in (3, 7, 500):
        monkeypatch.setattr(fsck, "_BATCH", batch)
        assert finding in (await owner.fsck(log)).findings, batch


@pytest.mark.parametrize(
    ("tree", "finding"),
    [
        (Tree(SIZE, tlog.Hash(bytes(32))), "the head's root is not that of the records"),
        (Tree(SIZE - 1, tlog.Hash(bytes(32))), "the head is of 20 records, and there are 21"),
    ],
)
async def test_a_head_of_another_tree_is_found(owner: Owner, tree: Tree, finding: str) -> None:
    log = await owner.log()
    await owner.put_up_to(log, SIZE)
    signer = parse_skey(SecretBox(b"k" * 32).open(log.seed, f"log:{log.name}"))
    head = sign(tlog.format_tree(tree), signer)
    await run_sql(owner.db, "update tenant_logs set head = :head", head=head)
    assert (await owner.fsck(log)).findings == (finding,)


async def test_a_head_that_another_key_signed_is_found(owner: Owner) -> None:
    log = await owner.log()
    await owner.put_up_to(log, SIZE)
    text = (await owner.fresh(log)).head.decode().partition("\n\n")[0] + "\n"
    head = sign(text, generate(log.name, b"x" * 32))
    await run_sql(owner.db, "update tenant_logs set head = :head", head=head)
    [finding] = (await owner.fsck(log)).findings
    assert finding.startswith("the head does not verify: the note is not signed by ")


async def test_F80_a_head_outside_the_database_of_another_timeline_is_found(owner: Owner) -> None:
    log = await owner.log()
    await owner.put_up_to(log, SIZE)
    signer = parse_skey(SecretBox(b"k" * 32).open(log.seed, f"log:{log.name}"))
    for size, says in (
        (22, "a tree of 22"),
        (20, "another tree of 20"),
        (21, "another tree of 21"),
    ):
        head = sign(tlog.format_tree(Tree(size, tlog.Hash(bytes(32)))), signer)
        owner.heads.replace(log.name, head)
        [finding] = (await owner.fsck(log)).findings
        assert finding == f"{says} records was signed before; see `moorage sumdb recover`"


@pytest.mark.parametrize(
    ("kind", "right", "what"),
    [(RequestKind.ZIP, sums(3).zip_h1, "zip"), (RequestKind.MOD, sums(3).go_mod_h1, "go.mod")],
)
async def test_stored_content_that_a_record_does_not_vouch_for_is_found(
    owner: Owner, kind: RequestKind, right: str, what: str
) -> None:
    log = await owner.log()
    await owner.put_up_to(log, SIZE)
    await run_sql(owner.db, "insert into origins (id, key) values (1, 'a'), (2, 'b')")
    await store(owner, 1, kind, sums(4).zip_h1)
    assert (await owner.fsck(log)).findings == (
        f"record 3 (example.com/m3@v1.0.0): no stored {what} has the recorded {right}",
    )
    # Another tenant's upstream may have other content under the same name.
    await store(owner, 2, kind, right)
    assert (await owner.fsck(log)).findings == ()


async def store(owner: Owner, origin: int, kind: RequestKind, h1: str) -> None:
    digest, at = Digest.of(h1.encode()), datetime(2026, 11, 23, tzinfo=UTC)
    file = ModuleFile(origin, "example.com/m3", V1, kind, digest, 1, at, b"x", h1)

    def work(session: Session) -> None:
        ModuleTable(session).add(file)

    await owner.db.write(work)
