"""Proven tiles of a public log: kept ones, and those that the log is asked for.

Not here: which head proves them, and whether that head is on the log's timeline (`relay`). What is
kept under a head that is not would stand in the way of the log's own tiles.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from app.core.errors import UpstreamAbsentError, UpstreamUnavailableError, VerificationError
from app.core.tile import Tile
from app.core.tileproof import AuthenticTiles, authenticate, tiles_needed
from app.core.tlog import Tree
from app.db.engine import Database, Session
from app.db.sumdb import LogTable
from app.upstream.sumdb import SumdbServer


@dataclass(frozen=True, slots=True)
class ProvenTiles:
    """Tiles of a tree, and which of them are not kept yet, or not like that."""

    tiles: AuthenticTiles
    fresh: Sequence[Tile]


class LogTiles:
    """The tiles of one log; name is the log's."""

    def __init__(self, name: str, server: SumdbServer, db: Database) -> None:
        self._name = name
        self._server = server
        self._db = db

    async def proven(self, tree: Tree, indexes: Iterable[int]) -> ProvenTiles:
        """Return the tiles that prove stored hashes, from here where kept, else from the log.

        Args:
            tree: of a head whose signature was checked.
            indexes: of the stored hashes; the tiles that give the root are always among them.

        Raises:
            BadInputError: an index is not in the tree.
            UpstreamError: the log can't be asked.
            VerificationError: what it answered is not the tree's.
        """
        needed = tiles_needed(tree, indexes)
        kept = await self.kept(needed)
        fresh = [tile for tile in needed if tile not in kept]
        bodies = kept | await self._fetched(fresh)
        try:
            return ProvenTiles(await asyncio.to_thread(authenticate, tree, bodies), fresh)
        except VerificationError:
            if not kept:
                raise
        # What is kept belongs to another head. If the log's own tiles fit this one, they differ:
        # the log forked, as the comparison of the heads will show, or what is kept is damaged.
        bodies = await self._fetched(needed)
        return ProvenTiles(await asyncio.to_thread(authenticate, tree, bodies), needed)

    async def kept(self, tiles: Sequence[Tile]) -> dict[Tile, bytes]:
        """Return the bodies of those tiles that are kept in that width or a larger one."""
        return await self._db.read(partial(self._kept, tiles))

    def _kept(self, tiles: Sequence[Tile], session: Session) -> dict[Tile, bytes]:
        table = LogTable(session, self._name)
        bodies = {tile: table.tile(tile.level, tile.number) for tile in tiles}
        return {
            tile: body[: tile.size_bytes]
            for tile, body in bodies.items()
            if body is not None and len(body) >= tile.size_bytes
        }

    def save(self, proven: ProvenTiles, session: Session) -> None:
        """Keep tiles that are proven by a head of the log's one timeline."""
        table = LogTable(session, self._name)
        for tile in proven.fresh:
            table.save_tile(tile.level, tile.number, proven.tiles.bodies[tile])

    async def _fetched(self, tiles: Sequence[Tile]) -> dict[Tile, bytes]:
        bodies = await asyncio.gather(*map(self._body, tiles))
        return dict(zip(tiles, bodies, strict=True))

    async def _body(self, tile: Tile) -> bytes:
        """Return a tile's bytes as the log has them, unproven.

        Raises:
            UpstreamError: it can't be had. Never that of what is absent: a signed tree needs it.
        """
        try:
            try:
                return await self._server.tile(tile.path)
            except UpstreamAbsentError:
                if tile.is_full:
                    raise
                # The log may have dropped the partial one, now that the tile is full.
                return (await self._server.tile(tile.full.path))[: tile.size_bytes]
        except UpstreamAbsentError as error:
            raise UpstreamUnavailableError(
                f"{self._name} has no {tile.path}, which a tree that it signed needs",
                origin=error.origin,
                status=error.status,
            ) from error
