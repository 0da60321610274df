"""Tiles checked against a tree head. Follows x/mod/sumdb/tlog/tile.go (TileHashReader).

A stranger's tile is used for nothing before `authenticate` has checked it: only this function makes
`AuthenticTiles`. `tiles_needed` says which tiles a check needs. Not here: the coordinates and
bodies of tiles (`tile`), fetching and keeping them (`services/publiclog`).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import InitVar, dataclass

from app.core import tlog
from app.core.errors import BadInputError, VerificationError
from app.core.tile import HEIGHT, Tile, hash_from_tile, subtree_hash, tile_for_index
from app.core.tlog import Hash, HashReader, Tree

TileReader = Callable[[Sequence[Tile]], Sequence[bytes]]

_SEAL = object()


def _in_tree(tree: Tree, height: int, level: int, number: int) -> Tile:
    """Return the tile at a place, with the width that it has in tree."""
    width = min(1 << height, (tree.size >> (height * level)) - (number << height))
    return Tile(height, level, number, width)


def _tile_holding(tree: Tree, height: int, index: int) -> Tile:
    """Return tree's tile from which the stored hash of that number is read or computed."""
    if not 0 <= index < tlog.stored_hash_count(tree.size):
        raise BadInputError(f"stored hash {index} is not in the tree of {tree.size} records")
    least = tile_for_index(height, index)
    return _in_tree(tree, height, least.level, least.number)


def _parent(tree: Tree, tile: Tile) -> Tile:
    """Return the tile that has the hash above a full tile; every full tile has a parent."""
    return _in_tree(tree, tile.height, tile.level + 1, tile.number >> tile.height)


def _edge_tiles(tree: Tree, height: int) -> dict[Tile, None]:
    """Return the tiles from which the root is computed, higher levels first.

    These are the partial tiles, at most one on each level. The computation uses all their hashes,
    so a correct root authenticates them completely.
    """
    return {_tile_holding(tree, height, index): None for index in tlog.tree_indexes(tree.size)}


def tiles_needed(tree: Tree, indexes: Iterable[int], height: int = HEIGHT) -> list[Tile]:
    """Return the tiles that prove the stored hashes of those numbers, parents before children.

    These are the tiles that give the tree's root, the tiles with the hashes, and all tiles between
    them. A client fetches the tiles for `tlog.tree_indexes(old.size)` to check an older head, and
    for `[tlog.stored_hash_index(0, n)]` to check a record.

    Raises:
        BadInputError: an index is not in the tree, or height is out of range.
    """
    needed = _edge_tiles(tree, height)
    for index in indexes:
        chain, tile = [], _tile_holding(tree, height, index)
        while tile not in needed:
            chain.append(tile)
            tile = _parent(tree, tile)
        needed.update(dict.fromkeys(reversed(chain)))
    return list(needed)


@dataclass(frozen=True, slots=True)
class AuthenticTiles:
    """Tiles that are proven to belong to a tree; only `authenticate` makes an instance.

    Attributes:
        tree: the head that the tiles were checked against.
        height: of all tiles.
        bodies: the checked bodies. A full tile may be kept for ever.
    """

    tree: Tree
    height: int
    bodies: Mapping[Tile, bytes]
    seal: InitVar[object]

    def __post_init__(self, seal: object) -> None:
        # TypeError, because this is a mistake in the program: no caller should catch it.
        if seal is not _SEAL:
            raise TypeError("AuthenticTiles come from authenticate alone")

    def read(self, indexes: Sequence[int]) -> list[Hash]:
        """Return the stored hashes of those numbers; this method is a `tlog.HashReader`.

        Raises:
            BadInputError: a hash is not in the tree, or its tile was not authenticated.
        """
        return [self._hash(index) for index in indexes]

    def _hash(self, index: int) -> Hash:
        tile = _tile_holding(self.tree, self.height, index)
        if tile not in self.bodies:
            raise BadInputError(f"stored hash {index} is in {tile.path}, which is not at hand")
        return hash_from_tile(tile, self.bodies[tile], index)


def authenticate(tree: Tree, bodies: Mapping[Tile, bytes], height: int = HEIGHT) -> AuthenticTiles:
    """Return the tiles, after a proof that each of them belongs to tree.

    The tiles that give the root are checked against the root, each other tile against its parent.
    No tile is left out: x/mod before 0.40 skipped some (CVE-2026-56865).

    Args:
        tree: a head whose signature was checked.
        bodies: unchecked bodies: at least those of `tiles_needed(tree, ())`, and with each tile its
            parents.
        height: of all tiles.

    Raises:
        BadInputError: a needed tile or a parent is missing, or a tile has no place in that tree.
        VerificationError: a body has a wrong length, or a tile does not belong to the tree.
    """
    for tile, body in bodies.items():
        _check_form(tree, height, tile, body)
    edge = _edge_tiles(tree, height)
    _check_root(tree, edge, bodies, height)
    # Begin at the top: a parent must be authentic before its children are compared with it.
    for tile in sorted(bodies.keys() - edge.keys(), key=lambda tile: -tile.level):
        parent = _parent(tree, tile)
        if parent not in bodies:
            raise BadInputError(f"{tile.path} can't be checked without {parent.path}")
        index = tlog.stored_hash_index(parent.level * height, tile.number)
        if hash_from_tile(parent, bodies[parent], index) != subtree_hash(bodies[tile]):
            raise VerificationError(f"{tile.path} is not the tile that {parent.path} names")
    return AuthenticTiles(tree, height, dict(bodies), _SEAL)


def _check_form(tree: Tree, height: int, tile: Tile, body: bytes) -> None:
    hashes = tree.size >> (height * max(tile.level, 0))
    if tile.height != height or tile.level < 0 or tile.number << height >= hashes:
        raise BadInputError(f"{tile.path} is not in the tree of {tree.size} records")
    if tile != (proper := _in_tree(tree, height, tile.level, tile.number)):
        raise BadInputError(f"in the tree of {tree.size} records {tile.path} is {proper.path}")
    if len(body) != tile.size_bytes:
        raise VerificationError(f"{tile.path} has {len(body)} bytes instead of {tile.size_bytes}")


def _check_root(
    tree: Tree, edge: Iterable[Tile], bodies: Mapping[Tile, bytes], height: int
) -> None:
    if missing := [tile.path for tile in edge if tile not in bodies]:
        raise BadInputError(f"the tree's root can't be checked without {', '.join(missing)}")

    def read(indexes: Sequence[int]) -> list[Hash]:
        tiles = [(index, _tile_holding(tree, height, index)) for index in indexes]
        return [hash_from_tile(tile, bodies[tile], index) for index, tile in tiles]

    if tlog.tree_hash(tree.size, read) != tree.root:
        raise VerificationError(
            f"{', '.join(tile.path for tile in edge)} do not give the root hash "
            f"of the log's tree of {tree.size} records"
        )


def tile_hash_reader(tree: Tree, read_tiles: TileReader, height: int = HEIGHT) -> HashReader:
    """Return a reader of stored hashes that fetches tiles and authenticates them before use.

    Args:
        tree: a head whose signature was checked.
        read_tiles: returns the body of each tile, in the order of its argument.
        height: of the log's tiles.

    The reader raises the errors of `read_tiles`, `tiles_needed` and `authenticate`.
    """

    def read(indexes: Sequence[int]) -> list[Hash]:
        needed = tiles_needed(tree, indexes, height)
        bodies = read_tiles(needed)
        if len(bodies) != len(needed):
            raise VerificationError(f"{len(bodies)} tiles came instead of {len(needed)}")
        return authenticate(tree, dict(zip(needed, bodies, strict=True)), height).read(indexes)

    return read
