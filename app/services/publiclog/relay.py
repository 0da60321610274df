"""A client of a public log, which answers only what it has verified. Follows x/mod/sumdb/client.go.

Every lookup, tile and head is proven against the newest tree head of the log. A head on another
timeline is refused, reported, and kept as evidence. Proven lookups and tiles are kept. While the
log is down, every client can verify them, whichever head the client saw here: when the log grows
from one head to the next, the tiles along both edges are fetched.

A head is saved before, or together with, the tiles that it proves. Otherwise the tiles of a fork
could be saved: the fork's head proves them, and they would block the log's own tiles for ever.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from cachetools import TTLCache

from app import logs, metrics
from app.core import record as records
from app.core import tlog
from app.core.errors import (
    BadInputError,
    ConflictError,
    StorageFullError,
    UnknownError,
    UpstreamAbsentError,
    UpstreamError,
    VerificationError,
)
from app.core.note import open_note
from app.core.notekey import Verifier
from app.core.record import Lookup, Sums
from app.core.tile import DATA_LEVEL, HEIGHT, Tile, tile_indexes
from app.core.tlog import Hash, Tree
from app.db.audit import AuditLog
from app.db.engine import Database, Session
from app.db.sumdb import LogHead, LogLookup, LogTable
from app.services.clock import Now
from app.services.flight import Flight
from app.services.publiclog.tiles import LogTiles, ProvenTiles
from app.services.slots import Slots
from app.upstream.sumdb import SumdbServer

T = TypeVar("T")
E = TypeVar("E", bound=UpstreamError | VerificationError)

_ABSENT_S = 20.0
_MAX_ABSENT = 8192
# A head that was asked for so recently counts as the newest. A client with a newer one got it from
# the log itself within these seconds, so a tile is called unknown only to a client that hurries.
_HEAD_S = 5.0
_REQUESTS = 8  # concurrent requests of a tenant; more wait, so that nobody blocks the others
_MAX_RUNNING = 65_536  # the slots bound what runs or waits, and fairly
_log = logs.get("sumdb")


@dataclass(frozen=True, slots=True)
class PublicHead:
    """A verified tree head: the tree, and the signed note."""

    tree: Tree
    note: bytes


_START = PublicHead(Tree(0, tlog.EMPTY_ROOT), b"")


class LogRelay:
    """One public log.

    Args:
        name: the log's name, as in its vkey.
        verifier: the log's key.
        server: the client of the log's URL.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        name: str,
        verifier: Verifier,
        server: SumdbServer,
        db: Database,
        now: Now,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.verifier = verifier
        self._server = server
        self._db = db
        self._now = now
        self._tiles = LogTiles(name, server, db)
        self._merging = asyncio.Lock()
        self._clock = clock
        self._slots = Slots()
        self._absent: TTLCache[tuple[str, str], UpstreamAbsentError] = TTLCache(
            _MAX_ABSENT, _ABSENT_S
        )
        # The callers of one tenant share its slot, all tenants share the request.
        self._queue: Flight[tuple[str, str, str], LogLookup] = Flight(max_keys=_MAX_RUNNING)
        self._lookups: Flight[tuple[str, str], LogLookup] = Flight(max_keys=_MAX_RUNNING)
        self._tile_queue: Flight[tuple[str, Tile], bytes] = Flight(max_keys=_MAX_RUNNING)
        self._fetches: Flight[Tile, bytes] = Flight(max_keys=_MAX_RUNNING)
        self._heads: Flight[str, None] = Flight(max_waiters=_MAX_RUNNING)
        self._head_until = 0.0  # until then the log is not asked for its head again
        self._head_failure: UpstreamError | VerificationError | None = None  # of the last answer

    @property
    def url(self) -> str:
        """The log's URL: "https://sum.golang.org"."""
        return self._server.url

    async def aclose(self) -> None:
        """Cancel all running requests to the log."""
        await self._queue.aclose(cancel=True)
        await self._tile_queue.aclose(cancel=True)
        await self._lookups.aclose(cancel=True)
        await self._fetches.aclose(cancel=True)
        await self._heads.aclose(cancel=True)

    async def lookup(
        self, module: str, version: str, *, tenant: str = "", client: str = ""
    ) -> bytes:
        """Return the log's record of a module version with a signed head, byte for byte.

        Args:
            module: plain path.
            version: canonical.
            tenant: the tenant whose slots are used; "" for background work.
            client: the address that asks; the clients of a tenant get slots in turn.

        Raises:
            OverloadedError: too many lookups are running or waiting.
            UpstreamAbsentError: the log has no record of the version.
            UpstreamError: the log can't be asked.
            VerificationError: the log's answer does not verify.
        """
        return (await self._lookup(module, version, tenant, client)).body

    async def sums(self, module: str, version: str, *, tenant: str = "") -> Sums:
        """Return the log's h1 values of a version: of its zip and of its go.mod.

        Raises:
            MoorageError: as `lookup`.
        """
        lookup = await self._lookup(module, version, tenant)
        return records.lines_for(records.parse_lookup(lookup.body).text, module, version)

    async def _lookup(self, module: str, version: str, tenant: str, client: str = "") -> LogLookup:
        known = await self._known(module, version)
        if known is not None:
            return known
        ask = partial(self._ask_with_slot, module, version, tenant, client)
        return await self._queue.do((tenant, module, version), ask)

    async def _known(self, module: str, version: str) -> LogLookup | None:
        """Return a kept lookup; None if the log must be asked.

        Raises:
            UpstreamAbsentError: the log had no record within the last _ABSENT_S seconds.
        """
        stored = await self._db.read(lambda s: LogTable(s, self.name).lookup(module, version))
        absent = self._absent.get((module, version))
        if stored is None and absent is not None:
            raise _copy_of(absent)
        return stored

    async def _ask_with_slot(
        self, module: str, version: str, tenant: str, client: str
    ) -> LogLookup:
        """Ask once the tenant has a slot, or join the request of another tenant."""
        key, ask = (module, version), partial(self._ask, module, version)
        if self._lookups.is_running(key):
            return await self._lookups.do(key, ask)
        async with self._slots.fetch(tenant, 0, _REQUESTS, client):
            # Another tenant may have asked meanwhile.
            known = await self._known(module, version)
            return known or await self._lookups.do(key, ask)

    async def _ask(self, module: str, version: str) -> LogLookup:
        await self._db.require_room()
        try:
            body = await self._server.lookup(module, version)
        except UpstreamAbsentError as error:
            self._absent[module, version] = _copy_of(error)
            raise
        evidence = body
        try:
            lookup = records.parse_lookup(body)
            evidence = lookup.note
            own, newest = await self._merge(lookup.note)
            evidence = body
            await self._check(lookup, own.tree, newest.tree, module, version)
        except (BadInputError, VerificationError) as error:
            raise await self._record_refusal(
                f"lookup of {module}@{version}", evidence, error
            ) from error
        answered, at = LogLookup(module, version, lookup.number, body), self._now()
        await self._write(lambda s: LogTable(s, self.name).save_lookup(answered, at))
        return answered

    async def _check(
        self, lookup: Lookup, own: Tree, newest: Tree, module: str, version: str
    ) -> None:
        """Accept a lookup that verifies with its own head and with the newest head."""
        # A client without a newer head looks for the record in the lookup's own tree.
        if lookup.number >= own.size:
            raise VerificationError(
                f"its record {lookup.number} is beyond its tree of {own.size} records"
            )
        proven = await self._tiles.prove(newest, [tlog.stored_hash_index(0, lookup.number)])
        text = records.authentic_text(lookup, proven.tiles)
        records.lines_for(text, module, version)
        await self._write(partial(self._tiles.save, proven))

    async def tile(self, tile: Tile, *, tenant: str = "", client: str = "") -> bytes:
        """Return the bytes of a tile of hashes; tenant and client as of `lookup`.

        Raises:
            OverloadedError: too many requests are running or waiting.
            UnknownError: the tile is beyond the newest head that the log has signed.
            UpstreamError: the tile is not kept here, and the log can't be asked.
            VerificationError: the log's answer does not verify.
        """
        if tile.level == DATA_LEVEL or tile.height != HEIGHT:
            raise UnknownError(f"{tile.path} is not relayed; ask the log itself for it")
        stored = await self._tiles.read_kept([tile])
        if tile in stored:
            return stored[tile]
        return await self._tile_queue.do(
            (tenant, tile), partial(self._fetch_with_slot, tile, tenant, client)
        )

    async def _fetch_with_slot(self, tile: Tile, tenant: str, client: str) -> bytes:
        if self._fetches.is_running(tile):
            return await self._fetches.do(tile, partial(self._fetch, tile))
        async with self._slots.fetch(tenant, 0, _REQUESTS, client):
            return await self._fetches.do(tile, partial(self._fetch, tile))

    async def _fetch(self, tile: Tile) -> bytes:
        await self._db.require_room()
        head = await self._head_with(tile)
        index = tile_indexes(Tile(HEIGHT, tile.level, tile.number, 1))[0]
        try:
            proven = await self._tiles.prove(head.tree, [index])
        except (BadInputError, VerificationError) as error:
            raise await self._record_refusal(tile.path, tile.path.encode(), error) from error
        await self._write(partial(self._tiles.save, proven))
        whole = next(
            body
            for proven_tile, body in proven.tiles.bodies.items()
            if (proven_tile.level, proven_tile.number) == (tile.level, tile.number)
        )
        return whole[: tile.size_bytes]

    async def _head_with(self, tile: Tile) -> PublicHead:
        """Return a head that covers a tile; ask the log for a newer head if necessary."""
        head = await self._head()
        if head is None or not _covers(head.tree, tile):
            await self._ask_latest()
            head = await self._head()
        if head is None or not _covers(head.tree, tile):
            raise UnknownError(f"{tile.path} is beyond the newest tree head of {self.name}")
        return head

    async def latest(self, *, ask: bool = True) -> bytes:
        """Return the newest signed tree head; if the log can't be asked, the newest one kept here.

        Raises:
            UpstreamError: the log can't be asked, and no head is kept.
            UnknownError: ask is False, and no head is kept.
            VerificationError: the log's head does not verify.
        """
        try:
            if ask:
                await self._ask_latest()
        except (UpstreamError, StorageFullError):
            head = await self._head()
            if head is None:
                raise
            return head.note
        head = await self._head()
        if head is None:
            raise UnknownError(f"no tree head of {self.name} is known")
        return head.note

    async def need_head(self) -> None:
        """Return once a tree head is kept; the log is asked only if there is none.

        Raises:
            UpstreamError: the log can't be asked, and no head is kept.
            VerificationError: the log's head does not verify, and no head is kept.
        """
        if await self._head() is None:
            await self._ask_latest()

    async def _ask_latest(self) -> None:
        """Have the newest head kept: the log is asked once for all, and not again for _HEAD_S.

        No slot is taken, since one request at a time is made. Callers may hold a slot.
        """
        if self._clock() < self._head_until:
            if self._head_failure is not None:
                raise _copy_of(self._head_failure)
            return
        await self._heads.do(self.name, self._ask_head)

    async def _ask_head(self) -> None:
        note = b""
        try:
            note = await self._server.latest()
            await self._merge(note)
        except UpstreamError as error:
            self._remember_answer(_copy_of(error))
            raise
        except (BadInputError, VerificationError) as error:
            refusal = await self._record_refusal("tree head", note, error)
            self._remember_answer(_copy_of(refusal))
            raise refusal from error
        self._remember_answer(None)

    def _remember_answer(self, failure: UpstreamError | VerificationError | None) -> None:
        """Let the log's answer hold for the next _HEAD_S seconds; failure: what was wrong."""
        self._head_failure, self._head_until = failure, self._clock() + _HEAD_S

    async def _head(self) -> PublicHead | None:
        stored = await self._db.read(lambda s: LogTable(s, self.name).head())
        return None if stored is None else self._open_head(stored.note)

    def _open_head(self, raw: bytes) -> PublicHead:
        return PublicHead(tlog.parse_tree(open_note(raw, [self.verifier]).text), raw)

    async def _merge(self, raw: bytes) -> tuple[PublicHead, PublicHead]:
        """Prove that a signed head is on the log's timeline; return this head and the newest one.

        Raises:
            BadInputError: the note is malformed.
            VerificationError: the log did not sign the head, or the head is on another timeline.
        """
        new = self._open_head(raw)
        async with self._merging:
            while True:
                old = await self._head()
                if old is not None and new.tree.size <= old.tree.size:
                    if new.tree.size == old.tree.size:
                        self._check_root(new.tree, old.tree, old.tree.root)
                    else:
                        proven = await self._prove_growth(new.tree, old.tree)
                        await self._write(partial(self._tiles.save, proven))
                    return new, old
                proven = await self._prove_growth((old or _START).tree, new.tree)
                head = LogHead(new.tree.size, raw, self._now())
                if await self._write(partial(self._save_head, head, old, proven)):
                    return new, new
                # Another process saved a newer head meanwhile: compare with that head too.

    async def _prove_growth(self, older: Tree, newer: Tree) -> ProvenTiles:
        """Return the tiles along both edges, which prove that newer grew from older.

        Raises:
            VerificationError: newer did not grow from older, or the tiles do not belong to newer.
        """
        proven = await self._tiles.prove(newer, tlog.tree_indexes(older.size))
        self._check_root(older, newer, tlog.tree_hash(older.size, proven.tiles.read))
        return proven

    def _check_root(self, older: Tree, newer: Tree, root: Hash) -> None:
        if root != older.root:
            raise VerificationError(
                f"{self.name} signed two timelines: its tree of {newer.size} records does not "
                f"contain its tree of {older.size}"
            )

    def _save_head(
        self, head: LogHead, old: PublicHead | None, proven: ProvenTiles, session: Session
    ) -> bool:
        if not LogTable(session, self.name).save_head(head, None if old is None else old.note):
            return False
        self._tiles.save(proven, session)
        return True

    async def _write(self, work: Callable[[Session], T]) -> T:
        try:
            return await self._db.write(work)
        except ConflictError:
            # Another process inserted the same row first; the second attempt reads that row.
            return await self._db.write(work)

    async def _record_refusal(
        self, what: str, answer: bytes, error: BadInputError | VerificationError
    ) -> VerificationError:
        """Raise an alarm, keep the answer as evidence, and return the error for the caller."""
        why, at = f"{self.name}: the answer to {what} is refused: {error}", self._now()

        def work(session: Session) -> None:
            table = LogTable(session, self.name)
            head = table.head()
            if table.add_evidence(b"" if head is None else head.note, answer, why, at):
                AuditLog(session).append(at, "system", "sumdb.refuse", f"log:{self.name}", why)

        await self._write(work)
        metrics.count_log_refusal()
        _log.error("checksum database refused", log=self.name, why=why)
        return VerificationError(why)


def _copy_of(error: E) -> E:
    """Return a copy of the error: an error that was raised keeps its traceback's objects alive."""
    if not isinstance(error, UpstreamError):
        return type(error)(str(error))
    copy = type(error)(str(error), origin=error.origin, status=error.status)
    copy.upstream_text = error.upstream_text
    return copy


def _covers(tree: Tree, tile: Tile) -> bool:
    hashes = tree.size >> (HEIGHT * tile.level)
    return (tile.number << HEIGHT) + tile.width <= hashes
