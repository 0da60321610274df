"""Proofs as texts: what is made here holds for the key alone, and nothing that was touched does."""

import base64
import hashlib
from collections.abc import Sequence

import pytest

from app.core import tlog
from app.core.errors import BadInputError, MoorageError, VerificationError
from app.core.note import sign
from app.core.notekey import Signer, generate
from app.core.proof import check_proof, format_proof, parse_proof
from app.core.record import Lookup, Sums, format_lookup, record_text
from app.core.tlog import Hash, Tree

SIGNER = generate("moorage.internal/acme", bytes(range(32)))
OTHER = generate("moorage.internal/acme", bytes(32))
SUMS = Sums(f"h1:{'A' * 43}=", f"h1:{'B' * 42}E=")
SIZE = 7


def texts(size: int = SIZE) -> list[str]:
    return [record_text(f"example.com/m{n}", "v1.0.0", SUMS) for n in range(size)]


def stored(records: list[str]) -> list[Hash]:
    hashes: list[Hash] = []

    def read(places: Sequence[int]) -> list[Hash]:
        return [hashes[p] for p in places]

    for n, text in enumerate(records):
        hashes += tlog.stored_hashes(n, tlog.leaf_hash(text.encode()), read)
    return hashes


def proof_of(n: int, records: list[str] | None = None, signer: Signer = SIGNER) -> bytes:
    records = texts() if records is None else records
    hashes = stored(records)

    def read(places: Sequence[int]) -> list[Hash]:
        return [hashes[p] for p in places]

    tree = Tree(len(records), tlog.tree_hash(len(records), read))
    head = sign(tlog.format_tree(tree), signer)
    lookup = format_lookup(Lookup(n, records[n], head))
    return format_proof(tlog.prove_record(len(records), n, read), lookup)


@pytest.mark.parametrize("size", [1, 2, 3, SIZE, 8, 9])
def test_a_proof_holds_for_every_record_with_the_key_alone(size: int) -> None:
    for n in range(size):
        raw = proof_of(n, texts(size))
        checked = check_proof(raw, SIGNER.verifier)
        assert (checked.log, checked.number, checked.tree.size) == (SIGNER.name, n, size)
        assert (checked.module, checked.version, checked.sums) == (
            f"example.com/m{n}",
            "v1.0.0",
            SUMS,
        )
        parsed = parse_proof(raw)
        assert format_proof(parsed.hashes, parsed.lookup) == raw


@pytest.mark.parametrize("size", [1, 2, 3, SIZE, 8, 9, 21])
def test_a_proof_can_be_followed_by_hand(size: int) -> None:
    """With SHA-256 alone, by the steps that docs/sumdb.md gives to outsiders."""
    for number in range(size):
        head, _, lookup = proof_of(number, texts(size)).partition(b"\n\n")
        hashes = [base64.b64decode(line[5:]) for line in head.split(b"\n")[1:]]
        _, _, rest = lookup.partition(b"\n")
        text, _, note = rest.partition(b"\n\n")
        node = hashlib.sha256(b"\0" + text + b"\n").digest()
        n, last = number, size - 1
        for one in hashes:
            if n % 2 or n == last:
                node = hashlib.sha256(b"\1" + one + node).digest()
                while n % 2 == 0 and n:
                    n, last = n // 2, last // 2
            else:
                node = hashlib.sha256(b"\1" + node + one).digest()
            n, last = n // 2, last // 2
        assert note.split(b"\n")[1:3] == [b"%d" % size, base64.b64encode(node)]


def test_no_byte_of_a_proof_can_be_changed_or_left_out() -> None:
    raw = proof_of(4)
    for at in range(len(raw)):
        flipped = raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]
        for broken in (flipped, raw[:at]):
            with pytest.raises(MoorageError):
                check_proof(broken, SIGNER.verifier)


def test_another_key_of_the_same_name_proves_nothing() -> None:
    with pytest.raises(VerificationError):
        check_proof(proof_of(4, signer=OTHER), SIGNER.verifier)


def test_hashes_of_another_record_prove_nothing() -> None:
    own, other = parse_proof(proof_of(4)), parse_proof(proof_of(5))
    for hashes in (other.hashes, own.hashes[:-1], (*own.hashes, own.hashes[-1]), ()):
        with pytest.raises(VerificationError, match="does not show that record 4"):
            check_proof(format_proof(hashes, own.lookup), SIGNER.verifier)


def test_F75_a_record_with_lines_of_two_versions_proves_nothing() -> None:
    mixed = record_text("example.com/m1", "v1.0.0", SUMS) + record_text(
        "example.com/m1", "v1.0.1", SUMS
    )
    with pytest.raises(VerificationError, match="has a line for"):
        check_proof(proof_of(1, [*texts(1), mixed, *texts(1)]), SIGNER.verifier)


BAD = {
    "empty": b"",
    "no blank line": b"moorage inclusion proof v1\n",
    "another first line": b"moorage inclusion proof v2\n\nx",
    "a line that is no hash": b"moorage inclusion proof v1\nsum x\n\nx",
    "a short hash": b"moorage inclusion proof v1\nhash AAAA\n\nx",
    "a hash with a space behind": b"moorage inclusion proof v1\nhash " + b"A" * 43 + b"= \n\nx",
    "not ASCII": b"moorage inclusion proof v1\xff\n\nx",
    "a carriage return": b"moorage inclusion proof v1\r\n\r\nx",
    "too long": b"moorage inclusion proof v1\n\n" + b"x" * 1_100_000,
}


@pytest.mark.parametrize("raw", BAD.values(), ids=BAD.keys())
def test_what_is_no_proof_is_refused(raw: bytes) -> None:
    with pytest.raises(BadInputError):
        parse_proof(raw)
