"""The invariants by their numbers, each through real routes, a real store and a real database.

The tests of a layer go into the details of each; here each is seen to hold in both shapes.
"""

import asyncio
import random
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, event

from app.core import tlog
from app.core.digest import Digest
from app.core.effect import Effect
from app.db.engine import Database
from app.storage.blobstore import BlobBytes
from app.storage.freespace import FreeSpace
from app.storage.reading import LocalOpenBlob
from app.storage.staging import StagedFile
from tests.fakes.archives import archive_name
from tests.fakes.faults import Fault
from tests.fakes.modules import module
from tests.invariants.conftest import GO, LARGE, OWN, PRIVATE, PUBLIC, Installation, V, path_of
from tests.services.bench import audit_rows, staged, stored
from tests.statements import refused
from tests.web.harbour import (
    add_rule,
    add_token,
    assert_one_line,
    bearer,
    cooled,
    settled,
)
from tests.web.held import held_opening
from tests.web.wire import Got

pytestmark = pytest.mark.both_shapes
ZIP = path_of(PUBLIC)
MIB = 1 << 20
BOUND_S = 20.0  # of a hang
EVIL = {"x.go": b"package x // evil\n"}


@contextmanager
def at_each_commit(database: Database, look: Callable[[Connection], object]) -> Iterator[None]:
    """Have look see what every transaction of this process is about to commit."""
    event.listen(database.engine, "commit", look)
    try:
        yield
    finally:
        event.remove(database.engine, "commit", look)


async def test_1_a_row_names_no_bytes_and_a_head_covers_no_tile_that_are_not_durable(
    installation: Installation,
) -> None:
    """That stored bytes outlive a power cut: tests/storage/test_power_cut.py and test_fault_sweep.

    A tenant's log has its tiles as hashes in the database, a relayed one as rows.
    """
    seen: set[str] = set()
    early: list[str] = []
    logs = installation.services.sumdb.logs

    def look(connection: Connection) -> None:
        for (digest,) in connection.exec_driver_sql("SELECT sha256 FROM blobs").all():
            seen.add(digest)
            if not installation.has(Digest(digest)):
                early.append(f"blob {digest}")
        own = connection.exec_driver_sql("SELECT id, name, size FROM tenant_logs").all()
        for log, name, size in own:
            hashes = connection.exec_driver_sql(
                f"SELECT count(*) FROM log_hashes WHERE log_id = {log}"
            ).scalar_one()
            filed = logs._heads.read(name)
            if hashes != tlog.stored_hash_count(size) or (filed is not None and filed.size > size):
                early.append(f"head of {size} records in {name}")
        relayed = "SELECT count(*) FROM log_heads WHERE log NOT IN (SELECT log FROM log_tiles)"
        if connection.exec_driver_sql(relayed).scalar_one():
            early.append("relayed head")

    with at_each_commit(installation.services.shared.db, look):
        files = await installation.fill()
        for path in (f"sumdb/moorage.internal/acme/lookup/{one.path}@{V}" for one in (PUBLIC, OWN)):
            assert (await installation.ask(path)).status == 200
    zips = {Digest.of(data).hex for target, data in files.items() if not target.endswith(".mod")}
    assert seen >= zips
    assert early == []


async def test_2_no_byte_is_served_whose_digest_is_not_the_recorded_one(
    installation: Installation,
) -> None:
    """How a body ends whose blob changes under it: tests/web/test_streaming.py."""
    files = await installation.fill()
    name, _ = installation.archive
    for target in (f"/dl/{name}", f"/goproxy/acme/{ZIP}", f"/goproxy/acme/{path_of(LARGE)}"):
        data = files[target]
        await installation.damage(data)
        answers = await installation.ask_until(target, status=200)
        assert {got.status for got in answers} <= {200, 503}
        assert all(got.body == data for got in answers if got.status == 200), target
        assert installation.has(Digest.of(data))
    assert installation.godev.hits[f"/go/{name}"] == 2
    assert installation.proxy.hits[f"/{ZIP}"] == 2


async def test_3_a_known_hash_never_changes_and_another_one_is_kept_as_evidence(
    installation: Installation,
) -> None:
    await installation.fill()
    name, archive = installation.archive
    services = installation.services
    # A filename's hash, in the index.
    installation.godev.put_file(name, archive, sha256="ab" * 32)
    await services.releases.reader.refresh()
    await services.releases.catalog.current(fresh=True)
    assert (await installation.site.ask(f"/dl/{name}")).body == archive
    sums = await installation.site.ask(f"/dl/{name}.sha256")
    assert sums.text == Digest.of(archive).hex
    # A module's h1, by an upstream with a public log, by one without any, and by a publisher.
    for one, upstream in ((PUBLIC, installation.proxy), (PRIVATE, installation.private)):
        upstream.put(module(one.path, V, EVIL))
        await installation.damage(one.zip)
        answers = await installation.ask_until(f"/goproxy/acme/{path_of(one)}", status=502)
        assert {got.status for got in answers} <= {502, 503}
        assert_one_line(answers[-1], 502)
    assert_one_line(await installation.publish(module(OWN.path, V, EVIL)), 409)
    assert (await installation.ask(path_of(OWN))).body == OWN.zip
    actions = [row.action for row in await audit_rows(services)]
    assert (actions.count("index.conflict"), actions.count("module.refuse")) == (1, 2)
    for table, count in (("index_conflicts", 1), ("module_conflicts", 2)):
        assert await _count(installation, table) == count


async def _count(installation: Installation, table: str) -> int:
    def work(session: Any) -> int:
        query = f"SELECT count(*) FROM {table}"
        return int(session.connection().exec_driver_sql(query).scalar_one())

    return await installation.services.shared.db.read(work)


async def test_4_a_blob_is_reached_only_through_a_name_that_one_may_use_at_each_request(
    installation: Installation,
) -> None:
    files = await installation.fill()
    services, site = installation.services, installation.site
    _, others = await add_token(services, "other")
    for data in (PRIVATE.zip, OWN.zip):
        digest = Digest.of(data).hex
        for target in (f"/dl/{digest}", f"/v2/blobs/sha256:{digest}", f"/goproxy/other/{digest}"):
            got = await site.ask(target, headers=bearer(others))
            assert (got.status >= 400, data in got.body) == (True, False), target
    for one in (PRIVATE, OWN):
        assert (await installation.ask(path_of(one), "other", others)).status == 403
    # Hits, prepared for whoever may: another's token, none, and the same one once it is revoked.
    target = f"/goproxy/acme/{path_of(PRIVATE)}"
    assert (await installation.ask(path_of(PRIVATE))).body == files[target]
    assert (await installation.ask(path_of(PRIVATE), secret=others)).status in (401, 403)
    assert (await site.ask(target)).status == 401
    await services.tenants.tokens.revoke(installation.token)
    await settled(services)
    assert (await installation.ask(path_of(PRIVATE))).status == 401


async def test_5_upstream_failure_is_5xx_absence_is_404_and_a_denial_is_403_with_its_reason(
    installation: Installation,
) -> None:
    absent = "example.com/absent/@v/v1.0.0.zip"
    assert_one_line(await installation.ask(absent), 404)
    await add_rule(
        installation.services, "acme", Effect.DENY, "example.com/denied", reason="stolen"
    )
    denied = await installation.ask("example.com/denied/@v/v1.0.0.zip")
    assert_one_line(denied, 403)
    assert "stolen" in denied.text
    for number, fault in enumerate(
        (Fault.status(500), Fault.status(403), Fault.reset_at_once(), Fault.html_200())
    ):
        path = f"example.com/failing{number}/@v/list"
        installation.proxy.fault(f"/{path}", fault, times=None)
        assert (await installation.ask(path)).status in (502, 503, 504)
    name = archive_name("go1.99.1", "windows", "arm64")
    assert (await installation.site.ask(f"/dl/{name}")).status == 404
    installation.stop_upstreams()
    targets = ("example.com/unknown/@v/list", path_of(PRIVATE), "corp.example/unknown/@v/list")
    for path in targets:
        assert (await installation.ask(path)).status in (502, 503, 504), path
    assert (await installation.site.ask(f"/dl/{archive_name(GO)}")).status in (502, 503, 504)


async def test_6_private_names_reach_no_public_upstream_and_no_public_checksum_database(
    installation: Installation,
) -> None:
    await installation.fill()
    private = ("corp.example/private", "corp.example/unknown", "own.example/team/unknown")
    installation.private.fault(f"/{private[1]}/@v/list", Fault.status(503), times=None)
    for name in private:
        for tenant in ("acme", "other"):
            for tail in ("@v/list", "@latest", "@v/v1.0.0.zip", "@v/master.info"):
                await installation.ask(f"{name}/{tail}", tenant)
            for log in (installation.sumdb.name, "moorage.internal/acme"):
                await installation.ask(f"sumdb/{log}/lookup/{name}@{V}", tenant)
    for public in (installation.proxy, installation.sumdb):
        asked = [request.path for request in public.requests]
        assert [path for path in asked if "corp.example" in path or "own.example" in path] == []
        assert asked


Change = Callable[[Installation], Awaitable[Got]]
CHANGES: dict[str, tuple[str, Change]] = {
    "tenant.create": (
        "tenants",
        lambda i: i.admin.ask("POST", "/tenants", {"name": "third", "default": "deny"}),
    ),
    "rule.create": (
        "rules",
        lambda i: i.admin.ask(
            "POST", "/tenants/acme/rules", {"effect": "deny", "pattern": "a.example"}
        ),
    ),
    "token.create": (
        "tokens",
        lambda i: i.admin.ask("POST", "/tenants/acme/tokens", {"name": "ci", "scopes": ["read"]}),
    ),
    "credential.put": (
        "credentials",
        lambda i: i.admin.ask(
            "PUT", "/tenants/acme/credentials/up", {"kind": "bearer", "secret": "s3cret"}
        ),
    ),
    "ownership.put": (
        "owned_prefixes",
        lambda i: i.admin.ask("PUT", "/ownership/b.example", {"tenant": "acme"}),
    ),
    "module.publish": ("published_versions", lambda i: i.publish(OWN)),
    "release.verified": ("blobs", lambda i: i.site.ask(f"/dl/{i.archive[0]}")),
}


async def test_7_every_change_of_state_leaves_an_audit_row_in_its_transaction(
    installation: Installation,
) -> None:
    """Each other kind of change: tests/services/test_audit.py, tests/web/test_admin_*.py."""
    services = installation.services
    await services.releases.reader.refresh()
    for action, (table, change) in CHANGES.items():
        before = len(await audit_rows(services)), await _count(installation, table)
        with refused(services.shared.db, "INSERT INTO audit", "no audit"):
            assert (await change(installation)).status >= 400, action
        now = len(await audit_rows(services)), await _count(installation, table)
        assert now == before, action
        assert (await change(installation)).status in (200, 201), action
        assert await _count(installation, table) > before[1], action
        assert action in [row.action for row in (await audit_rows(services))[before[0] :]]
    assert (await services.shared.audit.verify())[1] is None


async def test_8_cached_content_is_served_while_every_upstream_is_down(
    installation: Installation,
) -> None:
    files = await installation.fill()
    listings = ("/dl/?mode=json", "/dl/SHA256SUMS", f"/goproxy/acme/{PUBLIC.path}/@v/list")
    lookup = f"/goproxy/acme/sumdb/{installation.sumdb.name}/lookup/{PUBLIC.path}@{V}"
    for target in (*listings, lookup):
        got = await installation.site.ask(target, headers=bearer(installation.secret))
        assert got.status == 200, (target, got.text)
        files[target] = got.body
    installation.stop_upstreams()
    for days in (0, 30):  # fresh, and long past every time to live
        installation.ahead.by = timedelta(days=days)
        await cooled(installation.services)
        installation.forget_cache()
        for target, data in files.items():
            got = await installation.site.ask(target, headers=bearer(installation.secret))
            assert (got.status, got.body) == (200, data), (target, days, got.text[:200])


async def test_9_bodies_are_streamed_and_what_is_held_is_given_back(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory of a process under a herd: tests/e2e/test_herd.py. Here: the pieces of each way."""
    pieces: dict[str, list[int]] = {"written": [], "read": []}
    write, read, cached = StagedFile.write, LocalOpenBlob.read, LocalOpenBlob.read_cached

    async def written(staged: StagedFile, chunk: bytes) -> None:
        pieces["written"].append(len(chunk))
        await write(staged, chunk)

    async def slow_read(blob: LocalOpenBlob, offset: int, length: int) -> BlobBytes:
        pieces["read"].append(length)
        return await read(blob, offset, length)

    def quick_read(blob: LocalOpenBlob, offset: int, length: int) -> BlobBytes | None:
        pieces["read"].append(length)
        return cached(blob, offset, length)

    monkeypatch.setattr(StagedFile, "write", written)
    monkeypatch.setattr(LocalOpenBlob, "read", slow_read)
    monkeypatch.setattr(LocalOpenBlob, "read_cached", quick_read)
    memory = installation.services.modules.memory
    left_bytes = memory.left_bytes
    for _ in ("from upstream", "from the store"):
        assert (await installation.ask(path_of(LARGE))).body == LARGE.zip
        await cooled(installation.services)
        installation.forget_cache()
    big = module(OWN.path, V, {"big.bin": random.Random(1).randbytes(3 << 20)})
    assert (await installation.publish(big)).status == 201
    assert (await installation.ask(path_of(OWN))).body == big.zip
    assert max(pieces["written"]) <= MIB
    assert sum(pieces["written"]) >= len(LARGE.zip) + len(big.zip)
    assert 0 < max(pieces["read"]) <= MIB
    assert memory.left_bytes == left_bytes


class Gate:
    """A place where a thread waits until it is let through; the event loop must never be there."""

    def __init__(self) -> None:
        self.entered, self.open, self.was_opened = threading.Event(), threading.Event(), False

    def wait(self) -> None:
        if not self.entered.is_set():
            self.entered.set()
            self.was_opened = self.open.wait(BOUND_S)


@contextmanager
def slow_statements(installation: Installation, start: str) -> Iterator[Gate]:
    gate, db = Gate(), installation.services.shared.db

    def look(_connection: Connection, _cursor: Any, statement: str, *_more: object) -> None:
        if " ".join(statement.split()).startswith(start):
            gate.wait()

    for engine in (db.engine, db.reader):
        event.listen(engine, "before_cursor_execute", look)
    try:
        yield gate
    finally:
        gate.open.set()
        for engine in (db.engine, db.reader):
            event.remove(engine, "before_cursor_execute", look)


@contextmanager
def slow_store(_: Installation) -> Iterator[Gate]:
    gate, require = Gate(), FreeSpace.require

    def slow(space: FreeSpace, size_bytes: int) -> int:
        gate.wait()
        return require(space, size_bytes)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FreeSpace, "require", slow)
        try:
            yield gate
        finally:
            gate.open.set()


SLOW: dict[str, Callable[[Installation], AbstractContextManager[Gate]]] = {
    "a read": lambda i: slow_statements(i, "SELECT module_files"),
    "a write": lambda i: slow_statements(i, "INSERT INTO module_files"),
    "the store": slow_store,
}


async def test_10_the_event_loop_waits_for_no_database_and_no_store_and_no_tenant_for_another(
    installation: Installation,
) -> None:
    """Shares of tenants and addresses: tests/services/test_slots.py."""
    assert (await installation.ask(ZIP, "other")).status == 200
    for number, (name, slow) in enumerate(SLOW.items()):
        one = module(PRIVATE.path, f"v1.0.{number + 1}")
        installation.private.put(one)
        with slow(installation) as gate:
            cold = asyncio.ensure_future(installation.ask(path_of(one)))
            await asyncio.to_thread(gate.entered.wait, BOUND_S)
            assert (await installation.ask(ZIP, "other")).body == PUBLIC.zip
            assert not cold.done(), name
            gate.open.set()
            assert (await cold).body == one.zip, name
        assert gate.was_opened, f"the event loop waited for {name}"


async def test_11_a_decision_is_judged_on_the_policy_at_which_the_first_byte_goes_out(
    installation: Installation,
) -> None:
    """Each kind of answer and change: tests/web/test_late_decisions.py."""
    services, site = installation.services, installation.site

    late = module("example.com/late", V)
    installation.proxy.put(late)

    async def deny() -> None:
        await add_rule(services, "acme", Effect.DENY, late.path)

    # While upstream takes its time.
    assert_one_line(await installation.ask_while(path_of(late), deny), 403)
    # While the bytes of a blob are proven: a prepared answer, and one that is being made.
    await installation.fill()
    channel = {"name": "stable", "tenants": ["acme"]}
    await installation.admin.post("/channels", channel)
    await installation.admin.post("/channels/stable/revisions", {"current": GO})
    await settled(services)
    name, archive = installation.archive
    targets = {
        f"/goproxy/acme/{path_of(LARGE)}": LARGE.zip,
        f"/dl/channels/stable/{name}": archive,
        f"/v2/go/blobs/sha256:{Digest.of(archive)}": archive,
    }
    for target, data in targets.items():
        for is_prepared in (True, False):
            token, secret = await add_token(services, "acme")
            if is_prepared:
                assert (await site.ask(target, headers=bearer(secret))).body == data, target
            else:
                await cooled(services)
            with held_opening(site) as held:
                asking = asyncio.ensure_future(site.ask(target, headers=bearer(secret)))
                await asyncio.wait_for(held.opening.wait(), BOUND_S)
                await services.tenants.tokens.revoke(token)
                await settled(services)
                held.released.set()
                assert (await asking).status == 401, (target, is_prepared)


async def test_12_the_floor_holds_for_what_a_request_stores_and_revoking_and_denying_work(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a disk that is really full: tests/e2e/test_disk.py."""
    files = await installation.fill()
    services, admin = installation.services, installation.admin
    before = stored(services)
    new = module("example.com/new", V)
    installation.proxy.put(new)

    monkeypatch.setattr(FreeSpace, "_free_and_floor", lambda *_: (1 << 20, 1 << 40))
    for got in (
        await installation.ask(path_of(new)),
        await installation.publish(module(OWN.path, "v1.1.0")),
    ):
        assert_one_line(got, 507)
    for target, data in files.items():
        got = await installation.site.ask(target, headers=bearer(installation.secret))
        assert (got.status, got.body) == (200, data), target
    denial = {"effect": "deny", "pattern": PUBLIC.path}
    await admin.post("/tenants/acme/rules", denial)
    await settled(services)
    assert_one_line(await installation.ask(ZIP), 403)
    await admin.delete(f"/tenants/acme/tokens/{installation.token}")
    await settled(services)
    assert_one_line(await installation.ask(path_of(OWN)), 401)
    assert (stored(services), staged(services)) == (before, [])
