"""Tiles, the files that a log's hashes are served in. Follows x/mod/sumdb/tlog/tile.go.

A tile of height H at level L with number N lists W consecutive stored hashes, those of tree level
H * L from position N * 2**H on, 32 raw bytes each. A full tile has 2**H hashes, a partial tile has
fewer. The hashes of levels H * L + 1 to H * (L + 1) - 1 are computed from the tile; the hash above
them is in the parent tile. A tree of size records has size >> (H * L) hashes on tile level L.

    tile/8/0/x001/234/067?   no: each group of three digits but the last has an x
    tile/8/0/x001/x234/067   height 8, level 0, number 1234067, full (256 hashes, 8192 bytes)
    tile/8/1/000.p/5         height 8, level 1, number 0, its first 5 hashes
    tile/8/data/000          level -1: the text of records, not hashes (`record`)

`go` uses height 8. Not here: checking a tile that a stranger sent (`tileproof`), fetching and
keeping tiles (`services/publiclog`).
"""

import re
from dataclasses import dataclass

from app.core import tlog
from app.core.errors import BadInputError, VerificationError
from app.core.tlog import HASH_BYTES, Hash, HashReader

HEIGHT = 8
DATA_LEVEL = -1
MAX_HEIGHT = 30
MAX_LEVEL = 63
MAX_NUMBER = (1 << 63) - 1

_PATH = re.compile(
    r"tile/(?P<height>[1-9][0-9]?)/(?P<level>data|0|[1-9][0-9]?)/"
    r"(?P<number>(?:x[0-9]{3}/){0,6}[0-9]{3})(?:\.p/(?P<width>[1-9][0-9]{0,9}))?",
    re.ASCII,
)


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
        """Whether the tile has all its hashes; a full tile never changes."""
        return self.width == 1 << self.height

    @property
    def size_bytes(self) -> int:
        """Return the length of a body of hashes."""
        return self.width * HASH_BYTES

    @property
    def full(self) -> "Tile":
        """Return the full tile at the same place; its body begins with this tile's body."""
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
        BadInputError: the path is malformed, or the coordinates are out of range.
    """
    if match := _PATH.fullmatch(path):
        height = int(match["height"])
        level = DATA_LEVEL if match["level"] == "data" else int(match["level"])
        number = int(match["number"].replace("/", "").replace("x", ""))
        # min() keeps the shift small; Tile itself refuses heights over 30.
        width = int(match["width"] or 1 << min(height, MAX_HEIGHT))
        tile = Tile(height, level, number, width)
        if tile.path == path:
            return tile
    raise BadInputError(
        f"{path[:80]!a} is not a tile path, such as tile/8/0/x001/234 or tile/8/1/000.p/5"
    )


def _place(height: int, index: int) -> tuple[Tile, int, int]:
    """Return the narrowest tile for a stored hash, and the range of hashes that it covers there."""
    if not 1 <= height <= MAX_HEIGHT:
        raise BadInputError(f"there is no tile of height {height}")
    tree_level, n = tlog.split_stored_hash_index(index)
    level, inner = divmod(tree_level, height)
    number = n << inner >> height
    start = (n << inner) - (number << height)
    end = start + (1 << inner)
    return Tile(height, level, number, end), start, end


def tile_for_index(height: int, index: int) -> Tile:
    """Return the narrowest tile from which the stored hash of that number is read or computed.

    Raises:
        BadInputError: height or index is out of range.
    """
    return _place(height, index)[0]


def hash_from_tile(tile: Tile, body: bytes, index: int) -> Hash:
    """Return the stored hash of that number, read or computed from a tile's body.

    Args:
        tile: the tile of `tile_for_index`, or a wider one at the same place.
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
    return subtree_hash(body[start * HASH_BYTES : end * HASH_BYTES])


def subtree_hash(body: bytes) -> Hash:
    """Return the root of a complete subtree; body is its hashes, a power of two of them."""
    row = [Hash(body[i : i + HASH_BYTES]) for i in range(0, len(body), HASH_BYTES)]
    while len(row) > 1:
        row = [tlog.node_hash(row[i], row[i + 1]) for i in range(0, len(row), 2)]
    return row[0]


def new_tiles(height: int, old_size: int, new_size: int) -> list[Tile]:
    """Return the tiles to write when a log grows from old_size to new_size records, lowest first.

    Partial tiles have the width that new_size gives. Tiles of records (level -1) are not listed:
    they have the numbers and widths of level 0.

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
    """Return the numbers of the stored hashes in a tile of hashes, ascending, as in the tile.

    Raises:
        BadInputError: tile is a tile of records.
    """
    if tile.level < 0:
        raise BadInputError(f"{tile.path} has records, not hashes")
    start, tree_level = tile.number << tile.height, tile.height * tile.level
    return [tlog.stored_hash_index(tree_level, start + i) for i in range(tile.width)]


def tile_body(tile: Tile, read: HashReader) -> bytes:
    """Return the body of a tile of hashes, `tile.size_bytes` long.

    Raises:
        BadInputError: tile is a tile of records.
        VerificationError: `read` returned too few hashes.
    """
    body = b"".join(read(tile_indexes(tile)))
    if len(body) != tile.size_bytes:
        raise VerificationError(f"the log's stored hashes are short of those of {tile.path}")
    return body
