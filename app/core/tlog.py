"""Transparency log: hashes of a Merkle tree and its proofs. Follows x/mod/sumdb/tlog, RFC 6962.

    leaf   SHA-256(0x00, record text)
    node   SHA-256(0x01, left, right)      of a complete subtree: 2**level records from n * 2**level
    root   of an empty tree SHA-256("")

The hashes of all complete subtrees are *stored hashes*. Their numbers follow the order in which
they become known, so that a log only appends: record 0 is stored hash 0, record 1 is 1, the node of
both is 2, record 2 is 3. A log of size records has 2 * size - (one bits of size) stored hashes.

A function that needs stored hashes takes a `HashReader`. The `*_indexes` function beside it returns
the numbers that it will read, so that an asynchronous caller can fetch them first. Not here: tiles,
from which a client gets stored hashes (`tile`); signatures of heads (`note`).
"""

import base64
import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import NewType

from app.core.errors import BadInputError, VerificationError
from app.core.notekey import base64_exact

Hash = NewType("Hash", bytes)
HashReader = Callable[[Sequence[int]], Sequence[Hash]]

HASH_BYTES = 32
MAX_SIZE = (1 << 63) - 1
MAX_TREE_TEXT_CHARS = 1_000_000

_TREE = re.compile(r"go\.sum database tree\n(0|[1-9][0-9]{0,18})\n([A-Za-z0-9+/]{43}=)\n", re.ASCII)


def leaf_hash(record: bytes) -> Hash:
    """Return the hash of a record's text, its last newline included."""
    return Hash(hashlib.sha256(b"\0" + record).digest())


def node_hash(left: Hash, right: Hash) -> Hash:
    """Return the hash of the node above left and right."""
    return Hash(hashlib.sha256(b"\1" + left + right).digest())


EMPTY_ROOT = Hash(hashlib.sha256(b"").digest())


def hash_text(value: Hash) -> str:
    """Return the base64 of a hash, 44 characters, as tree heads and reports show it."""
    return base64.b64encode(value).decode()


def parse_hash(text: str) -> Hash:
    """Return the hash of a base64 text of 44 characters.

    Raises:
        BadInputError: text is not the base64 of 32 bytes.
    """
    decoded = base64_exact(text)
    if decoded is None or len(decoded) != HASH_BYTES:
        raise BadInputError(f"{text[:60]!a} is not a hash: 32 bytes in base64")
    return Hash(decoded)


@dataclass(frozen=True, slots=True)
class Tree:
    """A log's head: the number of its records and their root hash.

    Attributes:
        size: 0 to 2**63 - 1.
        root: 32 bytes; `EMPTY_ROOT` for size 0.
    """

    size: int
    root: Hash

    def __post_init__(self) -> None:
        if not 0 <= self.size <= MAX_SIZE:
            raise BadInputError(f"a tree can't have {self.size} records")
        if len(self.root) != HASH_BYTES:
            raise BadInputError(f"a root hash has {HASH_BYTES} bytes, not {len(self.root)}")
        if self.size == 0 and self.root != EMPTY_ROOT:
            raise BadInputError("a tree without records has another root hash than the empty one")


def format_tree(tree: Tree) -> str:
    r"""Return the text of a signed head: "go.sum database tree\n<size>\n<base64 of root>\n"."""
    return f"go.sum database tree\n{tree.size}\n{hash_text(tree.root)}\n"


def parse_tree(text: str) -> Tree:
    """Return the head in the text of a note; lines after the first three are ignored.

    x/mod reserves the further lines for additions. The three are strict by printing back.

    Raises:
        BadInputError: the three lines are malformed, or text has over 1,000,000 characters.
    """
    match = _TREE.match(text) if len(text) <= MAX_TREE_TEXT_CHARS else None
    if match is None:
        raise BadInputError(
            f"{text[:80]!a} is not a tree head: go.sum database tree, size and root hash"
        )
    return Tree(int(match[1]), parse_hash(match[2]))


def stored_hash_index(level: int, n: int) -> int:
    """Return the number of the stored hash over records n * 2**level to (n + 1) * 2**level - 1.

    (0, 0) is 0, (0, 1) is 1, (1, 0) is 2, (0, 2) is 3.
    """
    # The hash follows its last record, after the hashes of lower levels that this record completes.
    return stored_hash_count(((n + 1) << level) - 1) + level


def split_stored_hash_index(index: int) -> tuple[int, int]:
    """Return (level, n) of the stored hash with this number, the inverse of `stored_hash_index`.

    Raises:
        BadInputError: index is negative.
    """
    if index < 0:
        raise BadInputError(f"there is no stored hash {index}")
    # The record that completed the hash is number index / 2, or up to log2(index) later.
    record = index // 2
    while stored_hash_count(record + 1) <= index:
        record += 1
    level = index - stored_hash_count(record)
    return level, record >> level


def stored_hash_count(size: int) -> int:
    """Return the number of stored hashes of a log of size records: 0, 1, 3, 4, 7 for 0 to 4."""
    return 2 * size - size.bit_count()


def append_indexes(n: int) -> list[int]:
    """Return the numbers that `stored_hashes` reads for record n, ascending."""
    completed = ((n + 1) & -(n + 1)).bit_length() - 1
    return [stored_hash_index(level, (n >> level) - 1) for level in reversed(range(completed))]


def stored_hashes(n: int, leaf: Hash, read: HashReader) -> list[Hash]:
    """Return the hashes to store from number `stored_hash_count(n)` on when record n is appended.

    These are the leaf and one node for each subtree that record n completes, at most
    1 + log2(n + 1) hashes.

    Args:
        n: the number of records that the log has, and so the number of the new record.
        leaf: the new record's `leaf_hash`.
        read: reads hashes that are stored already.
    """
    hashes = [leaf]
    for left in reversed(_read(read, append_indexes(n))):
        hashes.append(node_hash(left, hashes[-1]))
    return hashes


def _read(read: HashReader, indexes: Sequence[int]) -> list[Hash]:
    hashes = list(read(indexes)) if indexes else []
    if len(hashes) != len(indexes) or any(len(value) != HASH_BYTES for value in hashes):
        raise VerificationError(f"the log's stored hashes are short of the {len(indexes)} needed")
    return hashes


def tree_indexes(size: int) -> list[int]:
    """Return the numbers that `tree_hash` reads, ascending; at most log2(size) + 1 of them."""
    return _range_indexes(0, size)


def tree_hash(size: int, read: HashReader) -> Hash:
    """Return the root of the log's first size records; the log may have more."""
    return _join(_read(read, tree_indexes(size))) if size else EMPTY_ROOT


def _range_indexes(low: int, high: int) -> list[int]:
    """Return the numbers of the stored hashes over records low to high - 1, largest first."""
    indexes = []
    while low < high:
        level = (high - low).bit_length() - 1
        indexes.append(stored_hash_index(level, low >> level))
        low += 1 << level
    return indexes


def _join(hashes: Sequence[Hash]) -> Hash:
    return reduce(lambda right, left: node_hash(left, right), reversed(hashes))


@dataclass(frozen=True, slots=True)
class _Sibling:
    """A subtree beside the path from a root down: records low to high - 1."""

    low: int
    high: int
    is_left: bool


def _path(size: int, low_from: int, high: int) -> tuple[list[_Sibling], int]:
    """Return the siblings of the path from the root to a subtree, and the subtree's first record.

    The subtree is the first one on the path down that ends before record high and begins at record
    low_from or later. The lowest sibling comes first.
    """
    low, top, beside = 0, size, []
    while top != high or low < low_from:
        middle = low + (1 << ((top - low - 1).bit_length() - 1))
        if high <= middle:
            beside.append(_Sibling(middle, top, is_left=False))
            top = middle
        else:
            beside.append(_Sibling(low, middle, is_left=True))
            low = middle
    return beside[::-1], low


def _subtrees(ranges: Sequence[tuple[int, int]], read: HashReader) -> list[Hash]:
    """Return the hash of each range of records; `read` is called once, with ascending numbers."""
    needed = [_range_indexes(*bounds) for bounds in ranges]
    order = sorted({index for indexes in needed for index in indexes})
    hashes = dict(zip(order, _read(read, order), strict=True))
    return [_join([hashes[index] for index in indexes]) for indexes in needed]


def _indexes(ranges: Sequence[tuple[int, int]]) -> list[int]:
    return sorted(index for bounds in ranges for index in _range_indexes(*bounds))


def _record_path(size: int, n: int) -> list[_Sibling]:
    if not 0 <= n < size <= MAX_SIZE:
        raise BadInputError(f"there is no record {n} in a tree of {size} records")
    return _path(size, n, n + 1)[0]


def _record_ranges(size: int, n: int) -> list[tuple[int, int]]:
    return [(sibling.low, sibling.high) for sibling in _record_path(size, n)]


def record_proof_indexes(size: int, n: int) -> list[int]:
    """Return the numbers that `prove_record` reads, ascending.

    Raises:
        BadInputError: the tree has no record n.
    """
    return _indexes(_record_ranges(size, n))


def prove_record(size: int, n: int, read: HashReader) -> list[Hash]:
    """Return the proof that the tree of size records has its record n (an audit path, RFC 6962).

    The proof is the hashes of the siblings on the path from the record to the root, lowest first.

    Raises:
        BadInputError: the tree has no record n.
    """
    return _subtrees(_record_ranges(size, n), read)


def check_record(proof: Sequence[Hash], tree: Tree, n: int, leaf: Hash) -> None:
    """Accept a proof that tree's record n has the hash leaf.

    Raises:
        BadInputError: the tree has no record n.
        VerificationError: the proof does not show that.
    """
    beside = _record_path(tree.size, n)
    if len(proof) == len(beside):
        root = leaf
        for other, sibling in zip(proof, beside, strict=True):
            root = node_hash(other, root) if sibling.is_left else node_hash(root, other)
        if root == tree.root:
            return
    raise VerificationError(
        f"the proof does not show that record {n} is in the log's tree of {tree.size} records"
    )


def _tree_path(size: int, old_size: int) -> tuple[list[_Sibling], int]:
    if not 1 <= old_size <= size <= MAX_SIZE:
        raise BadInputError(f"a tree of {size} records can't contain one of {old_size}")
    return _path(size, 0, old_size)


def _tree_ranges(size: int, old_size: int) -> list[tuple[int, int]]:
    beside, low = _tree_path(size, old_size)
    # If the old tree is a subtree of the new one, the checker already has the subtree's hash.
    shared = [(low, old_size)] if low else []
    return shared + [(sibling.low, sibling.high) for sibling in beside]


def tree_proof_indexes(size: int, old_size: int) -> list[int]:
    """Return the numbers that `prove_tree` reads, ascending.

    Raises:
        BadInputError: not 1 <= old_size <= size.
    """
    return _indexes(_tree_ranges(size, old_size))


def prove_tree(size: int, old_size: int, read: HashReader) -> list[Hash]:
    """Return the proof that a tree only grew from old_size to size (a consistency proof, RFC 6962).

    Raises:
        BadInputError: not 1 <= old_size <= size.
    """
    return _subtrees(_tree_ranges(size, old_size), read)


def check_tree(proof: Sequence[Hash], tree: Tree, old: Tree) -> None:
    """Accept a proof that tree begins with all records of old.

    Raises:
        BadInputError: not 1 <= old.size <= tree.size.
        VerificationError: the proof does not show that: the log forked, or the proof is wrong.
    """
    beside, low = _tree_path(tree.size, old.size)
    if len(proof) == len(beside) + bool(low):
        old_root = new_root = proof[0] if low else old.root
        for other, sibling in zip(proof[bool(low) :], beside, strict=True):
            if sibling.is_left:
                old_root, new_root = node_hash(other, old_root), node_hash(other, new_root)
            else:
                new_root = node_hash(new_root, other)
        if (old_root, new_root) == (old.root, tree.root):
            return
    raise VerificationError(
        f"the proof does not show that the log's tree of {tree.size} records "
        f"continues its tree of {old.size}"
    )
