"""Merkle tree hashes and proofs against published vectors and against RFC 6962's definitions."""

from contextlib import suppress
from functools import lru_cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core import tlog
from app.core.errors import BadInputError, VerificationError
from app.core.tlog import (
    EMPTY_ROOT,
    Hash,
    Tree,
    check_record,
    check_tree,
    format_tree,
    leaf_hash,
    parse_hash,
    parse_tree,
    prove_record,
    prove_tree,
)

SIZE = 600


class Log:
    """Stored hashes and the root of each size; reading checks what readers rely on."""

    def __init__(self, size: int) -> None:
        self.stored: list[Hash] = []
        self.leaves = [leaf_hash(b"leaf %d" % n) for n in range(size)]
        self.trees = [Tree(0, EMPTY_ROOT)]
        for n, leaf in enumerate(self.leaves):
            self.stored += tlog.stored_hashes(n, leaf, self.read)
            self.trees.append(Tree(n + 1, tlog.tree_hash(n + 1, self.read)))

    def read(self, indexes) -> list[Hash]:
        assert list(indexes) == sorted(set(indexes)), "a reader is asked in ascending order"
        return [self.stored[index] for index in indexes]


@pytest.fixture(scope="module")
def log() -> Log:
    return Log(SIZE)


# RFC 6962, section 2.1, word for word, over the leaves of `Log`.
def below(n: int) -> int:
    k = 1
    while 2 * k < n:
        k *= 2
    return k


@lru_cache(None)
def merkle_hash(low: int, high: int) -> Hash:
    if high == low + 1:
        return leaf_hash(b"leaf %d" % low)
    k = below(high - low)
    return tlog.node_hash(merkle_hash(low, low + k), merkle_hash(low + k, high))


def audit_path(m: int, low: int, high: int) -> list[Hash]:
    if high == low + 1:
        return []
    k = below(high - low)
    if m < k:
        return [*audit_path(m, low, low + k), merkle_hash(low + k, high)]
    return [*audit_path(m - k, low + k, high), merkle_hash(low, low + k)]


def consistency(m: int, low: int, high: int, is_whole: bool) -> list[Hash]:
    if m == high - low:
        return [] if is_whole else [merkle_hash(low, high)]
    k = below(high - low)
    if m <= k:
        return [*consistency(m, low, low + k, is_whole), merkle_hash(low + k, high)]
    return [*consistency(m - k, low + k, high, False), merkle_hash(low, low + k)]


# The leaves and roots of certificate-transparency's merkletree tests, sizes 1 to 8.
CT_LEAVES = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657"]
CT_LEAVES += ["606162636465666768696a6b6c6d6e6f"]
CT_ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def hashes(text: str) -> list[Hash]:
    return [parse_hash(word) for word in text.split()]


# Answers of the Google Argon 2020 log, testdata/argon2020 of x/mod's sumdb/tlog. The leaf is the
# hash of the entry in entries.json.
ARGON = Tree(961984013, parse_hash("dwlueapdd7LaOEnX2W2Wp9v2XE+KzejHRQGHwEx0oaM="))
ARGON_LEAF = parse_hash("nCs3mfIydh9x4CKyQ+u2xtmpxmFggA5MLymHwNQSlLg=")
ARGON_OLD = Tree(3654490, parse_hash("AuIZ5V6sDUj1vn3Y1K85oOaQ7y+FJJKtyRTl1edIKBQ="))
ARGON_RECORD_PROOF = hashes(
    """
    T46AmJsuOM/gFiGlUp+IJJebp+1Z5qratFNW7U0JyOQ= 9Jj1Feodn42uRYEfffkV4HF/EIPFQ5Zo9IwkxbQ2uhk=
    D53/1oCNebF4J59HHgioovKZxrmrKcVuCVhy3Izg8Ck= wSFDgGSrsXRPA+1c8WHoAFCsWeUv8NDyP/Q/SgsyVyY=
    516/RcwsgdwdzHn18v1dJHqBkgFUbNhmCIWOGjsMJaE= naTFY2ajLFgrgs5XUl+zJYZnnlJksLGsA1VYwpLfqbY=
    mKBRJo6qao+0Kdh/rhGkZUbHUAxMhrtrclrTpIbNjIg= Co4ueOFE7lpifLio94irxxsv1wFMMaK3tPu2ZQkHlro=
    yRgy800K6JMYCC05sWfqF2kvCg2riT/pVM+nEa6V5+0= n2O38XJZC8/Wpbwi9HhgVizlUyeUHVZvYyQB1607MRc=
    go3tAjuNfNSCj87y2Rg1xOroDknGN1eaf3cgvzObf7Q= 8D0Mj3/J7ySSnFb0afIHYXv6rlOhECnsebY6XKi1IR8=
    6rcez46ZU8M5vPiWVMAUfJfAOV0pPP/mch/lYzZhj/M= 2rtIeXrPvSdUyHc5maIgSAVB2BzaKaupWxSAiVayDE4=
    nniW/IMFQPN5xw8UsHFn7CRStYbm1gLu7NNa6kkRqJQ= mRPPi7sQS22MduIEyvcNzCNFqIt6kLwYPkNKrVtIcu8=
    JvTivzESNS9wHI8aph5a7uieVmtS/p9PciMZ5D6GyOo= UTyQd+Ym0wY4zG+qK806bBORwi1CSVvFQ/KknnqoZj8=
    hXODrqN+ff+U6zPqRQ+ZQKs6im1fPcxIerDSfNwflhE= II6GE+WY/DrpZzfHztLwkR46o37zVkNLCyPYlf68zA0=
    d609kWWcNBllbA8Jb/ad4XAVVGnScLRmtP8FYyr+Dck= rikBsP0G0gioXRpBFED2CzQdSLrGPvRd0bEcbEZw1rI=
    GXIElfmnRuWfbA4z7ubV/UwlpSRUbUeec7oL5HDDnh0= pR0SH/NYP6s9+8azWwaeUXA4Ze/3WCIgMfh5YW6wvcE=
    f3GuAKYVrF8RBg3s15jvA/YvV9oAliWtzP/imwPhQVA= WHn8zDxlVgkV+lSlmzaOdfSBrTHoRr5nT3d76q0KKWE=
    f2uV2ZxVgULzLPKuZcowRY3ZY7fRlX59iDBjV1R8kNQ= NzQVjJsvQwbi7WStMr9oFkh9VbHfK7LB6o7WwAqwNTs=
    C0LttBeYHZHgL+032JIcJC3CTBIyza/hsbmJUgJfmDI= nixU5CWTFVDlF4BGdcU6kA7WSYurEpe9jRWc+F/7sOc=
    """
)
ARGON_TREE_PROOF = hashes(
    """
    80Sfbj6UQEdVSZCSIgh9NMPj3vCBzcc1A48B2crJSWg= FZcrgAHUk6nNPviJZq8kEK6jCG1d18pJOFE45ZDc1TQ=
    Q67reWXmPBo1UfmwBap4Xi9PMPfFdUSSw3WGlRZdG7k= eJ7CyhR4PxzBxDIsWgrVYW1eFUb9ndgf46tFmiqVrxA=
    QrDwp062Grm5WY8KdrhFsBuuNjGzRox2Jb8PmVL5OYw= XM4YMjMEdLH/XJam/ZWyaP14k3cmsOtnPsOWQ54lW1s=
    SGiBh+jOTGccXU48ZzgQ88lRcBmtB4wz4oSDndv2QTg= WAS6txqNLYKGL1GdBdpqmV42TTfn6cJsuDsqLXuTCNI=
    QFmRS0rirUA7ZN3lxFjDncV+E1OCrn3NUB4RCp+5fzc= Hdbp7It2XBNZmNDBpCN/KPd7vfVqxgzwOosqVIaEA9E=
    mxvHL0ZiblBdD7j7pIa1jlfB0gSqfJ6oX0UGo7L0VsU= q5hjyvoW6TL/PThgcitpDcSTrnKX2p1+aqscqH2euRA=
    jTOWDqt3IHj2NVFeezyBz2ofpru+ztEywqKUAfFclKI= GIRn0w3HqJdvU9j1WVD//eR6lk2AaTVjyzjsJNP8U88=
    x52GJvxG81fnQBrgOTbll1A5tz95/LXK0Ag1NhB0r1I= 6/0OqrcTgc3o5dD5PymmoC96lB9yLPFuTHVvLy8fSGk=
    Gf+iKLfcXO5l4JEFmsZvSdG5q1uEeWPfYLrds6pmjz0= DGuaco+McyM3AfRSF6qX7RwSetwe2ieYJmxw5e9rVx0=
    2tQJ9V32hnYp+fdpP6TcjmgJmLeNVOMKM0Ml1kk4cNU= 3PapK+IkyJr8I9yAErAmzuZezzLMzsg+PfeRCgNW8NQ=
    s6xiYeejb+wtqHA+URJZ2I/SCPyIW8coP6aB00FJbMY= z9lSpmdTcr5M5ZzKlc4EPh3SrSypKFdk6JUF/UccaZU=
    GXIElfmnRuWfbA4z7ubV/UwlpSRUbUeec7oL5HDDnh0= pR0SH/NYP6s9+8azWwaeUXA4Ze/3WCIgMfh5YW6wvcE=
    f3GuAKYVrF8RBg3s15jvA/YvV9oAliWtzP/imwPhQVA= WHn8zDxlVgkV+lSlmzaOdfSBrTHoRr5nT3d76q0KKWE=
    f2uV2ZxVgULzLPKuZcowRY3ZY7fRlX59iDBjV1R8kNQ= NzQVjJsvQwbi7WStMr9oFkh9VbHfK7LB6o7WwAqwNTs=
    C0LttBeYHZHgL+032JIcJC3CTBIyza/hsbmJUgJfmDI= nixU5CWTFVDlF4BGdcU6kA7WSYurEpe9jRWc+F/7sOc=
    """
)


def test_roots_are_the_published_ones() -> None:
    stored: list[Hash] = []

    def read(indexes) -> list[Hash]:
        return [stored[index] for index in indexes]

    for n, (leaf, root) in enumerate(zip(CT_LEAVES, CT_ROOTS, strict=True)):
        stored.extend(tlog.stored_hashes(n, leaf_hash(bytes.fromhex(leaf)), read))
        assert tlog.tree_hash(n + 1, read).hex() == root


def test_the_empty_tree_has_the_hash_of_nothing() -> None:
    def never(indexes):
        raise AssertionError("there is nothing to read")

    assert tlog.tree_hash(0, never) == EMPTY_ROOT
    assert EMPTY_ROOT.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_proofs_of_a_certificate_transparency_log_are_right() -> None:
    check_record(ARGON_RECORD_PROOF, ARGON, 10000, ARGON_LEAF)
    check_tree(ARGON_TREE_PROOF, ARGON, ARGON_OLD)


def test_F76_a_published_proof_that_was_changed_in_any_way_is_refused() -> None:
    for record_proof in changed(ARGON_RECORD_PROOF):
        with pytest.raises(VerificationError):
            check_record(record_proof, ARGON, 10000, ARGON_LEAF)
    for tree_proof in changed(ARGON_TREE_PROOF):
        with pytest.raises(VerificationError):
            check_tree(tree_proof, ARGON, ARGON_OLD)


def flipped(value: Hash) -> Hash:
    return Hash(bytes([value[0] ^ 1]) + value[1:])


def changed(proof: list[Hash]) -> list[list[Hash]]:
    one_flipped = [[*proof[:i], flipped(proof[i]), *proof[i + 1 :]] for i in range(len(proof))]
    one_less = [[*proof[:i], *proof[i + 1 :]] for i in range(len(proof))]
    swapped = [proof[::-1]] if proof != proof[::-1] else []
    return [*one_flipped, *one_less, *swapped, [*proof, EMPTY_ROOT], [EMPTY_ROOT, *proof]]


def test_stored_hashes_are_numbered_in_the_order_they_become_known(log: Log) -> None:
    expected = []
    for n in range(SIZE):
        assert tlog.stored_hash_count(n) == len(expected)
        expected += [(level, n >> level) for level in range(11) if (n + 1) % (1 << level) == 0]
    assert [tlog.split_stored_hash_index(i) for i in range(len(expected))] == expected
    assert [tlog.stored_hash_index(*place) for place in expected] == list(range(len(expected)))
    assert len(log.stored) == len(expected) == tlog.stored_hash_count(SIZE)


# TestSplitStoredHashIndex of x/mod's tlog_test.go, and large ones.
@given(st.integers(0, 62), st.integers(0, 1 << 62))
def test_a_stored_hash_index_splits_back(level: int, n: int) -> None:
    assert tlog.split_stored_hash_index(tlog.stored_hash_index(level, n)) == (level, n)


def test_a_negative_index_is_refused() -> None:
    with pytest.raises(BadInputError):
        tlog.split_stored_hash_index(-1)


def test_hashes_and_proofs_are_those_of_rfc_6962(log: Log) -> None:
    for size in (*range(1, 66), 127, 128, 129, 255, 256, 257):
        assert log.trees[size].root == merkle_hash(0, size)
        for n in range(size):
            assert prove_record(size, n, log.read) == audit_path(n, 0, size)
            assert prove_tree(size, n + 1, log.read) == consistency(n + 1, 0, size, True)


@pytest.mark.slow
def test_records_and_growth_of_all_trees_of_up_to_600_are_proven(log: Log) -> None:
    # Every place of a tree of up to 256 and of 600 records, every fifth one of those between.
    stored = log.stored

    def read(indexes) -> list[Hash]:
        return [stored[index] for index in indexes]

    for size in range(1, SIZE + 1):
        tree = log.trees[size]
        for n in range(size) if size in (*range(257), SIZE) else range(size % 5, size, 5):
            check_record(prove_record(size, n, read), tree, n, log.leaves[n])
            check_tree(prove_tree(size, n + 1, read), tree, log.trees[n + 1])


def test_F76_a_changed_proof_or_what_it_is_not_of_is_refused(log: Log) -> None:
    for size in (*range(1, 34), 100):
        tree = log.trees[size]
        for n in range(size):
            proof, leaf, other = prove_record(size, n, log.read), log.leaves[n], (n + 1) % size
            for wrong in changed(proof):
                with pytest.raises(VerificationError):
                    check_record(wrong, tree, n, leaf)
            with pytest.raises(VerificationError):
                check_record(proof, tree, n, flipped(leaf))
            if other != n:
                with pytest.raises(VerificationError):
                    check_record(proof, tree, other, leaf)


def test_F76_a_fork_or_a_changed_consistency_proof_is_refused(log: Log) -> None:
    for size in (*range(1, 34), 100):
        tree = log.trees[size]
        for old_size in range(1, size + 1):
            proof, old = prove_tree(size, old_size, log.read), log.trees[old_size]
            for wrong in changed(proof):
                with pytest.raises(VerificationError):
                    check_tree(wrong, tree, old)
            forked = Tree(old_size, flipped(old.root))
            for wrong_tree, wrong_old in ((tree, forked), (Tree(size, flipped(tree.root)), old)):
                with pytest.raises(VerificationError):
                    check_tree(proof, wrong_tree, wrong_old)


@pytest.mark.parametrize(("size", "n"), [(0, 0), (5, 5), (5, -1), (5, 6), (1 << 63, 1)])
def test_a_record_that_is_not_in_the_tree_has_no_proof(log: Log, size: int, n: int) -> None:
    for ask in (
        lambda: prove_record(size, n, log.read),
        lambda: tlog.record_proof_indexes(size, n),
        lambda: check_record([], log.trees[min(size, 5)], n if size < 6 else 9, log.leaves[0]),
    ):
        with pytest.raises(BadInputError):
            ask()


@pytest.mark.parametrize(("size", "old"), [(0, 0), (5, 0), (5, 6), (5, -1), (0, 1)])
def test_a_tree_that_can_not_contain_the_other_has_no_proof(log: Log, size: int, old: int) -> None:
    with pytest.raises(BadInputError):
        prove_tree(size, old, log.read)
    with pytest.raises(BadInputError):
        tlog.tree_proof_indexes(size, old)
    if old >= 0:
        with pytest.raises(BadInputError):
            check_tree([], log.trees[size], log.trees[old])


def test_what_a_reader_is_asked_for_can_be_told_before(log: Log) -> None:
    asked: list[int] = []

    def read(indexes) -> list[Hash]:
        asked.extend(indexes)
        return log.read(indexes)

    for size in range(1, 40):
        for n in range(size):
            for expected, act in (
                (tlog.append_indexes(n), lambda n=n: tlog.stored_hashes(n, EMPTY_ROOT, read)),
                (tlog.tree_indexes(size), lambda size=size: tlog.tree_hash(size, read)),
                (
                    tlog.record_proof_indexes(size, n),
                    lambda size=size, n=n: prove_record(size, n, read),
                ),
                (
                    tlog.tree_proof_indexes(size, n + 1),
                    lambda size=size, n=n: prove_tree(size, n + 1, read),
                ),
            ):
                asked.clear()
                act()
                assert (asked, sorted(expected)) == (expected, expected)


@pytest.mark.parametrize("answer", [[], [EMPTY_ROOT], [EMPTY_ROOT] * 3, [EMPTY_ROOT, Hash(b"x")]])
def test_a_reader_that_gives_too_little_or_much_is_refused(answer: list[Hash]) -> None:
    for ask in (
        lambda: tlog.tree_hash(3, lambda _: answer),
        lambda: tlog.stored_hashes(3, EMPTY_ROOT, lambda _: answer),
        lambda: prove_record(3, 0, lambda _: answer),
        lambda: prove_tree(7, 5, lambda _: answer),
    ):
        with pytest.raises(VerificationError):
            ask()


# The rest is TestFormatTree and TestParseTree of x/mod's tlog/note_test.go, and what is stricter.
HEAD = "go.sum database tree\n123456789012\nTszzRgjTG6xce+z2AG31kAXYKBgQVtCSCE40HmuwBb0=\n"
HEAD_TREE = Tree(123456789012, leaf_hash(b"hello world"))


def test_a_head_is_printed_in_three_lines() -> None:
    assert format_tree(HEAD_TREE) == HEAD
    assert parse_tree(HEAD) == HEAD_TREE
    assert parse_tree(format_tree(Tree(0, EMPTY_ROOT))) == Tree(0, EMPTY_ROOT)


@pytest.mark.parametrize("more", ["JOE", "JOE\n", "JOE\n" * 1000, "\n"])
def test_lines_after_a_head_are_ignored(more: str) -> None:
    assert parse_tree(HEAD + more) == HEAD_TREE


@pytest.mark.parametrize(
    "text",
    [
        "not-" + HEAD,
        HEAD.replace("123456789012", "0xabcdef"),
        HEAD.replace("Bb0=", "BTOOBIG="),
        HEAD.replace("123456789012", "0123"),
        HEAD.replace("123456789012", "+123"),
        HEAD.replace("123456789012", "-1"),
        HEAD.replace("123456789012", "1_0"),
        HEAD.replace("123456789012", "\u0661"),
        HEAD.replace("123456789012", "9223372036854775808"),
        HEAD.replace("123456789012", "9" * 5000),
        HEAD.replace("123456789012", "0"),
        HEAD.replace("123456789012", ""),
        HEAD.replace("tree\n", "tree v2\n"),
        HEAD.replace("Bb0=", "Bb1="),
        HEAD.replace("Bb0=", "Bb0"),
        HEAD.replace("\n", "\r\n"),
        HEAD + "x" * tlog.MAX_TREE_TEXT_CHARS,
        *(HEAD[:end] for end in range(len(HEAD))),
    ],
)
def test_a_malformed_head_is_refused(text: str) -> None:
    with pytest.raises(BadInputError):
        parse_tree(text)


def test_every_flipped_bit_of_a_head_is_another_head_or_none() -> None:
    whole = bytearray(HEAD.encode())
    for i in range(len(whole)):
        for bit in range(8):
            whole[i] ^= 1 << bit
            with suppress(BadInputError):
                assert parse_tree(whole.decode("latin-1")) != HEAD_TREE
            whole[i] ^= 1 << bit


@pytest.mark.parametrize(
    ("size", "root"),
    [(-1, EMPTY_ROOT), (1 << 63, EMPTY_ROOT), (1, Hash(b"short")), (0, Hash(b"r" * 32))],
)
def test_a_tree_that_can_not_be_is_refused(size: int, root: Hash) -> None:
    with pytest.raises(BadInputError):
        Tree(size, root)


@given(st.integers(1, tlog.MAX_SIZE), st.binary(min_size=32, max_size=32))
def test_a_head_parses_back(size: int, root: bytes) -> None:
    tree = Tree(size, Hash(root))
    assert parse_tree(format_tree(tree)) == tree
    assert parse_hash(tlog.hash_text(tree.root)) == tree.root


@given(st.text() | st.text("0123456789\nABC=+/").map(lambda rest: "go.sum database tree\n" + rest))
def test_any_text_is_a_head_that_prints_back_or_is_refused(text: str) -> None:
    try:
        tree = parse_tree(text)
    except BadInputError:
        return
    assert text.startswith(format_tree(tree))
