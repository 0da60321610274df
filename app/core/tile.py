"""Tiles, the files that a log's hashes are served in. Follows x/mod/sumdb/tlog/tile.go.

A tile of height H at level L with number N lists W consecutive stored hashes, those of tree level
H * L from position N * 2**H on, 32 raw bytes each. A full tile has 2**H of them, a partial one
fewer. It stands for the subtree above its hashes: the levels H * L + 1 to H * (L + 1) - 1 are
computed from them, the next one is in the parent tile. A tree of size records has
size >> (H * L) hashes on tile level L.

    tile/8/0/x001/234/067?   no: each group of three digits but the last has an x
    tile/8/0/x001/x234/067   height 8, level 0, number 1234067, full (256 hashes, 8192 bytes)
    tile/8/1/000.p/5         height 8, level 1, number 0, its first 5 hashes
    tile/8/data/000          level -1: the text of records, not hashes (`record`)

`go` uses height 8. What a stranger sends is `authenticate`d against a tree head before any hash
in it is used; an `AuthenticTiles` comes from there alone. Not here: fetching and keeping.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import InitVar, dataclass

from app.core import tlog
from app.core.errors import BadInputError, VerificationError
from app.core.tlog import HASH_BYTES, Hash, HashReader, Tree

HEIGHT = 8
DATA_LEVEL = -1
MAX_HEIGHT = 30
MAX_LEVEL = 63
MAX_NUMBER = (1 << 63) - 1

TileReader = Callable[[Sequence["Tile"]], Sequence[bytes]]

_PATH = re.compile(
    r"tile/(?P<height>[1-9][0-9]?)/(?P<level>data|0|[1-9][0-9]?)/"
    r"(?P<number>(?:x[0-9]{3}/){0,6}[0-9]{3})(?:\.p/(?P<width>[1-9][0-9]{0,9}))?",
    re.ASCII,
)
_SEAL = object()


@dataclass(frozen=True, slots=True)
class Tile:
    """The coordinates of a tile.

    Attributes:
        height: 1 to 30.
        level: 0 to 63, or -1 for the text of records.
        number: within the level, from 0 on.
        width: 1 to 2**height; 2**height is a full tile.
    """

    height: int
    level: int
    number: int
    width: int

    def __post_init__(self) -> None:
        is_known = 1 <= self.height <= MAX_HEIGHT and DATA_LEVEL <= self.level <= MAX_LEVEL
        is_placed = is_known and 0 <= self.number <= MAX_NUMBER
        if not (is_placed and 1 <= self.width <= 1 << self.height):
            raise BadInputError(
                f"there is no tile of height {self.height}, level {self.level}, "
                f"number {self.number}, width {self.width}"
            )

    @property
    def is_full(self) -> bool:
        """Whether it has all its hashes and never changes again."""
        return self.width == 1 << self.height

    @property
    def size_bytes(self) -> int:
        """Return how long a body of hashes has to be."""
        return self.width * HASH_BYTES

    @property
    def full(self) -> "Tile":
        """Return the full tile at its place: its body's first `size_bytes` are this one's."""
        return Tile(self.height, self.level, self.number, 1 << self.height)

    @property
    def path(self) -> str:
        """Return the path below the log's base URL: "tile/8/1/000.p/5"."""
        digits = f"{self.number:03d}"
        digits = digits.zfill(-(-len(digits) // 3) * 3)
        groups = [digits[i : i + 3] for i in range(0, len(digits), 3)]
        number = "/".join([*(f"x{group}" for group in groups[:-1]), groups[-1]])
        level = "data" if self.level == DATA_LEVEL else self.level
        partial = "" if self.is_full else f".p/{self.width}"
        return f"tile/{self.height}/{level}/{number}{partial}"


def parse_tile_path(path: str) -> Tile:
    """Return the tile that a path such as "tile/8/0/x001/234" or "tile/8/data/000.p/7" names.

    Each tile has one path: the parser is strict by printing back.

    Raises:
        BadInputError: the path is malformed or names a tile that can't be.
    """
    if found := _PATH.fullmatch(path):
        height = int(found["height"])
        level = DATA_LEVEL if found["level"] == "data" else int(found["level"])
        number = int(found["number"].replace("/", "").replace("x", ""))
        # Not 1 << height for any two digits: Tile refuses heights over 30 itself.
        width = int(found["width"] or 1 << min(height, MAX_HEIGHT))
        tile = Tile(height, level, number, width)
        if tile.path == path:
            return tile
    raise BadInputError(
        f"{path[:80]!a} is not a tile path, such as tile/8/0/x001/234 or tile/8/1/000.p/5"
    )


def _place(height: int, index: int) -> tuple[Tile, int, int]:
    """Return the narrowest tile with a stored hash, and which of its hashes that one is above."""
    if not 1 <= height <= MAX_HEIGHT:
        raise BadInputError(f"there is no tile of height {height}")
    tree_level, n = tlog.split_stored_hash_index(index)
    level, inner = divmod(tree_level, height)
    number = n << inner >> height
    start = (n << inner) - (number << height)
    end = start + (1 << inner)
    return Tile(height, level, number, end), start, end


def tile_for_index(height: int, index: int) -> Tile:
    """Return the tile of least width that has, or lets compute, the stored hash of that number.

    Raises:
        BadInputError: height or index is out of range.
    """
    return _place(height, index)[0]


def hash_from_tile(tile: Tile, body: bytes, index: int) -> Hash:
    """Return the stored hash of that number, read or computed from a tile's body.

    Args:
        tile: `tile_for_index` or a wider one at its place.
        body: exactly `tile.size_bytes` long.
        index: the stored hash's number.

    Raises:
        BadInputError: the body's length is wrong, or the hash is not in that tile.
    """
    if tile.level < 0 or len(body) != tile.size_bytes:
        raise BadInputError(f"{tile.path} is not {len(body)} bytes of hashes")
    least, start, end = _place(tile.height, index)
    if (least.level, least.number) != (tile.level, tile.number) or least.width > tile.width:
        raise BadInputError(f"stored hash {index} is in {least.path}, not in {tile.path}")
    return _subtree_hash(body[start * HASH_BYTES : end * HASH_BYTES])


def _subtree_hash(body: bytes) -> Hash:
    """Return the hash above a power of two of hashes."""
    row = [Hash(body[i : i + HASH_BYTES]) for i in range(0, len(body), HASH_BYTES)]
    while len(row) > 1:
        row = [tlog.node_hash(row[i], row[i + 1]) for i in range(0, len(row), 2)]
    return row[0]


def new_tiles(height: int, old_size: int, new_size: int) -> list[Tile]:
    """Return the tiles to write when a log grows from old_size to new_size records, lowest first.

    Partial ones are in the width of new_size alone. None of them is of level -1: tiles of records
    are those of level 0 with another level.

    Raises:
        BadInputError: height is out of range, or not 0 <= old_size <= new_size.
    """
    if not (1 <= height <= MAX_HEIGHT and 0 <= old_size <= new_size <= tlog.MAX_SIZE):
        raise BadInputError(f"no tiles of height {height} from {old_size} to {new_size} records")
    tiles = []
    for level in range(new_size.bit_length() // height + 1):
        old, new = old_size >> (height * level), new_size >> (height * level)
        if old == new:
            continue
        for number in range(old >> height, ((new - 1) >> height) + 1):
            width = min(1 << height, new - (number << height))
            tiles.append(Tile(height, level, number, width))
    return tiles


def tile_indexes(tile: Tile) -> list[int]:
    """Return which stored hashes a tile of hashes lists, in its order (which is ascending).

    Raises:
        BadInputError: it is a tile of records.
    """
    if tile.level < 0:
        raise BadInputError(f"{tile.path} has records, not hashes")
    start, tree_level = tile.number << tile.height, tile.height * tile.level
    return [tlog.stored_hash_index(tree_level, start + i) for i in range(tile.width)]


def tile_body(tile: Tile, read: HashReader) -> bytes:
    """Return the body of a tile of hashes, `tile.size_bytes` long.

    Raises:
        BadInputError: it is a tile of records.
        VerificationError: read does not give the hashes.
    """
    body = b"".join(read(tile_indexes(tile)))
    if len(body) != tile.size_bytes:
        raise VerificationError(f"the log's stored hashes are short of those of {tile.path}")
    return body


def _in_tree(tree: Tree, height: int, level: int, number: int) -> Tile:
    """Return the tile at a place, as wide as it is in tree."""
    width = min(1 << height, (tree.size >> (height * level)) - (number << height))
    return Tile(height, level, number, width)


def _holding(tree: Tree, height: int, index: int) -> Tile:
    if not 0 <= index < tlog.stored_hash_count(tree.size):
        raise BadInputError(f"stored hash {index} is not in the tree of {tree.size} records")
    least = tile_for_index(height, index)
    return _in_tree(tree, height, least.level, least.number)


def _parent(tree: Tree, tile: Tile) -> Tile:
    """Return the tile with the hash above a full tile; there is one, if only of that hash."""
    return _in_tree(tree, tile.height, tile.level + 1, tile.number >> tile.height)


def _edge(tree: Tree, height: int) -> dict[Tile, None]:
    """Return the tiles from which the root is computed, higher levels first.

    They are the partial ones, at most one on each level, and each of their hashes is in the
    computation: a root that is right authenticates them wholly.
    """
    return {_holding(tree, height, index): None for index in tlog.tree_indexes(tree.size)}


def tiles_needed(tree: Tree, indexes: Iterable[int], height: int = HEIGHT) -> list[Tile]:
    """Return the tiles that prove the stored hashes of those numbers, parents before children.

    Those that give the tree's root, those with the hashes, and all in between. With the indexes of
    `tlog.tree_indexes(old.size)` or `[tlog.stored_hash_index(0, n)]` they are what a client fetches
    to check an older head or a record.

    Raises:
        BadInputError: an index is not in the tree, or height is out of range.
    """
    needed = _edge(tree, height)
    for index in indexes:
        chain, tile = [], _holding(tree, height, index)
        while tile not in needed:
            chain.append(tile)
            tile = _parent(tree, tile)
        needed.update(dict.fromkeys(reversed(chain)))
    return list(needed)


@dataclass(frozen=True, slots=True)
class AuthenticTiles:
    """Tiles that are proven to be those of a tree; only `authenticate` makes one.

    Attributes:
        tree: the head that they were checked against.
        height: of all of them.
        bodies: every one was checked, and may be kept for ever if it is full.
    """

    tree: Tree
    height: int
    bodies: Mapping[Tile, bytes]
    seal: InitVar[object]

    def __post_init__(self, seal: object) -> None:
        # A mistake in the program, so that no caller should catch it.
        if seal is not _SEAL:
            raise TypeError("AuthenticTiles come from authenticate alone")

    def read(self, indexes: Sequence[int]) -> list[Hash]:
        """Return the stored hashes of those numbers; this method is a `tlog.HashReader`.

        Raises:
            BadInputError: one is not in the tree, or its tile was not among `tiles_needed`.
        """
        return [self._hash(index) for index in indexes]

    def _hash(self, index: int) -> Hash:
        tile = _holding(self.tree, self.height, index)
        if tile not in self.bodies:
            raise BadInputError(f"stored hash {index} is in {tile.path}, which is not at hand")
        return hash_from_tile(tile, self.bodies[tile], index)


def authenticate(tree: Tree, bodies: Mapping[Tile, bytes], height: int = HEIGHT) -> AuthenticTiles:
    """Return the tiles, each of which is proven to be tree's.

    Those that give the root are checked against it, each other against its parent, and none is
    left out: x/mod before 0.40 skipped some (CVE-2026-56865).

    Args:
        tree: a head whose signature was checked.
        bodies: as they came, at least those of `tiles_needed(tree, ())`; each with its parents.
        height: of all of them.

    Raises:
        BadInputError: a needed tile or a parent is missing, or one is no tile of that tree.
        VerificationError: a body's length is wrong, or a tile is not the tree's.
    """
    for tile, body in bodies.items():
        _check_form(tree, height, tile, body)
    edge = _edge(tree, height)
    _check_root(tree, edge, bodies, height)
    # From the top, so that a parent is authentic when its children are compared with it.
    for tile in sorted(bodies.keys() - edge.keys(), key=lambda one: -one.level):
        parent = _parent(tree, tile)
        if parent not in bodies:
            raise BadInputError(f"{tile.path} can't be checked without {parent.path}")
        index = tlog.stored_hash_index(parent.level * height, tile.number)
        if hash_from_tile(parent, bodies[parent], index) != _subtree_hash(bodies[tile]):
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
        tiles = [(index, _holding(tree, height, index)) for index in indexes]
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
        read_tiles: gives the body of each tile, in their order; what it raises goes through.
        height: of the log's tiles.

    The reader raises what `tiles_needed` and `authenticate` raise.
    """

    def read(indexes: Sequence[int]) -> list[Hash]:
        needed = tiles_needed(tree, indexes, height)
        bodies = read_tiles(needed)
        if len(bodies) != len(needed):
            raise VerificationError(f"{len(bodies)} tiles came instead of {len(needed)}")
        return authenticate(tree, dict(zip(needed, bodies, strict=True)), height).read(indexes)

    return read
