"""A checksum database's records and lookup answers. Follows x/mod/sumdb/tlog/note.go and client.go.

    42                                          the record's number
    rsc.io/quote v1.5.2 h1:w5fcysjrx7yq...      the record's text, which is what the log hashes
    rsc.io/quote v1.5.2/go.mod h1:LzX7h...
                                                a blank line
    go.sum database tree                        a signed note, a head that covers the record
    ...

A text is UTF-8 without control characters. It has one line or more, none of them empty, and each
ends in a newline. A tile of records has the texts of several records, each followed by the blank
line. Both parsers are strict by printing back. Not here: the note (`note`), the tiles that prove a
record (`tileproof`).
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from app.core import module as modules
from app.core import tlog
from app.core.errors import BadInputError, VerificationError
from app.core.notekey import base64_exact
from app.core.tileproof import AuthenticTiles

MAX_LOOKUP_BYTES = 1_000_000

_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)
_GO_MOD = "/go.mod"
_H1 = "h1:"
_SHOWN_CHARS = 80


@dataclass(frozen=True, slots=True)
class Lookup:
    """An answer to lookup/<module>@<version>; nothing was checked against a log.

    Attributes:
        number: the record's number, from 0 on, unproven.
        text: the record's text, unproven.
        note: the signed head, raw, for `note.open_note`.
    """

    number: int
    text: str
    note: bytes


@dataclass(frozen=True, slots=True)
class RecordLine:
    """A line of a record or of a go.sum.

    Attributes:
        module: plain path.
        version: canonical.
        is_go_mod: True if h1 is of the go.mod, False if h1 is of the zip.
        h1: "h1:" and the base64 of 32 bytes.
    """

    module: str
    version: str
    is_go_mod: bool
    h1: str

    def __str__(self) -> str:
        return f"{self.module} {self.version}{_GO_MOD * self.is_go_mod} {self.h1}\n"


@dataclass(frozen=True, slots=True)
class Sums:
    """The two h1 values of a module version, "h1:..." each: of its zip and of its go.mod."""

    zip_h1: str
    go_mod_h1: str


def check_text(text: str) -> None:
    """Accept the text of a record.

    Raises:
        BadInputError: text is empty, has an empty line or a control character, does not end in a
            newline, or is not Unicode text.
    """
    if not text.endswith("\n"):
        raise BadInputError("malformed record: it does not end in a newline")
    if text.startswith("\n") or "\n\n" in text:
        raise BadInputError("malformed record: it has an empty line")
    if _CONTROL.search(text):
        raise BadInputError("malformed record: it has a control character")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadInputError("malformed record: it is not Unicode text") from error


def parse_lookup(raw: bytes) -> Lookup:
    """Return the parts of a lookup's answer; nothing is checked against the log.

    Raises:
        BadInputError: raw has over 1,000,000 bytes, no number, no blank line, a text that
            `check_text` refuses, or nothing after the blank line.
    """
    head, blank, note = raw.partition(b"\n\n")
    if len(raw) > MAX_LOOKUP_BYTES or not blank:
        raise BadInputError("malformed lookup answer: it has no record with a blank line after it")
    if not note:
        raise BadInputError("malformed lookup answer: it has no signed tree head")
    try:
        number, _, text = (head + b"\n").decode().partition("\n")
    except UnicodeDecodeError as error:
        raise BadInputError("malformed lookup answer: the record is not UTF-8") from error
    if not _NUMBER.fullmatch(number) or int(number) > tlog.MAX_SIZE:
        raise BadInputError("malformed lookup answer: its first line is not a record's number")
    check_text(text)
    return Lookup(int(number), text, note)


def format_lookup(lookup: Lookup) -> bytes:
    """Return the bytes of the answer; `parse_lookup` gives the lookup back.

    Raises:
        BadInputError: `check_text` refuses the text, or the number is negative.
    """
    check_text(lookup.text)
    if not 0 <= lookup.number <= tlog.MAX_SIZE:
        raise BadInputError(f"a record can't have the number {lookup.number}")
    return f"{lookup.number}\n{lookup.text}\n".encode() + lookup.note


def format_data_tile(texts: Iterable[str]) -> bytes:
    """Return the body of a tile of records: each text and a blank line.

    Raises:
        BadInputError: `check_text` refuses a text.
    """
    every = list(texts)
    for text in every:
        check_text(text)
    return "".join(f"{text}\n" for text in every).encode()


def parse_data_tile(body: bytes) -> list[str]:
    """Return the texts in the body of a tile of records, as many as the tile is wide.

    Raises:
        BadInputError: body is not UTF-8, does not end in a blank line, or has a malformed text.
    """
    try:
        whole = body.decode()
    except UnicodeDecodeError as error:
        raise BadInputError("malformed tile of records: it is not UTF-8") from error
    *parts, rest = whole.split("\n\n")
    if rest:
        raise BadInputError("malformed tile of records: it does not end in one blank line")
    texts = [f"{text}\n" for text in parts]
    for text in texts:
        check_text(text)
    return texts


def record_text(module: str, version: str, sums: Sums) -> str:
    r"""Return a module version's record: "<module> <version> h1:...\n" and the line of its go.mod.

    Raises:
        BadInputError: version is not canonical for module, or an h1 is malformed.
    """
    lines = (
        RecordLine(module, version, is_go_mod=False, h1=sums.zip_h1),
        RecordLine(module, version, is_go_mod=True, h1=sums.go_mod_h1),
    )
    text = "".join(map(str, lines))
    # Parse the result: a newline in a value would have made another line.
    if parse_record(text) != lines:
        raise BadInputError(f"malformed record of {module[:_SHOWN_CHARS]!a}: a value has a newline")
    return text


def parse_record(text: str) -> tuple[RecordLine, ...]:
    """Return the lines of a record's text, in their order.

    Raises:
        BadInputError: `check_text` refuses text, or a line does not consist of a module path, a
            version that is canonical for it, with or without "/go.mod", and an h1, with one space
            between them.
    """
    check_text(text)
    return tuple(_parse_line(line) for line in text.removesuffix("\n").split("\n"))


def _parse_line(line: str) -> RecordLine:
    fields = line.split(" ")
    if len(fields) != 3 or not _is_h1(fields[2]):
        raise BadInputError(
            f"malformed record line {line[:_SHOWN_CHARS]!a}: it is <module> <version> h1:<base64>"
        )
    module, version, h1 = fields
    modules.check_path(module)
    plain = version.removesuffix(_GO_MOD)
    if not modules.is_canonical_for(module, plain):
        raise BadInputError(
            f"malformed record line {line[:_SHOWN_CHARS]!a}: its version is not canonical"
        )
    return RecordLine(module, plain, plain != version, h1)


def _is_h1(text: str) -> bool:
    decoded = base64_exact(text.removeprefix(_H1)) if text.startswith(_H1) else None
    return decoded is not None and len(decoded) == tlog.HASH_BYTES


def authentic_text(lookup: Lookup, tiles: AuthenticTiles) -> str:
    """Return the record's text, after a proof that the log's record of that number has it.

    Args:
        lookup: the answer; the tree of tiles is that of its note, or a newer one.
        tiles: has the tiles of `tiles_needed` for `tlog.stored_hash_index(0, lookup.number)`.

    Raises:
        BadInputError: a needed tile is missing.
        VerificationError: the tree has no record of that number, or another record.
    """
    if lookup.number >= tiles.tree.size:
        raise VerificationError(
            f"record {lookup.number} can't be in the log's tree of {tiles.tree.size} records"
        )
    hashes = tiles.read([tlog.stored_hash_index(0, lookup.number)])
    if hashes != [tlog.leaf_hash(lookup.text.encode())]:
        raise VerificationError(f"the log's record {lookup.number} is not the one that was sent")
    return lookup.text


def lines_for(text: str, module: str, version: str) -> Sums:
    """Return the two h1 values that an authentic record has for a module version.

    Every line of the record must be of that version. Older `go` commands accepted a record without
    a line for the module (CVE-2026-42501), and used lines that were not proven (CVE-2026-56864).

    Args:
        text: from `authentic_text` or from an own log; never from an unchecked lookup.
        module: plain path.
        version: canonical, without "/go.mod".

    Raises:
        BadInputError: a line is malformed.
        VerificationError: a line is missing, comes twice, or is another module's or version's.
    """
    lines = parse_record(text)
    name = f"{module}@{version}"
    for line in lines:
        if (line.module, line.version) != (module, version):
            shown = f"{line.module}@{line.version}"[:_SHOWN_CHARS]
            raise VerificationError(f"the record of {name} has a line for {shown}")
    return Sums(_single_h1(lines, name, is_go_mod=False), _single_h1(lines, name, is_go_mod=True))


def _single_h1(lines: Sequence[RecordLine], name: str, *, is_go_mod: bool) -> str:
    h1s = [line.h1 for line in lines if line.is_go_mod == is_go_mod]
    if len(h1s) != 1:
        file = "go.mod" if is_go_mod else "zip"
        raise VerificationError(f"the record of {name} has {len(h1s)} lines for the {file}")
    return h1s[0]
