"""A proof that a module version is in a log, as a text that outsiders check with the vkey alone.

    moorage inclusion proof v1
    hash cnaPfgaSs5ifThYTpXK1+SXIeMsLPIOLeQLphnx7ZF8=   the hashes of RFC 6962, from the leaf up;
    hash T2Dnl1lQXpyh7ecjO2YxbAc+5qNbrGSpsPY+uMqLGCc=   none for a log of one record
                                                        a blank line
    42                                                  from here on a lookup's answer (`record`)
    rsc.io/quote v1.5.2 h1:w5fcysjrx7yq...
    ...

The parser is strict by printing back. Not here: making the hashes (`tlog.prove_record`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from app.core import record as records
from app.core import tlog
from app.core.errors import BadInputError
from app.core.note import open_note
from app.core.notekey import Verifier
from app.core.record import Sums
from app.core.tlog import Hash, Tree

MAX_PROOF_BYTES = records.MAX_LOOKUP_BYTES + 64 * 1024

_FIRST = "moorage inclusion proof v1"
_HASH = "hash "


@dataclass(frozen=True, slots=True)
class ProofText:
    """The parts of a proof; nothing was checked against a log.

    Attributes:
        hashes: from the leaf up.
        lookup: the answer to a lookup, as bytes of the protocol.
    """

    hashes: tuple[Hash, ...]
    lookup: bytes


@dataclass(frozen=True, slots=True)
class ProvenRecord:
    """A record that a proof shows to be in the log's tree.

    Attributes:
        log: the name of the key that signed the tree.
        number: the record's number, from 0 on.
    """

    log: str
    module: str
    version: str
    sums: Sums
    number: int
    tree: Tree


def format_proof(hashes: Sequence[Hash], lookup: bytes) -> bytes:
    """Return the proof's text; `parse_proof` gives both back."""
    lines = [_FIRST, *(f"{_HASH}{tlog.hash_text(value)}" for value in hashes)]
    return ("\n".join(lines) + "\n\n").encode() + lookup


def parse_proof(raw: bytes) -> ProofText:
    """Return the parts of a proof; nothing is checked against a log.

    Raises:
        BadInputError: raw is not a proof of this form, or is too long.
    """
    head, blank, lookup = raw.partition(b"\n\n")
    if len(raw) > MAX_PROOF_BYTES or not blank:
        raise BadInputError("malformed proof: it has no hashes with a blank line after them")
    try:
        first, *lines = head.decode("ascii").split("\n")
    except UnicodeDecodeError as error:
        raise BadInputError("malformed proof: its first part is not ASCII") from error
    if first != _FIRST or not all(line.startswith(_HASH) for line in lines):
        raise BadInputError(f'malformed proof: it begins with "{_FIRST}", and a hash on each line')
    hashes = tuple(tlog.parse_hash(line.removeprefix(_HASH)) for line in lines)
    return ProofText(hashes, lookup)


def check_proof(raw: bytes, verifier: Verifier) -> ProvenRecord:
    """Return the record that a proof shows to be in the log; the check needs the log's key only.

    Raises:
        BadInputError: the proof is malformed.
        VerificationError: that key did not sign the head, the hashes do not lead from the record to
            the head's root, or the record has lines of another module version.
    """
    proof = parse_proof(raw)
    lookup = records.parse_lookup(proof.lookup)
    tree = tlog.parse_tree(open_note(lookup.note, [verifier]).text)
    tlog.check_record(proof.hashes, tree, lookup.number, tlog.leaf_hash(lookup.text.encode()))
    line = records.parse_record(lookup.text)[0]
    sums = records.lines_for(lookup.text, line.module, line.version)
    return ProvenRecord(verifier.name, line.module, line.version, sums, lookup.number, tree)
