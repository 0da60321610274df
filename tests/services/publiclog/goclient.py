"""A client of a checksum database that checks what `go` checks. Follows x/mod/sumdb/client.go.

It keeps the newest head and tiles as `go` does in $GOPATH/pkg/sumdb and GOMODCACHE; `forget` is
`go clean -modcache`. What `go` ends the process for is a `Misbehaved`. Not here: the wire.
"""

from collections.abc import Awaitable, Callable, Iterable

from app.core import record as records
from app.core import tlog
from app.core.note import open_note
from app.core.notekey import parse_vkey
from app.core.record import Sums
from app.core.tile import Tile
from app.core.tileproof import AuthenticTiles, authenticate, tiles_needed
from app.core.tlog import Tree

AskLookup = Callable[[str, str], Awaitable[bytes]]
AskTile = Callable[[Tile], Awaitable[bytes]]
EMPTY = Tree(0, tlog.EMPTY_ROOT)


class Misbehaved(Exception):
    """The log signed two timelines: SECURITY ERROR."""


class GoClient:
    """One user's `go`; latest is the newest head that it has seen."""

    def __init__(self, vkey: str, lookup: AskLookup, tile: AskTile, latest: Tree = EMPTY) -> None:
        self._verifier = parse_vkey(vkey)
        self._ask_lookup, self._ask_tile = lookup, tile
        self._tiles: dict[Tile, bytes] = {}
        self.latest = latest

    def forget(self) -> None:
        """Forget what `go clean -modcache` removes; the newest head stays."""
        self._tiles.clear()

    async def lookup(self, module: str, version: str) -> Sums:
        """Return the verified sums of a version."""
        lookup = records.parse_lookup(await self._ask_lookup(module, version))
        tree = tlog.parse_tree(open_note(lookup.note, [self._verifier]).text)
        await self._merge(tree)
        assert lookup.number < self.latest.size, "cannot validate record in tree of that size"
        index = tlog.stored_hash_index(0, lookup.number)
        text = records.authentic_text(lookup, await self._read(self.latest, [index]))
        return records.lines_for(text, module, version)

    async def _merge(self, tree: Tree) -> None:
        if tree.size <= self.latest.size:
            await self._check_trees(tree, self.latest)
        else:
            await self._check_trees(self.latest, tree)
            self.latest = tree

    async def _check_trees(self, older: Tree, newer: Tree) -> None:
        tiles = await self._read(newer, tlog.tree_indexes(older.size))
        if tlog.tree_hash(older.size, tiles.read) != older.root:
            raise Misbehaved(f"{newer.size} does not contain {older.size}")

    async def _read(self, tree: Tree, indexes: Iterable[int]) -> AuthenticTiles:
        bodies = {tile: await self._tile(tile) for tile in tiles_needed(tree, indexes)}
        proven = authenticate(tree, bodies)
        self._tiles.update(bodies)
        return proven

    async def _tile(self, tile: Tile) -> bytes:
        for known in (tile, tile.full):
            if known in self._tiles:
                return self._tiles[known][: tile.size_bytes]
        return await self._ask_tile(tile)
