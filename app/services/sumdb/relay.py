"""A client of a public log that passes on what it verified. Follows x/mod/sumdb/client.go.

Every lookup and tile is proven against the newest tree head that was ever seen, and every head
against that one; a head that is on another timeline is refused, told, and kept as evidence. What
was proven is kept: with the log out of reach all of it still verifies for any client, whatever head
that client saw here, since growing from one head to the next fetches the tiles along both edges.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

from app import logs, metrics
from app.core import record as records
from app.core import tlog
from app.core.errors import (
    BadInputError,
    UnknownError,
    UpstreamAbsentError,
    VerificationError,
)
from app.core.note import VerifiedNote, open_note
from app.core.notekey import Verifier
from app.core.record import Sums
from app.core.tile import (
    DATA_LEVEL,
    HEIGHT,
    AuthenticTiles,
    Tile,
    authenticate,
    tile_indexes,
    tiles_needed,
)
from app.core.tlog import Tree
from app.db.audit import AuditLog
from app.db.engine import Database, Session
from app.db.sumdb import LogHead, LogLookup, LogTable
from app.services.clock import Now
from app.services.flight import Flight
from app.upstream.sumdb import SumdbServer

_log = logs.get("sumdb")


@dataclass(frozen=True, slots=True)
class Head:
    """A verified tree head: the tree, and the note that its signature is in."""

    tree: Tree
    note: bytes


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
        self._merging = asyncio.Lock()
        self._flight: Flight[tuple[str, str], LogLookup] = Flight()

    async def lookup(self, module: str, version: str) -> bytes:
        """Return the log's record of a module version with a signed head, byte for byte.

        Raises:
            UpstreamAbsentError: the log says that there is no such version.
            UpstreamError: it can't be asked.
            VerificationError: what it answered does not verify.
        """
        return (await self._lookup(module, version)).body

    async def sums(self, module: str, version: str) -> Sums:
        """Return what the log vouches for: the h1 of a version's zip and of its go.mod.

        Raises:
            MoorageError: as `lookup`.
        """
        found = await self._lookup(module, version)
        return records.lines_for(records.parse_lookup(found.body).text, module, version)

    async def _lookup(self, module: str, version: str) -> LogLookup:
        known = await self._db.read(lambda s: LogTable(s, self.name).lookup(module, version))
        if known is not None:
            return known
        return await self._flight.do((module, version), partial(self._ask, module, version))

    async def _ask(self, module: str, version: str) -> LogLookup:
        body = await self._server.lookup(module, version)
        try:
            lookup = records.parse_lookup(body)
            await self._merge(lookup.note)
            index = tlog.stored_hash_index(0, lookup.number)
            head = await self._head()
            if head is None or lookup.number >= head.tree.size:
                raise VerificationError(f"its record {lookup.number} is beyond its tree")
            text = records.authentic_text(lookup, await self._tiles(head.tree, [index]))
            records.lines_for(text, module, version)
        except (BadInputError, VerificationError) as error:
            raise await self._refused(f"lookup of {module}@{version}", body, error) from error
        found = LogLookup(module, version, lookup.number, body)
        await self._db.write(lambda s: LogTable(s, self.name).save_lookup(found, self._now()))
        return found

    async def tile(self, tile: Tile) -> bytes:
        """Return the bytes of a tile of hashes.

        Raises:
            UnknownError: it is beyond the newest head that the log has signed.
            UpstreamError: it is not kept here, and the log can't be asked.
            VerificationError: what the log answered does not verify.
        """
        if tile.level == DATA_LEVEL or tile.height != HEIGHT:
            raise UnknownError(f"{tile.path} is not relayed; ask the log itself for it")
        kept = await self._kept(tile)
        if kept is not None:
            return kept
        head = await self._head_with(tile)
        index = tile_indexes(Tile(HEIGHT, tile.level, tile.number, 1))[0]
        try:
            tiles = await self._tiles(head.tree, [index])
        except (BadInputError, VerificationError) as error:
            raise await self._refused(tile.path, b"", error) from error
        whole = next(
            body
            for one, body in tiles.bodies.items()
            if (one.level, one.number) == (tile.level, tile.number)
        )
        return whole[: tile.size_bytes]

    async def _head_with(self, tile: Tile) -> Head:
        """Return a head that covers a tile, asking for a newer one if need be."""
        for is_last in (False, True):
            head = await self._head()
            if head is not None and _covers(head.tree, tile):
                return head
            if not is_last:
                await self.latest(ask=True)
        raise UnknownError(f"{tile.path} is beyond the newest tree head of {self.name}")

    async def latest(self, *, ask: bool = True) -> bytes:
        """Return the newest signed tree head; the one that is kept if the log can't be asked.

        Raises:
            UpstreamError: it can't be asked, and no head is kept.
            VerificationError: its head does not verify.
        """
        if ask:
            await self._ask_latest()
        head = await self._head()
        if head is None:
            raise UnknownError(f"no tree head of {self.name} is known")
        return head.note

    async def _ask_latest(self) -> None:
        note = await self._server.latest()
        try:
            await self._merge(note)
        except (BadInputError, VerificationError) as error:
            raise await self._refused("tree head", note, error) from error

    async def _head(self) -> Head | None:
        kept = await self._db.read(lambda s: LogTable(s, self.name).head())
        return None if kept is None else self._opened(kept.note)

    def _opened(self, raw: bytes) -> Head:
        note: VerifiedNote = open_note(raw, [self.verifier])
        return Head(tlog.parse_tree(note.text), raw)

    async def _merge(self, raw: bytes) -> None:
        """Take a signed head into the one timeline that the log may have.

        Raises:
            BadInputError: it is malformed.
            VerificationError: it is not signed by the log, or is on another timeline.
        """
        new = self._opened(raw)
        async with self._merging:
            while True:
                old = await self._head()
                if old is not None and new.tree.size <= old.tree.size:
                    return await self._check_older(new, old)
                if old is not None:
                    await self._check_older(old, new)
                else:
                    await self._tiles(new.tree, [])
                head = LogHead(new.tree.size, raw, self._now())
                if await self._db.write(partial(self._save_head, head)):
                    return None
                # Another process has seen a larger one meanwhile: this one is older than that.

    def _save_head(self, head: LogHead, session: Session) -> bool:
        return LogTable(session, self.name).save_head(head)

    async def _check_older(self, older: Head, newer: Head) -> None:
        """Return if older is what newer grew from; their edges' tiles are kept then."""
        if older.tree.size == newer.tree.size:
            root = newer.tree.root
        elif older.tree.size == 0:
            root = tlog.EMPTY_ROOT
        else:
            tiles = await self._tiles(newer.tree, tlog.tree_indexes(older.tree.size))
            root = tlog.tree_hash(older.tree.size, tiles.read)
        if root != older.tree.root:
            why = (
                f"{self.name} signed two timelines: its tree of {newer.tree.size} records does not "
                f"contain its tree of {older.tree.size}"
            )
            await self._keep_evidence(older.note, newer.note, why)
            raise VerificationError(why)

    async def _tiles(self, tree: Tree, indexes: Iterable[int]) -> AuthenticTiles:
        """Return proven tiles, from here where they are kept, else from the log; keep them."""
        needed = tiles_needed(tree, indexes)
        found = await asyncio.gather(*(self._body(tile) for tile in needed))
        bodies = {tile: body for tile, (body, _) in zip(needed, found, strict=True)}
        proven = await asyncio.to_thread(authenticate, tree, bodies)
        fresh = [tile for tile, (_, is_new) in zip(needed, found, strict=True) if is_new]
        if fresh:
            await self._db.write(partial(self._save_tiles, proven, fresh))
        return proven

    def _save_tiles(self, proven: AuthenticTiles, fresh: list[Tile], session: Session) -> None:
        table = LogTable(session, self.name)
        for tile in fresh:
            table.save_tile(tile.level, tile.number, proven.bodies[tile])

    async def _kept(self, tile: Tile) -> bytes | None:
        kept = await self._db.read(lambda s: LogTable(s, self.name).tile(tile.level, tile.number))
        is_enough = kept is not None and len(kept) >= tile.size_bytes
        return kept[: tile.size_bytes] if kept is not None and is_enough else None

    async def _body(self, tile: Tile) -> tuple[bytes, bool]:
        """Return a tile's bytes, and whether they are new here and so unproven."""
        kept = await self._kept(tile)
        if kept is not None:
            return kept, False
        try:
            return await self._server.tile(tile.path), True
        except UpstreamAbsentError:
            if tile.is_full:
                raise
            # The log may have dropped the partial one, now that the tile is full.
            return (await self._server.tile(tile.full.path))[: tile.size_bytes], True

    async def _refused(
        self, what: str, answer: bytes, error: BadInputError | VerificationError
    ) -> VerificationError:
        """Alarm, keep what was sent, and return the error for whoever asked."""
        why = f"{self.name}: the answer to {what} is refused: {error}"
        head = await self._db.read(lambda s: LogTable(s, self.name).head())
        await self._keep_evidence(head.note if head else b"", answer, why)
        return VerificationError(why)

    async def _keep_evidence(self, older: bytes, newer: bytes, why: str) -> None:
        at = self._now()

        def work(session: Session) -> None:
            if LogTable(session, self.name).add_evidence(older, newer, why, at):
                AuditLog(session).append(at, "system", "sumdb.refuse", f"log:{self.name}", why)

        await self._db.write(work)
        metrics.count_log_refusal()
        _log.error("checksum database refused", log=self.name, why=why)


def _covers(tree: Tree, tile: Tile) -> bool:
    hashes = tree.size >> (HEIGHT * tile.level)
    return (tile.number << HEIGHT) + tile.width <= hashes
