"""Signed notes, the form of a checksum database's tree heads. Follows x/mod/sumdb/note/note.go.

    go.sum database tree                        the text: UTF-8, ends in a newline
    28905453
    f3f8U0MoQmXkWAgAEKDtXcaI3c2y6N9+55KNSRefF/w=
                                                a blank line
    — sum.golang.org Az3grr4J9x4SApup87osj...   one line for each signature

A line is U+2014, a space, the key's name, a space, and the base64 of the key hash (4 bytes) and
the signature. Keys sign the text with its last newline. A note has at most 100 signatures, and no
control character except the newline. Strict by printing back.

Anybody may have written a `Note`. Only `open_note` makes a `VerifiedNote`. Not here: keys
(`notekey`), the meaning of a text (`tlog.parse_tree`).
"""

import base64
import re
from collections.abc import Iterable
from dataclasses import InitVar, dataclass

from app.core.errors import BadInputError, VerificationError
from app.core.notekey import KEY_HASH_BYTES, Signer, Verifier, base64_exact, is_key_name

MAX_NOTE_BYTES = 1_000_000
MAX_SIGNATURES = 100

_DASH = "\u2014 "
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")
_SHOWN_CHARS = 60
_SHOWN_KEYS = 3
_SEAL = object()


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature line that was not checked.

    Attributes:
        name: of the key, plain.
        key_hash: 4 bytes.
        signature: the raw bytes, at least one; 64 from Ed25519.
    """

    name: str
    key_hash: bytes
    signature: bytes

    @property
    def key_id(self) -> str:
        """Return name and key hash as people are shown them: "sum.golang.org+033de0ae"."""
        return f"{self.name}+{self.key_hash.hex()}"

    def __str__(self) -> str:
        encoded = base64.b64encode(self.key_hash + self.signature).decode()
        return f"{_DASH}{self.name} {encoded}\n"


@dataclass(frozen=True, slots=True)
class Note:
    """A note whose signatures were not checked.

    Attributes:
        text: ends in a newline, which is signed too.
        signatures: in their order, repetitions included.
    """

    text: str
    signatures: tuple[Signature, ...]

    def encoded(self) -> bytes:
        """Return the note's bytes; `parse_note` gives the note back."""
        return f"{self.text}\n{''.join(map(str, self.signatures))}".encode()


@dataclass(frozen=True, slots=True)
class VerifiedNote:
    """A note that at least one known key signed; only `open_note` makes one.

    Attributes:
        text: the signed text.
        raw: the whole note as it came, for storing or sending.
        verified_by: the known keys with a valid signature, each once, in the order of their lines.
    """

    text: str
    raw: bytes
    verified_by: tuple[Verifier, ...]
    seal: InitVar[object]

    def __post_init__(self, seal: object) -> None:
        # TypeError, because this is a mistake in the program: no caller should catch it.
        if seal is not _SEAL:
            raise TypeError("a VerifiedNote comes from open_note alone")


def parse_note(raw: bytes) -> Note:
    """Return the note in raw; its signatures are not checked.

    Raises:
        BadInputError: raw has over 1,000,000 bytes, is not UTF-8, has a control character, no blank
            line, no signature or over 100, or a malformed signature line.
    """
    if len(raw) > MAX_NOTE_BYTES:
        raise BadInputError(f"malformed note: it has more than {MAX_NOTE_BYTES} bytes")
    try:
        whole = raw.decode()
    except UnicodeDecodeError as error:
        raise BadInputError("malformed note: it is not UTF-8") from error
    _check_characters(whole)
    # Split at the last blank line: the text may have blank lines too.
    text, blank, lines = whole.rpartition("\n\n")
    if not blank or not lines.endswith("\n"):
        raise BadInputError("malformed note: it does not end in a blank line and signature lines")
    # Split into one part more than allowed: that shows too many, without splitting everything.
    signature_lines = lines.removesuffix("\n").split("\n", MAX_SIGNATURES)
    if len(signature_lines) > MAX_SIGNATURES:
        raise BadInputError(f"malformed note: it has more than {MAX_SIGNATURES} signatures")
    return Note(text + "\n", tuple(_parse_signature(line) for line in signature_lines))


def _check_characters(text: str) -> None:
    if _CONTROL.search(text):
        raise BadInputError("malformed note: it has a control character")


def _parse_signature(line: str) -> Signature:
    name, _, encoded = line.removeprefix(_DASH).partition(" ")
    decoded = base64_exact(encoded)
    if line.startswith(_DASH) and is_key_name(name) and decoded and len(decoded) > KEY_HASH_BYTES:
        return Signature(name, decoded[:KEY_HASH_BYTES], decoded[KEY_HASH_BYTES:])
    raise BadInputError(f"malformed note: {line[:_SHOWN_CHARS]!a} is not a signature line")


def open_note(raw: bytes, verifiers: Iterable[Verifier]) -> VerifiedNote:
    """Return the note in raw, which at least one of the known keys has signed.

    As in x/mod, signatures of other keys are ignored, because a log may sign with an old and a new
    key; of each known key only the first signature counts.

    Raises:
        BadInputError: the note is malformed, or two known keys have the same name and key hash.
        VerificationError: no known key signed it, or a known key's signature is wrong.
    """
    note, known = parse_note(raw), _by_identity(verifiers)
    signed, verified = note.text.encode(), dict[Verifier, None]()
    for signature in note.signatures:
        verifier = known.get((signature.name, signature.key_hash))
        if verifier is None or verifier in verified:
            continue
        if not verifier.verifies(signed, signature.signature):
            raise VerificationError(
                f"the note's signature by {_key_ids([verifier])} is invalid: its text was altered"
            )
        verified[verifier] = None
    if not verified:
        raise VerificationError(
            f"the note is not signed by {_key_ids(known.values()) or 'a known key'}, "
            f"only by {_key_ids(note.signatures)}"
        )
    return VerifiedNote(note.text, raw, tuple(verified), _SEAL)


def _by_identity(verifiers: Iterable[Verifier]) -> dict[tuple[str, bytes], Verifier]:
    known: dict[tuple[str, bytes], Verifier] = {}
    for verifier in verifiers:
        if known.setdefault((verifier.name, verifier.key_hash), verifier) != verifier:
            raise BadInputError(f"two known keys are both {_key_ids([verifier])}")
    return known


def _key_ids(keys: Iterable[Verifier | Signature]) -> str:
    """Return a few key IDs for a message, escaped and cut short: anybody may choose a name."""
    every = list(dict.fromkeys(ascii(key.key_id[:_SHOWN_CHARS])[1:-1] for key in keys))
    return ", ".join(every[:_SHOWN_KEYS]) + (" and others" if len(every) > _SHOWN_KEYS else "")


def sign(text: str, *signers: Signer) -> bytes:
    r"""Return the note of text, signed by each of the signers in their order.

    Args:
        text: ends in a newline; blank lines are allowed.
        signers: 1 to 100 different keys; an old and a new one while clients change over.

    Raises:
        BadInputError: text lacks the newline, has a control character or is no Unicode text; there
            is no signer, one comes twice, or there are over 100.
    """
    if not text.endswith("\n"):
        raise BadInputError("a note's text ends in a newline")
    _check_characters(text)
    if not signers or len(set(signers)) != len(signers):
        raise BadInputError("a note is signed by at least one key, and once by each")
    try:
        signed = text.encode()
    except UnicodeEncodeError as error:
        raise BadInputError("a note's text is Unicode text") from error
    signatures = (Signature(s.name, s.verifier.key_hash, s.sign(signed)) for s in signers)
    raw = Note(text, tuple(signatures)).encoded()
    # Parse the result: a note that a reader would refuse, also for its size, must not go out.
    parse_note(raw)
    return raw
