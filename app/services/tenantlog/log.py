"""A tenant's own transparency log: one key that vouches for its private and public modules.

A record is appended when a version is first served to the tenant, after its content was checked.
The record, the hashes that it adds and the signed head that covers them are one transaction; who
tells a head has it written outside the database first. So a head never covers what is not
durable, and a crash at any step leaves a log from which the next append goes on.
"""

import asyncio
import secrets
from dataclasses import dataclass
from itertools import count

from app import logs, metrics
from app.core import record as records
from app.core import tlog
from app.core.errors import ConflictError, StorageError, UnknownError, VerificationError
from app.core.note import sign
from app.core.notekey import Signer, generate, parse_skey
from app.core.principal import OPERATOR, Principal
from app.core.record import Lookup, Sums
from app.core.tenant import RecordedTenant
from app.core.tile import DATA_LEVEL, HEIGHT, Tile, tile_body
from app.core.tlog import Hash, Tree
from app.db.audit import AuditLog
from app.db.engine import Database, Session
from app.db.tenantlogs import LogRecord, TenantLog, TenantLogTable
from app.services.authorization import require_admin
from app.services.changes import record, tenant_named
from app.services.clock import Now
from app.services.secrets import SecretBox
from app.services.tenantlog.growth import NewRecord, append, check_not_behind, read_hashes
from app.services.tenantlog.head import HeadFiles

SEED_BYTES = 32
_log = logs.get("sumdb")


@dataclass(frozen=True, slots=True)
class Proof:
    """That a record is in a log: what an outsider needs besides the vkey.

    Attributes:
        lookup: the record and the signed head, as a lookup answers.
        hashes: the proof of RFC 6962, from the leaf up.
    """

    log: str
    vkey: str
    lookup: bytes
    hashes: tuple[Hash, ...]


class TenantLogs:
    """The logs of all tenants."""

    def __init__(
        self, db: Database, box: SecretBox, heads: HeadFiles, now: Now, name_pattern: str
    ) -> None:
        self._db = db
        self._box = box
        self._heads = heads
        self._now = now
        self._name_pattern = name_pattern
        self._kept: dict[str, bytes] = {}  # the last head of each log that went to its file

    async def of(self, tenant: str, who: Principal = OPERATOR) -> TenantLog | None:
        """Return the log that a tenant writes to, or None where it has none."""
        require_admin(who, tenant)
        return await self._db.read(lambda s: TenantLogTable(s).of(tenant_named(s, tenant).id))

    async def create(self, tenant: str, who: Principal = OPERATOR) -> TenantLog:
        """Return a tenant's log, made with a new key if there is none.

        Its name is that of the settings, with a number where a log had it before: a name must never
        be used for other records.

        Raises:
            UnknownError: there is no such tenant.
        """
        require_admin(who, tenant)
        random = secrets.token_bytes(SEED_BYTES)
        return await self._db.write(lambda s: self._create(s, tenant_named(s, tenant), random, who))

    def _create(
        self, session: Session, tenant: RecordedTenant, random: bytes, who: Principal
    ) -> TenantLog:
        table = TenantLogTable(session)
        there = table.of(tenant.id)
        if there is not None:
            return there
        taken = {log.name for log in table.all()}
        base = self._name_pattern.replace("{tenant}", tenant.name)
        names = (base if n == 1 else f"{base}-{n}" for n in count(1))
        # A database from before the log was made does not know the name; clients may.
        name = next(n for n in names if n not in taken and not self._heads.knows(n))
        signer = generate(name, random)
        head = sign(tlog.format_tree(Tree(0, tlog.EMPTY_ROOT)), signer)
        seed = self._box.seal(signer.skey, _place(name))
        vkey = signer.verifier.vkey
        made = table.add(tenant.id, name, vkey, seed, head, self._now())
        record(session, self._now(), who, "sumdb.create", f"log:{name}", vkey)
        return made

    async def append(self, log: TenantLog, module: str, version: str, sums: Sums) -> LogRecord:
        """Return the record of a module version, appended if it is not there.

        Raises:
            VerificationError: it is recorded with other sums; the first ones count for ever.
            ConflictError: the database is older than the log's head, or the log is retired.
        """
        text = records.record_text(module, version, sums).encode()
        known = await self._db.read(lambda s: TenantLogTable(s).record(log.id, module, version))
        found = known or await self._append_now(log, module, version, text)
        if found.text != text:
            raise await self._contradicted(log, found, text)
        return found

    async def _append_now(
        self, log: TenantLog, module: str, version: str, text: bytes
    ) -> LogRecord:
        signer = self._signer(log)
        made, head = await self._db.write(
            lambda s: append(
                s, log.id, signer, NewRecord(module, version, text), self._heads, self._now()
            )
        )
        await self._before_telling(log.name, head)
        return made

    async def _before_telling(self, name: str, head: bytes) -> None:
        """Have a head's file hold it, or a newer one, before a client sees it."""
        # Not by size: after `recover`, maybe in another process, smaller heads count again.
        if self._kept.get(name) != head:
            await asyncio.to_thread(self._heads.keep, name, head)
            self._kept[name] = head

    async def _contradicted(
        self, log: TenantLog, known: LogRecord, text: bytes
    ) -> VerificationError:
        why = (
            f"{known.module}@{known.version} is record {known.record} of {log.name} with other "
            "sums; the first ones count for ever"
        )
        at, detail = self._now(), f"{why}: {text.decode()!a}"
        obj = f"log:{log.name}"
        await self._db.write(
            lambda s: AuditLog(s).append(at, "system", "sumdb.refuse", obj, detail[:2000])
        )
        metrics.count_log_refusal()
        _log.error("log record contradicted", log=log.name, module=known.module, why=why)
        return VerificationError(why)

    def _signer(self, log: TenantLog) -> Signer:
        return parse_skey(self._box.open(log.seed, _place(log.name)))

    async def lookup(self, log: TenantLog, module: str, version: str) -> bytes:
        """Return the answer to a lookup: the record, and a head that covers it.

        Raises:
            UnknownError: the log has no such record.
        """

        def work(session: Session) -> tuple[LogRecord | None, TenantLog]:
            table = TenantLogTable(session)
            return table.record(log.id, module, version), table.get(log.id)

        found, now = await self._db.read(work)
        if found is None:
            raise UnknownError(f"{log.name} has no record of {module}@{version}")
        await self._before_telling(log.name, now.head)
        return records.format_lookup(Lookup(found.record, found.text.decode(), now.head))

    async def latest(self, log: TenantLog) -> bytes:
        """Return the newest signed head."""
        head = (await self._db.read(lambda s: TenantLogTable(s).get(log.id))).head
        await self._before_telling(log.name, head)
        return head

    async def tile(self, log: TenantLog, tile: Tile) -> bytes:
        """Return the bytes of a tile, at any width up to the present one.

        Raises:
            UnknownError: the log is not that large.
        """

        def work(session: Session) -> bytes | None:
            table = TenantLogTable(session)
            size = table.get(log.id).size
            if not _is_in(size, tile):
                return None
            if tile.level == DATA_LEVEL:
                start = tile.number << HEIGHT
                found = table.records(log.id, start, tile.width)
                return records.format_data_tile(r.text.decode() for r in found)
            return tile_body(tile, lambda places: read_hashes(table, log.id, places))

        body = await self._db.read(work)
        if body is None:
            raise UnknownError(f"{tile.path} is beyond the newest tree head of {log.name}")
        return body

    async def prove(self, log: TenantLog, module: str, version: str) -> Proof:
        """Return the proof that a module version's record is in the log.

        Raises:
            UnknownError: it is not.
        """

        def work(session: Session) -> tuple[Proof, bytes] | None:
            table = TenantLogTable(session)
            found, now = table.record(log.id, module, version), table.get(log.id)
            if found is None:
                return None
            hashes = tlog.prove_record(
                now.size, found.record, lambda places: read_hashes(table, log.id, places)
            )
            lookup = records.format_lookup(Lookup(found.record, found.text.decode(), now.head))
            return Proof(log.name, log.vkey, lookup, tuple(hashes)), now.head

        found = await self._db.read(work)
        if found is None:
            raise UnknownError(f"{log.name} has no record of {module}@{version}")
        proof, head = found
        await self._before_telling(log.name, head)
        return proof

    async def recover(self, tenant: str, who: Principal, *, accept: bool) -> TenantLog:
        """Return a tenant's log in working order again after an older database was restored.

        The same goes for a head file that can't be read.

        Args:
            tenant: whose log.
            who: an admin of it.
            accept: go on with the records of the database, under the same name: every client that
                saw a newer head refuses the log until it deletes what it knows of it. False starts
                a new log with another name and key, and retires this one.

        Raises:
            UnknownError: the tenant has no log.
            ConflictError: nothing is wrong with the log.
        """
        require_admin(who, tenant)
        random = secrets.token_bytes(SEED_BYTES)

        def work(session: Session) -> tuple[TenantLog, TenantLog]:
            of_tenant = tenant_named(session, tenant)
            table = TenantLogTable(session)
            log = table.of(of_tenant.id)
            if log is None:
                raise UnknownError(f"tenant {tenant} has no log; see `moorage sumdb create`")
            # Locked, or another process's append could be what the database seems to lack.
            log = table.locked(log.id)
            try:
                check_not_behind(session, log, self._heads)
            except (ConflictError, StorageError):
                pass
            else:
                raise ConflictError(f"nothing is wrong with the log {log.name}")
            detail = "accepted as it is" if accept else "retired"
            record(session, self._now(), who, "sumdb.recover", f"log:{log.name}", detail)
            if accept:
                return log, log
            table.retire(log.id)
            return log, self._create(session, of_tenant, random, who)

        old, new = await self._db.write(work)
        if accept:
            await asyncio.to_thread(self._heads.replace, old.name, old.head)
        return new


def _place(name: str) -> str:
    return f"log:{name}"


def _is_in(size: int, tile: Tile) -> bool:
    if tile.height != HEIGHT:
        return False
    hashes = size >> (HEIGHT * max(tile.level, 0))
    return (tile.number << HEIGHT) + tile.width <= hashes
