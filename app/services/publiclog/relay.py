"""A client of a public log that passes on what it verified. Follows x/mod/sumdb/client.go.

Every lookup and tile is proven against the newest tree head that was ever seen, and every head
against that one; a head that is on another timeline is refused, told, and kept as evidence. What
was proven is kept: with the log out of reach all of it still verifies for any client, whatever head
that client saw here, since growing from one head to the next fetches the tiles along both edges.

Nothing that rests on a new head is kept before that head is: a fork's tiles are proven too, by the
fork's head, and would stand in the way of the log's own ever after.
"""

import asyncio
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

_ABSENT_S = 20.0
_MAX_ABSENT = 8192
_LOOKUPS = 8  # of one tenant at once; further ones wait, and can't take the places of all others
_log = logs.get("sumdb")


@dataclass(frozen=True, slots=True)
class PublicHead:
    """A verified tree head: the tree, and the note that its signature is in."""

    tree: Tree
    note: bytes


_START = PublicHead(Tree(0, tlog.EMPTY_ROOT), b"")


class LogRelay:
    """One public log.

    Args:
        name: as in its vkey.
        verifier: its key.
        server: where it is asked.
    """

    def __init__(
        self, name: str, verifier: Verifier, server: SumdbServer, db: Database, now: Now
    ) -> None:
        self.name = name
        self.verifier = verifier
        self._server = server
        self._db = db
        self._now = now
        self._tiles = LogTiles(name, server, db)
        self._merging = asyncio.Lock()
        self._slots = Slots()
        self._absent: TTLCache[tuple[str, str], UpstreamAbsentError] = TTLCache(
            _MAX_ABSENT, _ABSENT_S
        )
        self._lookups: Flight[tuple[str, str], LogLookup] = Flight()
        self._fetches: Flight[Tile, bytes] = Flight()
        self._heads: Flight[str, None] = Flight()

    @property
    def url(self) -> str:
        """Where the log is asked: "https://sum.golang.org"."""
        return self._server.url

    async def aclose(self) -> None:
        """End what is being asked."""
        await self._lookups.aclose(cancel=True)
        await self._fetches.aclose(cancel=True)
        await self._heads.aclose(cancel=True)

    async def lookup(self, module: str, version: str, *, tenant: str = "") -> bytes:
        """Return the log's record of a module version with a signed head, byte for byte.

        Args:
            module: plain path.
            version: canonical.
            tenant: on whose behalf; "" is bounded by no tenant's limit.

        Raises:
            RateLimitedError: too many lookups of the tenant are under way.
            OverloadedError: too many of all tenants are.
            UpstreamAbsentError: the log says that there is no such version.
            UpstreamError: it can't be asked.
            VerificationError: what it answered does not verify.
        """
        return (await self._lookup(module, version, tenant)).body

    async def sums(self, module: str, version: str) -> Sums:
        """Return what the log vouches for: the h1 of a version's zip and of its go.mod.

        Raises:
            MoorageError: as `lookup`.
        """
        found = await self._lookup(module, version)
        return records.lines_for(records.parse_lookup(found.body).text, module, version)

    async def _lookup(self, module: str, version: str, tenant: str = "") -> LogLookup:
        known = await self._db.read(lambda s: LogTable(s, self.name).lookup(module, version))
        if known is not None:
            return known
        absent = self._absent.get((module, version))
        if absent is not None:
            raise _again(absent)
        ask = partial(self._ask_in_turn, module, version, tenant)
        return await self._lookups.do((module, version), ask)

    async def _ask_in_turn(self, module: str, version: str, tenant: str) -> LogLookup:
        if not tenant:
            return await self._ask(module, version)
        async with self._slots.fetch(tenant, 0, _LOOKUPS):
            return await self._ask(module, version)

    async def _ask(self, module: str, version: str) -> LogLookup:
        try:
            body = await self._server.lookup(module, version)
        except UpstreamAbsentError as error:
            self._absent[module, version] = _again(error)
            raise
        shown = body
        try:
            lookup = records.parse_lookup(body)
            shown = lookup.note
            own, newest = await self._merge(lookup.note)
            shown = body
            await self._check(lookup, own.tree, newest.tree, module, version)
        except (BadInputError, VerificationError) as error:
            raise await self._refused(f"lookup of {module}@{version}", shown, error) from error
        found, at = LogLookup(module, version, lookup.number, body), self._now()
        await self._write(lambda s: LogTable(s, self.name).save_lookup(found, at))
        return found

    async def _check(
        self, lookup: Lookup, own: Tree, newest: Tree, module: str, version: str
    ) -> None:
        """Return if a lookup holds for a client that knows no other head, and for all others."""
        # A client that knows no newer head looks the record up in this one.
        if lookup.number >= own.size:
            raise VerificationError(
                f"its record {lookup.number} is beyond its tree of {own.size} records"
            )
        proven = await self._tiles.proven(newest, [tlog.stored_hash_index(0, lookup.number)])
        text = records.authentic_text(lookup, proven.tiles)
        records.lines_for(text, module, version)
        await self._write(partial(self._tiles.save, proven))

    async def tile(self, tile: Tile) -> bytes:
        """Return the bytes of a tile of hashes.

        Raises:
            UnknownError: it is beyond the newest head that the log has signed.
            UpstreamError: it is not kept here, and the log can't be asked.
            VerificationError: what the log answered does not verify.
        """
        if tile.level == DATA_LEVEL or tile.height != HEIGHT:
            raise UnknownError(f"{tile.path} is not relayed; ask the log itself for it")
        kept = await self._tiles.kept([tile])
        return (
            kept[tile] if tile in kept else await self._fetches.do(tile, lambda: self._fetch(tile))
        )

    async def _fetch(self, tile: Tile) -> bytes:
        head = await self._head_with(tile)
        index = tile_indexes(Tile(HEIGHT, tile.level, tile.number, 1))[0]
        try:
            proven = await self._tiles.proven(head.tree, [index])
        except (BadInputError, VerificationError) as error:
            raise await self._refused(tile.path, tile.path.encode(), error) from error
        await self._write(partial(self._tiles.save, proven))
        whole = next(
            body
            for one, body in proven.tiles.bodies.items()
            if (one.level, one.number) == (tile.level, tile.number)
        )
        return whole[: tile.size_bytes]

    async def _head_with(self, tile: Tile) -> PublicHead:
        """Return a head that covers a tile, asking for a newer one if need be."""
        head = await self._head()
        if head is None or not _covers(head.tree, tile):
            await self._ask_latest()
            head = await self._head()
        if head is None or not _covers(head.tree, tile):
            raise UnknownError(f"{tile.path} is beyond the newest tree head of {self.name}")
        return head

    async def latest(self, *, ask: bool = True) -> bytes:
        """Return the newest signed tree head; the one that is kept if the log can't be asked.

        Raises:
            UpstreamError: it can't be asked, and no head is kept.
            UnknownError: it is not to be asked, and no head is kept.
            VerificationError: its head does not verify.
        """
        try:
            if ask:
                await self._ask_latest()
        except UpstreamError:
            head = await self._head()
            if head is None:
                raise
            return head.note
        head = await self._head()
        if head is None:
            raise UnknownError(f"no tree head of {self.name} is known")
        return head.note

    async def _ask_latest(self) -> None:
        await self._heads.do(self.name, self._ask_head)

    async def _ask_head(self) -> None:
        note = await self._server.latest()
        try:
            await self._merge(note)
        except (BadInputError, VerificationError) as error:
            raise await self._refused("tree head", note, error) from error

    async def _head(self) -> PublicHead | None:
        kept = await self._db.read(lambda s: LogTable(s, self.name).head())
        return None if kept is None else self._opened(kept.note)

    def _opened(self, raw: bytes) -> PublicHead:
        return PublicHead(tlog.parse_tree(open_note(raw, [self.verifier]).text), raw)

    async def _merge(self, raw: bytes) -> tuple[PublicHead, PublicHead]:
        """Take a signed head into the log's one timeline; return it, and the newest one.

        Raises:
            BadInputError: it is malformed.
            VerificationError: it is not signed by the log, or is on another timeline.
        """
        new = self._opened(raw)
        async with self._merging:
            while True:
                old = await self._head()
                if old is not None and new.tree.size <= old.tree.size:
                    if new.tree.size == old.tree.size:
                        self._check_root(new.tree, old.tree, old.tree.root)
                    else:
                        proven = await self._continued(new.tree, old.tree)
                        await self._write(partial(self._tiles.save, proven))
                    return new, old
                proven = await self._continued((old or _START).tree, new.tree)
                head = LogHead(new.tree.size, raw, self._now())
                if await self._write(partial(self._save_head, head, old, proven)):
                    return new, new
                # Another process took a head meanwhile, which this one was not compared with.

    async def _continued(self, older: Tree, newer: Tree) -> ProvenTiles:
        """Return the tiles along both edges, which prove that newer grew from older.

        Raises:
            VerificationError: it did not, or the tiles are not newer's.
        """
        proven = await self._tiles.proven(newer, tlog.tree_indexes(older.size))
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
            # Another process inserted the same row first; now it is there to be seen.
            return await self._db.write(work)

    async def _refused(
        self, what: str, answer: bytes, error: BadInputError | VerificationError
    ) -> VerificationError:
        """Alarm, keep what was sent, and return the error for whoever asked."""
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


def _again(error: UpstreamAbsentError) -> UpstreamAbsentError:
    """Return the same error anew: one that was raised holds on to all that it passed through."""
    return UpstreamAbsentError(str(error), origin=error.origin, status=error.status)


def _covers(tree: Tree, tile: Tile) -> bool:
    hashes = tree.size >> (HEIGHT * tile.level)
    return (tile.number << HEIGHT) + tile.width <= hashes
