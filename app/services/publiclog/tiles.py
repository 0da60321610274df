"""Proven tiles of a public log, kept here or fetched from the log.

Not here: which head proves them, and whether the head is on the log's timeline (`relay`). Tiles of
a head on another timeline must not be kept: they would block the log's own tiles.
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
    """Proven tiles of a tree. `fresh` are those that must be saved: new ones and changed ones."""

    tiles: AuthenticTiles
    fresh: Sequence[Tile]


class LogTiles:
    """The tiles of one log; name is the log's."""

    def __init__(self, name: str, server: SumdbServer, db: Database) -> None:
        self._name = name
        self._server = server
        self._db = db

    async def prove(self, tree: Tree, indexes: Iterable[int]) -> ProvenTiles:
        """Return the tiles that prove stored hashes: kept ones, and others from the log.

        Args:
            tree: of a head whose signature was checked.
            indexes: numbers of the stored hashes; the tiles that give the root are always added.

        Raises:
            BadInputError: an index is not in the tree.
            UpstreamError: the log can't be asked.
            VerificationError: the tiles do not belong to the tree.
        """
        needed = tiles_needed(tree, indexes)
        kept = await self.read_kept(needed)
        fresh = [tile for tile in needed if tile not in kept]
        bodies = kept | await self._fetch_bodies(fresh)
        try:
            return ProvenTiles(await asyncio.to_thread(authenticate, tree, bodies), fresh)
        except VerificationError:
            if not kept:
                raise
        # The kept tiles do not belong to this tree: they are damaged, or the log forked. Fetch all
        # tiles from the log. In the case of a fork, the comparison of the heads will fail.
        bodies = await self._fetch_bodies(needed)
        return ProvenTiles(await asyncio.to_thread(authenticate, tree, bodies), needed)

    async def read_kept(self, tiles: Sequence[Tile]) -> dict[Tile, bytes]:
        """Return the bodies of those tiles that are kept, in their width or a larger one."""
        return await self._db.read(partial(self._read_kept, tiles))

    def _read_kept(self, tiles: Sequence[Tile], session: Session) -> dict[Tile, bytes]:
        table = LogTable(session, self._name)
        bodies = {tile: table.tile(tile.level, tile.number) for tile in tiles}
        return {
            tile: body[: tile.size_bytes]
            for tile, body in bodies.items()
            if body is not None and len(body) >= tile.size_bytes
        }

    def save(self, proven: ProvenTiles, session: Session) -> None:
        """Keep tiles that a head of the log's timeline has proven."""
        table = LogTable(session, self._name)
        for tile in proven.fresh:
            table.save_tile(tile.level, tile.number, proven.tiles.bodies[tile])

    async def _fetch_bodies(self, tiles: Sequence[Tile]) -> dict[Tile, bytes]:
        bodies = await asyncio.gather(*map(self._body, tiles))
        return dict(zip(tiles, bodies, strict=True))

    async def _body(self, tile: Tile) -> bytes:
        """Return a tile's bytes from the log, unproven.

        Raises:
            UpstreamError: the log did not send the tile. Never UpstreamAbsentError: a signed tree
                needs the tile, so the log has failed.
        """
        try:
            try:
                return await self._server.tile(tile.path)
            except UpstreamAbsentError:
                if tile.is_full:
                    raise
                # The tile is full by now; the log may have dropped the partial one.
                return (await self._server.tile(tile.full.path))[: tile.size_bytes]
        except UpstreamAbsentError as error:
            raise UpstreamUnavailableError(
                f"{self._name} has no {tile.path}, which a tree that it signed needs",
                origin=error.origin,
                status=error.status,
            ) from error
