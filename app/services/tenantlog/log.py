"""A tenant's own transparency log: one key for the records of its private and public modules.

A record is appended when a version is first served to the tenant, after its content was checked.
One transaction writes the record, its hashes and the signed head that covers them. The head goes to
its file outside the database before a client gets it. So a head never covers records that are not
durable, and after a crash at any step the next append continues.
"""

import asyncio
import secrets
from dataclasses import dataclass
from itertools import count

from cachetools import LRUCache

from app import logs, metrics
from app.core import record as records
from app.core import tlog
from app.core.errors import UnknownError, VerificationError
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
from app.services.changes import locked, record, tenant_named
from app.services.clock import Now
from app.services.secrets import SecretBox, log_place
from app.services.tenantlog.growth import NewRecord, append, empty_head, read_hashes
from app.services.tenantlog.head import HeadFiles

SEED_BYTES = 32
_MAX_NOTED = 1024  # contradictions that have their audit row
_log = logs.get("sumdb")


@dataclass(frozen=True, slots=True)
class Proof:
    """A proof that a record is in a log, for an outsider.

    Attributes:
        log: the log's name.
        vkey: the log's key.
        lookup: the record and the signed head, in the form of a lookup's answer.
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
        self._contradictions: LRUCache[tuple[int, int, bytes], None] = LRUCache(_MAX_NOTED)
        self._filed_heads: dict[str, bytes] = {}  # by log: the last head written to its file

    async def of(self, tenant: str, who: Principal = OPERATOR) -> TenantLog | None:
        """Return the tenant's log that is not retired, or None."""
        require_admin(who, tenant)
        return await self._db.read(lambda s: TenantLogTable(s).of(tenant_named(s, tenant).id))

    async def create(self, tenant: str, who: Principal = OPERATOR) -> TenantLog:
        """Return a tenant's log; make it with a new key if the tenant has none.

        The settings give the log's name. If an earlier log had that name, a number is added: two
        logs never have the same name.

        Raises:
            UnknownError: no tenant has that name.
        """
        require_admin(who, tenant)
        random = secrets.token_bytes(SEED_BYTES)
        return await self._db.write(
            locked(lambda s: self.create_in(s, tenant_named(s, tenant), random, who))
        )

    def create_in(
        self, session: Session, tenant: RecordedTenant, random: bytes, who: Principal
    ) -> TenantLog:
        """Create within a transaction; see `create`."""
        table = TenantLogTable(session)
        existing = table.of(tenant.id)
        if existing is not None:
            return existing
        used_names = {log.name for log in table.all()}
        base = self._name_pattern.replace("{tenant}", tenant.name)
        names = (base if n == 1 else f"{base}-{n}" for n in count(1))
        # A restored older database may not have a name that clients know; the head files have it.
        name = next(n for n in names if n not in used_names and not self._heads.knows(n))
        signer = generate(name, random)
        head = empty_head(signer)
        seed = self._box.seal(signer.skey, log_place(name))
        vkey = signer.verifier.vkey
        log = table.add(tenant.id, name, vkey, seed, head, self._now())
        record(session, self._now(), who, "sumdb.create", f"log:{name}", vkey, tenant=tenant.name)
        return log

    async def append(self, log: TenantLog, module: str, version: str, sums: Sums) -> LogRecord:
        """Return the record of a module version; append one if the log has none.

        Raises:
            VerificationError: the log has a record with other sums, which never changes.
            ConflictError: the database is older than the log's head, or the log is retired.
        """
        text = records.record_text(module, version, sums).encode()
        stored = await self._db.read(lambda s: TenantLogTable(s).record(log.id, module, version))
        appended = stored or await self._append_now(log, module, version, text)
        if appended.text != text:
            raise await self._record_contradiction(log, appended, text)
        return appended

    async def _append_now(
        self, log: TenantLog, module: str, version: str, text: bytes
    ) -> LogRecord:
        signer = self._signer(log)
        filed = await asyncio.to_thread(self._heads.read, log.name)
        if filed is None:
            filed = await self._begin_filing(log, signer)
        appended, head = await self._db.write(
            lambda s: append(
                s, log.id, signer, NewRecord(module, version, text), filed, self._now()
            )
        )
        await self._file_head(log.name, head)
        return appended

    async def _begin_filing(self, log: TenantLog, signer: Signer) -> Tree | None:
        """File the head of a log that has no record yet; return what is filed then.

        It comes before the first record, so that a missing one was lost.
        """
        now = await self._db.read(lambda s: TenantLogTable(s).get(log.id))
        if now.size > 0:
            return None
        await asyncio.to_thread(self._heads.keep, log.name, empty_head(signer))
        return await asyncio.to_thread(self._heads.read, log.name)

    async def _file_head(self, name: str, head: bytes) -> None:
        """Write a head to its file, unless the file has a newer one, before a client sees it."""
        # Compare the bytes, not the size: after `recover`, maybe in another process, a smaller
        # head is valid again.
        if self._filed_heads.get(name) != head:
            await asyncio.to_thread(self._heads.keep, name, head)
            self._filed_heads[name] = head

    async def _record_contradiction(
        self, log: TenantLog, known: LogRecord, text: bytes
    ) -> VerificationError:
        why = (
            f"{known.module}@{known.version} is record {known.record} of {log.name} with other "
            "sums; the first ones count for ever"
        )
        # One row for each contradiction: whoever asks again must not fill the audit log.
        if (log.id, known.record, text) not in self._contradictions:
            at, detail = self._now(), f"{why}: {text.decode()!a}"
            obj = f"log:{log.name}"
            await self._db.write(
                lambda s: AuditLog(s).append(at, "system", "sumdb.refuse", obj, detail[:2000])
            )
            self._contradictions[log.id, known.record, text] = None
        metrics.count_log_refusal()
        _log.error("log record contradicted", log=log.name, module=known.module, why=why)
        return VerificationError(why)

    def can_sign(self, log: TenantLog) -> bool:
        """Whether the log's private key can be opened; without it the log never grows again."""
        return self._box.opens(log.seed, log_place(log.name))

    def _signer(self, log: TenantLog) -> Signer:
        return parse_skey(self._box.open(log.seed, log_place(log.name)))

    async def lookup(self, log: TenantLog, module: str, version: str) -> bytes:
        """Return the answer to a lookup: the record, and a head that covers the record.

        Raises:
            UnknownError: the log has no record of the version.
        """

        def work(session: Session) -> tuple[LogRecord | None, TenantLog]:
            table = TenantLogTable(session)
            return table.record(log.id, module, version), table.get(log.id)

        stored, now = await self._db.read(work)
        if stored is None:
            raise UnknownError(f"{log.name} has no record of {module}@{version}")
        await self._file_head(log.name, now.head)
        return records.format_lookup(Lookup(stored.record, stored.text.decode(), now.head))

    async def latest(self, log: TenantLog) -> bytes:
        """Return the newest signed head."""
        head = (await self._db.read(lambda s: TenantLogTable(s).get(log.id))).head
        await self._file_head(log.name, head)
        return head

    async def tile(self, log: TenantLog, tile: Tile) -> bytes:
        """Return the bytes of a tile, in any width that the log has.

        Raises:
            UnknownError: the tile is beyond the newest head.
        """

        def work(session: Session) -> bytes | None:
            table = TenantLogTable(session)
            size = table.get(log.id).size
            if not _is_in(size, tile):
                return None
            if tile.level == DATA_LEVEL:
                start = tile.number << HEIGHT
                rows = table.records(log.id, start, tile.width)
                return records.format_data_tile(r.text.decode() for r in rows)
            return tile_body(tile, lambda places: read_hashes(table, log.id, places))

        body = await self._db.read(work)
        if body is None:
            raise UnknownError(f"{tile.path} is beyond the newest tree head of {log.name}")
        return body

    async def prove(self, log: TenantLog, module: str, version: str) -> Proof:
        """Return the proof that a module version's record is in the log.

        Raises:
            UnknownError: the log has no record of the version.
        """

        def work(session: Session) -> tuple[Proof, bytes] | None:
            table = TenantLogTable(session)
            stored, now = table.record(log.id, module, version), table.get(log.id)
            if stored is None:
                return None
            hashes = tlog.prove_record(
                now.size, stored.record, lambda places: read_hashes(table, log.id, places)
            )
            lookup = records.format_lookup(Lookup(stored.record, stored.text.decode(), now.head))
            return Proof(log.name, log.vkey, lookup, tuple(hashes)), now.head

        result = await self._db.read(work)
        if result is None:
            raise UnknownError(f"{log.name} has no record of {module}@{version}")
        proof, head = result
        await self._file_head(log.name, head)
        return proof


def _is_in(size: int, tile: Tile) -> bool:
    if tile.height != HEIGHT:
        return False
    hashes = size >> (HEIGHT * max(tile.level, 0))
    return (tile.number << HEIGHT) + tile.width <= hashes
