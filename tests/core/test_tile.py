"""Vectors are those of golang.org/x/mod/sumdb/tlog/*_test.go unless a comment says otherwise."""

import contextlib
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core import tile as tiling
from app.core import tlog
from app.core.errors import BadInputError, VerificationError
from app.core.tile import (
    Tile,
    hash_from_tile,
    new_tiles,
    parse_tile_path,
    tile_body,
    tile_for_index,
)
from app.core.tileproof import AuthenticTiles, authenticate, tile_hash_reader, tiles_needed
from app.core.tlog import EMPTY_ROOT, HASH_BYTES, Hash, Tree


class Log:
    """An honest log: its hashes, its head at each size, its tiles of any height."""

    def __init__(self, size: int) -> None:
        self.stored: list[Hash] = []
        self.trees = [Tree(0, EMPTY_ROOT)]
        for n in range(size):
            self.stored += tlog.stored_hashes(n, tlog.leaf_hash(b"leaf %d" % n), self.read)
            self.trees.append(Tree(n + 1, tlog.tree_hash(n + 1, self.read)))

    def read(self, indexes) -> list[Hash]:
        return [self.stored[index] for index in indexes]

    def bodies(self, tiles) -> dict[Tile, bytes]:
        return {tile: tile_body(tile, self.read) for tile in tiles}

    def read_tiles(self, tiles) -> list[bytes]:
        return [tile_body(tile, self.read) for tile in tiles]


@pytest.fixture(scope="module")
def log() -> Log:
    return Log(900)


PATHS = [
    ("tile/4/0/001", Tile(4, 0, 1, 16)),
    ("tile/4/0/001.p/5", Tile(4, 0, 1, 5)),
    ("tile/3/5/x123/x456/078", Tile(3, 5, 123456078, 8)),
    ("tile/3/5/x123/x456/078.p/2", Tile(3, 5, 123456078, 2)),
    ("tile/1/0/x003/x057/500", Tile(1, 0, 3057500, 2)),
    ("tile/1/data/x003/x057/500", Tile(1, -1, 3057500, 2)),
    # The documentation of x/mod's Tile.
    ("tile/3/4/x001/x234/067.p/1", Tile(3, 4, 1234067, 1)),
    ("tile/3/4/x001/x234/067", Tile(3, 4, 1234067, 8)),
    # What go 1.27 was seen to ask for.
    ("tile/8/0/002.p/197", Tile(8, 0, 2, 197)),
    ("tile/8/1/000.p/2", Tile(8, 1, 0, 2)),
    ("tile/8/data/000.p/255", Tile(8, -1, 0, 255)),
    ("tile/30/63/999", Tile(30, 63, 999, 1 << 30)),
    ("tile/8/0/x009/x223/x372/x036/x854/x775/807", Tile(8, 0, (1 << 63) - 1, 256)),
]


@pytest.mark.parametrize(("path", "tile"), PATHS)
def test_a_tile_and_its_path_are_one_another(path: str, tile: Tile) -> None:
    assert tile.path == path
    assert parse_tile_path(path) == tile


@pytest.mark.parametrize(
    "path",
    [
        "tile/3/5/123/456/078",
        "tile/3/-1/123/456/078",
        "",
        "tile",
        "/tile/8/0/000",
        "tile/8/0/000/",
        "tile/8/0/000\n",
        "tile/8/0/00",
        "tile/8/0/0000",
        "tile/8/0/x000/001",
        "tile/8/0/x001",
        "tile/8/0/x001/x002",
        "tile/8/0/X001/002",
        "tile/8//000",
        "tile/8/00/000",
        "tile/08/0/000",
        "tile/+8/0/000",
        "tile/0/0/000",
        "tile/31/0/000",
        "tile/99/0/000",
        "tile/8/64/000",
        "tile/8/-1/000",
        "tile/8/DATA/000",
        "tile/8/0/000.p/0",
        "tile/8/0/000.p/256",
        "tile/8/0/000.p/257",
        "tile/8/0/000.p/05",
        "tile/8/0/000.p/",
        "tile/8/0/000.p",
        "tile/8/0/000.p/5/",
        "tile/8/0/000.p/99999999999999999999",
        "tile/8/0/x009/x223/x372/x036/x854/x775/808",
        "tile/8/0/x010/x000/x000/x000/x000/x000/000",
        "tile/8/0/" + "x001/" * 5000 + "000",
        "tile/8/0/\u0660\u0660\u0660",
        "tile/8/0/../000",
        "tile/8/0/%30%30%30",
        "tile/8/entries/000",
    ],
)
def test_a_malformed_tile_path_is_refused(path: str) -> None:
    with pytest.raises(BadInputError) as refused:
        parse_tile_path(path)
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize(
    "numbers",
    [
        (0, 0, 0, 1),
        (31, 0, 0, 1),
        (8, -2, 0, 1),
        (8, 64, 0, 1),
        (8, 0, -1, 1),
        (8, 0, 1 << 63, 1),
        (8, 0, 0, 0),
        (8, 0, 0, 257),
    ],
)
def test_a_tile_that_can_not_be_is_refused(numbers: tuple[int, int, int, int]) -> None:
    with pytest.raises(BadInputError):
        Tile(*numbers)


TILES = st.integers(1, 30).flatmap(
    lambda height: st.builds(
        Tile,
        st.just(height),
        st.integers(-1, 63),
        st.integers(0, 10**9) | st.integers(0, tiling.MAX_NUMBER),
        st.integers(1, 1 << height),
    )
)


@given(TILES)
def test_a_tile_path_parses_back(tile: Tile) -> None:
    assert parse_tile_path(tile.path) == tile
    assert parse_tile_path(tile.full.path).is_full


@given(TILES, st.data())
def test_a_path_that_is_parsed_prints_back(tile: Tile, data: st.DataObject) -> None:
    path = list(tile.path)
    path[data.draw(st.integers(0, len(path) - 1))] = data.draw(
        st.characters() | st.sampled_from("0123456789x./p") | st.just("")
    )
    changed = "".join(path)
    with contextlib.suppress(BadInputError):
        assert parse_tile_path(changed).path == changed


@pytest.mark.parametrize(
    ("old", "new", "count"),
    [
        (1, 1, 0),
        (100, 101, 1),
        (1023, 1025, 3),
        (1024, 1030, 1),
        (1030, 2000, 1),
        (1030, 10000, 10),
        (49516517, 49516586, 3),
        (0, 0, 0),
    ],
)
def test_a_grown_log_has_so_many_new_tiles(old: int, new: int, count: int) -> None:
    assert len(new_tiles(10, old, new)) == count


@pytest.mark.parametrize(("height", "old", "new"), [(0, 0, 1), (31, 0, 1), (8, 2, 1), (8, -1, 1)])
def test_a_log_can_not_shrink_nor_have_tiles_of_no_height(height, old, new) -> None:
    with pytest.raises(BadInputError):
        new_tiles(height, old, new)


@pytest.mark.parametrize("height", [-1, 0, 31])
def test_tiles_of_no_height_are_not_needed(log: Log, height: int) -> None:
    with pytest.raises(BadInputError):
        tile_for_index(height, 0)
    with pytest.raises(BadInputError):
        tiles_needed(log.trees[5], [0], height)


@pytest.mark.parametrize("height", [1, 2, 3, 8])
def test_new_tiles_continue_the_older_ones_and_have_every_hash(log: Log, height: int) -> None:
    kept: dict[tuple[int, int], tuple[Tile, bytes]] = {}
    for size in range(1, 301):
        before = tlog.stored_hash_count(size - 1)
        for tile, body in log.bodies(new_tiles(height, size - 1, size)).items():
            old = kept.get((tile.level, tile.number))
            assert body[: len(old[1]) if old else 0] == (old[1] if old else b"")
            assert old is None or tile.width == old[0].width + 1
            kept[tile.level, tile.number] = tile, body
        for index in range(before, tlog.stored_hash_count(size)):
            least = tile_for_index(height, index)
            tile, body = kept[least.level, least.number]
            assert tile.width >= least.width
            assert hash_from_tile(tile, body, index) == log.stored[index]
    for old_size in (0, 1, 150, 299):
        written = {tile for tile, _ in kept.values()}
        assert set(new_tiles(height, old_size, 300)) <= written
        assert old_size or set(new_tiles(height, 0, 300)) == written


def test_a_hash_is_not_taken_from_another_tile_or_a_body_of_another_length(log: Log) -> None:
    tile = Tile(2, 0, 1, 3)
    body = tile_body(tile, log.read)
    fourth, fifth = tlog.stored_hash_index(0, 4), tlog.stored_hash_index(0, 5)
    assert hash_from_tile(tile, body, fourth) == log.stored[fourth]
    assert hash_from_tile(tile, body, tlog.stored_hash_index(1, 2)) == tlog.node_hash(
        log.stored[fourth], log.stored[fifth]
    )
    for index in (0, tlog.stored_hash_index(0, 7), tlog.stored_hash_index(2, 1)):
        with pytest.raises(BadInputError):
            hash_from_tile(tile, body, index)
    for wrong in (body[:-1], body[:-32], body + bytes(32), b""):
        with pytest.raises(BadInputError):
            hash_from_tile(tile, wrong, fourth)
    with pytest.raises(BadInputError):
        hash_from_tile(Tile(2, -1, 1, 3), body, fourth)


def test_a_tile_of_records_has_no_hashes(log: Log) -> None:
    with pytest.raises(BadInputError):
        tile_body(Tile(8, -1, 0, 5), log.read)


def test_a_tile_needs_every_hash_of_it() -> None:
    with pytest.raises(VerificationError):
        tile_body(Tile(8, 0, 0, 5), lambda indexes: [EMPTY_ROOT] * 4)


@pytest.mark.parametrize("height", [1, 2, 3])
def test_every_hash_is_read_from_authentic_tiles(log: Log, height: int) -> None:
    for size in range(1, 101):
        tree, count = log.trees[size], tlog.stored_hash_count(size)
        read = tile_hash_reader(tree, log.read_tiles, height)
        assert read(range(count)) == log.stored[:count]
        for index in range(0, count, 1 if size < 20 else 7):
            assert read([index]) == [log.stored[index]]


def test_older_heads_and_records_are_proven_by_tiles_of_height_8(log: Log) -> None:
    read = tile_hash_reader(log.trees[900], log.read_tiles)
    for size in (*range(1, 12), 255, 256, 257, 511, 512, 513, 899, 900):
        assert tlog.tree_hash(size, read) == log.trees[size].root
        proof = tlog.prove_tree(900, size, read)
        tlog.check_tree(proof, log.trees[900], log.trees[size])
        proof = tlog.prove_record(900, size - 1, read)
        tlog.check_record(proof, log.trees[900], size - 1, tlog.leaf_hash(b"leaf %d" % (size - 1)))


def test_the_tiles_needed_are_those_that_go_asks_for() -> None:
    # Seen with go 1.27: record 4 in a tree of 709; then the old head in a tree of 809.
    first, later = Tree(709, Hash(bytes(32))), Tree(809, Hash(bytes(32)))
    paths = {tile.path for tile in tiles_needed(first, [tlog.stored_hash_index(0, 4)])}
    assert paths == {"tile/8/0/000", "tile/8/0/002.p/197", "tile/8/1/000.p/2"}
    paths = {tile.path for tile in tiles_needed(later, tlog.tree_indexes(709))}
    assert paths == {"tile/8/1/000.p/3", "tile/8/0/003.p/41", "tile/8/0/002"}


def test_tiles_needed_come_once_and_parents_first() -> None:
    tree = Tree(100, Hash(bytes(32)))
    needed = tiles_needed(tree, range(tlog.stored_hash_count(100)), 2)
    assert len(set(needed)) == len(needed)
    levels = {(tile.level, tile.number): place for place, tile in enumerate(needed)}
    for tile in needed:
        if tile.is_full:
            parent = levels[tile.level + 1, tile.number >> 2]
            assert parent < levels[tile.level, tile.number]
    assert set(needed) == set(new_tiles(2, 0, 100))


@pytest.mark.parametrize("index", [-1, 5, 6, 10**6])
def test_a_hash_outside_the_tree_is_refused(log: Log, index: int) -> None:
    # TestTree: "Check that ReadHashes will give an error if the index is not in the tree".
    tree = log.trees[3]
    assert tlog.stored_hash_count(3) == 4
    with pytest.raises(BadInputError):
        tiles_needed(tree, [index])
    with pytest.raises(BadInputError):
        tile_hash_reader(tree, log.read_tiles)([index])


def test_the_empty_tree_needs_no_tile(log: Log) -> None:
    assert tiles_needed(log.trees[0], []) == []
    assert authenticate(log.trees[0], {}).read([]) == []
    with pytest.raises(BadInputError):
        tiles_needed(log.trees[0], [0])


def flipped(body: bytes, place: int) -> bytes:
    return body[:place] + bytes([body[place] ^ 1]) + body[place + 1 :]


def lies(bodies: dict[Tile, bytes], forged) -> dict[Tile, bytes]:
    return {**bodies, **{tile: flipped(bodies[tile], 0) for tile in forged}}


SIZES = (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 21, 31, 32, 33, 63, 64, 65, 85, 100)


@pytest.mark.parametrize("height", [1, 2, 3])
def test_F76_each_forged_tile_and_each_two_of_them_are_refused(log: Log, height: int) -> None:
    for size in SIZES:
        tree = log.trees[size]
        for n in range(0, size, 1 if size < 34 else 5):
            needed = tiles_needed(tree, [tlog.stored_hash_index(0, n)], height)
            bodies = log.bodies(needed)
            authenticate(tree, bodies, height)
            for forged in (*combinations(needed, 1), *combinations(needed, 2)):
                with pytest.raises(VerificationError):
                    authenticate(tree, lies(bodies, forged), height)


@pytest.mark.parametrize(("height", "size"), [(1, 100), (2, 100), (3, 600), (8, 900)])
def test_F76_forged_tiles_are_refused_whatever_else_is_read(log: Log, height, size) -> None:
    tree = log.trees[size]
    bodies = log.bodies(new_tiles(height, 0, size))
    authenticate(tree, bodies, height)
    pairs = list(combinations(bodies, 2))
    for forged in (*combinations(bodies, 1), *pairs[:: len(pairs) // 300 + 1]):
        with pytest.raises(VerificationError):
            authenticate(tree, lies(bodies, forged), height)


@pytest.mark.parametrize("height", [1, 2, 3])
def test_F76_a_forged_tile_and_parents_made_to_fit_it_are_refused(log: Log, height: int) -> None:
    # The attack of CVE-2026-56865: tiles agree with each other and not with the tree.
    for size in SIZES:
        tree = log.trees[size]
        for n in range(size):
            needed = tiles_needed(tree, [tlog.stored_hash_index(0, n)], height)
            bodies, places = log.bodies(needed), {(t.level, t.number): t for t in needed}
            level, place, value = 0, n, tlog.leaf_hash(b"forged")
            while tile := places.get((level, place >> height)):
                start = (place - (tile.number << height)) * HASH_BYTES
                body = bodies[tile]
                bodies[tile] = body[:start] + value + body[start + HASH_BYTES :]
                with pytest.raises(VerificationError):
                    authenticate(tree, bodies, height)
                level, place, value = level + 1, tile.number, above(bodies[tile])


def above(body: bytes) -> Hash:
    """Return the hash above all of a full tile's; of a partial one, which has none, any."""
    row = [Hash(body[i : i + HASH_BYTES]) for i in range(0, len(body), HASH_BYTES)]
    while len(row) > 1:
        row = [tlog.node_hash(*row[i : i + 2]) for i in range(0, len(row) - 1, 2)]
    return row[0]


def test_F76_a_head_of_another_tree_is_refused(log: Log) -> None:
    for size in SIZES:
        bodies = log.bodies(tiles_needed(log.trees[size], [0], 2))
        fork = Tree(size, Hash(flipped(log.trees[size].root, 31)))
        with pytest.raises(VerificationError) as refused:
            authenticate(fork, bodies, 2)
        assert "\n" not in str(refused.value)


def test_F76_a_tile_of_another_length_is_refused(log: Log) -> None:
    tree = log.trees[100]
    bodies = log.bodies(tiles_needed(tree, [0], 2))
    for tile, body in bodies.items():
        for wrong in (b"", body[:-1], body[:-HASH_BYTES], body + body[:HASH_BYTES], body + b"\0"):
            with pytest.raises(VerificationError):
                authenticate(tree, {**bodies, tile: wrong}, 2)


def test_a_tile_cannot_be_checked_without_those_above_it(log: Log) -> None:
    tree = log.trees[100]
    needed = tiles_needed(tree, [0], 2)
    for missing in needed[:-1]:
        with pytest.raises(BadInputError):
            authenticate(tree, log.bodies([tile for tile in needed if tile != missing]), 2)


@pytest.mark.parametrize(
    "stranger",
    [
        Tile(2, 0, 25, 1),
        Tile(2, 0, 0, 3),
        Tile(2, -1, 0, 4),
        Tile(3, 0, 0, 8),
        Tile(2, 4, 0, 1),
        Tile(2, 63, 0, 1),
        Tile(2, 0, tiling.MAX_NUMBER, 4),
    ],
)
def test_a_tile_that_is_not_the_trees_is_refused(log: Log, stranger: Tile) -> None:
    tree = log.trees[100]
    bodies = log.bodies(tiles_needed(tree, [0], 2))
    with pytest.raises(BadInputError):
        authenticate(tree, {**bodies, stranger: bytes(stranger.size_bytes)}, 2)


def test_what_was_not_fetched_cannot_be_read(log: Log) -> None:
    tree = log.trees[100]
    authentic = authenticate(tree, log.bodies(tiles_needed(tree, [0], 2)), 2)
    assert authentic.read([0, 1, 2]) == log.stored[:3]
    with pytest.raises(BadInputError):
        authentic.read([tlog.stored_hash_index(0, 50)])


def test_later_changes_of_the_callers_mapping_do_not_reach_authentic_tiles(log: Log) -> None:
    tree = log.trees[5]
    bodies = log.bodies(tiles_needed(tree, [0]))
    authentic = authenticate(tree, bodies)
    bodies.update(lies(bodies, bodies))
    assert authentic.read([0]) == log.stored[:1]


def test_authentic_tiles_come_from_authenticate_alone(log: Log) -> None:
    with pytest.raises(TypeError):
        AuthenticTiles(log.trees[5], 8, {}, object())


def test_a_reader_of_tiles_gives_one_body_for_each(log: Log) -> None:
    read = tile_hash_reader(log.trees[100], lambda tiles: log.read_tiles(tiles)[:-1], 2)
    with pytest.raises(VerificationError):
        read([0])
