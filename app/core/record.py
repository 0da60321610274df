"""A checksum database's records and lookup answers. Follows x/mod/sumdb/tlog/note.go and client.go.

    42                                          the record's number
    rsc.io/quote v1.5.2 h1:w5fcysjrx7yq...      the record's text, which is what the log hashes
    rsc.io/quote v1.5.2/go.mod h1:LzX7h...
                                                a blank line
    go.sum database tree                        a signed note, a head that covers the record
    ...

A text is UTF-8 of lines that are not empty, without control characters; the last one ends too.
A tile of records is their texts, each with the blank line. Both parsers are strict by printing
back. Not here: the note (`note`), the tiles that prove a record (`tile`).
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from app.core import module as modules
from app.core import tlog
from app.core.errors import BadInputError, VerificationError
from app.core.notekey import base64_exact
from app.core.tile import AuthenticTiles

MAX_LOOKUP_BYTES = 1_000_000

_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)
_GO_MOD = "/go.mod"
_H1 = "h1:"
_SHOWN_CHARS = 80


@dataclass(frozen=True, slots=True)
class Lookup:
    """An answer to lookup/<module>@<version>; nothing in it was checked against a log.

    Attributes:
        number: of the record, from 0 on.
        text: of the record, as it says of itself.
        note: the signed head, raw, for `note.open_note`.
    """

    number: int
    text: str
    note: bytes


@dataclass(frozen=True, slots=True)
class RecordLine:
    """A line of a record, which is one of a go.sum.

    Attributes:
        module: plain path.
        version: canonical.
        is_go_mod: whether h1 is of the go.mod alone and not of the zip.
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
    """The two h1 of a module version, "h1:..." each: of its zip, and of its go.mod alone."""

    zip_h1: str
    go_mod_h1: str


def check_text(text: str) -> None:
    """Return if a log may have a record of this text.

    Raises:
        BadInputError: it is empty, has an empty line or a control character, does not end in a
            newline, or is no Unicode text.
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
    """Return what a lookup's answer consists of; nothing is checked against the log.

    Raises:
        BadInputError: it is over 1,000,000 bytes long, has no number, no blank line, a text that
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
    """Return the answer as it is on the wire; `parse_lookup` gives it back.

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
        BadInputError: `check_text` refuses one.
    """
    every = list(texts)
    for text in every:
        check_text(text)
    return "".join(f"{text}\n" for text in every).encode()


def parse_data_tile(body: bytes) -> list[str]:
    """Return the texts in the body of a tile of records; how many is the tile's width.

    Raises:
        BadInputError: it is not UTF-8, does not end in a blank line, or has a malformed text.
    """
    try:
        whole = body.decode()
    except UnicodeDecodeError as error:
        raise BadInputError("malformed tile of records: it is not UTF-8") from error
    *found, rest = whole.split("\n\n")
    if rest:
        raise BadInputError("malformed tile of records: it does not end in one blank line")
    texts = [f"{text}\n" for text in found]
    for text in texts:
        check_text(text)
    return texts


def record_text(module: str, version: str, sums: Sums) -> str:
    r"""Return a module version's record: "<module> <version> h1:...\n" and the line of its go.mod.

    Raises:
        BadInputError: version is not a canonical one of module, or an h1 is malformed.
    """
    lines = (
        RecordLine(module, version, is_go_mod=False, h1=sums.zip_h1),
        RecordLine(module, version, is_go_mod=True, h1=sums.go_mod_h1),
    )
    text = "".join(map(str, lines))
    # Printing back: a newline in a value would be a line of its own.
    if parse_record(text) != lines:
        raise BadInputError(f"malformed record of {module[:_SHOWN_CHARS]!a}: a value has a newline")
    return text


def parse_record(text: str) -> tuple[RecordLine, ...]:
    """Return the lines of a record's text, in their order.

    Raises:
        BadInputError: `check_text` refuses it, or a line is not a module path, a version canonical
            for it with or without "/go.mod", and an h1, with one space between them.
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
    """Return the record's text, proven to be the log's record of that number.

    Args:
        lookup: the answer, whose note was opened and gave the tree of tiles, or an older one.
        tiles: has those of `tile.tiles_needed` for `tlog.stored_hash_index(0, lookup.number)`.

    Raises:
        BadInputError: the needed tiles are not at hand.
        VerificationError: the tree has no such record, or it is another one.
    """
    if lookup.number >= tiles.tree.size:
        raise VerificationError(
            f"record {lookup.number} can't be in the log's tree of {tiles.tree.size} records"
        )
    found = tiles.read([tlog.stored_hash_index(0, lookup.number)])
    if found != [tlog.leaf_hash(lookup.text.encode())]:
        raise VerificationError(f"the log's record {lookup.number} is not the one that was sent")
    return lookup.text


def lines_for(text: str, module: str, version: str) -> Sums:
    """Return the two h1 that an authentic record has for a module version.

    The record has to be that version's alone. Older `go` commands took one without a line for the
    module as good (CVE-2026-42501), and used lines that the log did not vouch for (CVE-2026-56864).

    Args:
        text: of `authentic_text`, or of one's own log; never of a lookup that was not checked.
        module: plain path.
        version: canonical, without "/go.mod".

    Raises:
        BadInputError: a line is malformed.
        VerificationError: a line is missing, comes twice, or is another module's or version's.
    """
    lines = parse_record(text)
    asked = f"{module}@{version}"
    for line in lines:
        if (line.module, line.version) != (module, version):
            shown = f"{line.module}@{line.version}"[:_SHOWN_CHARS]
            raise VerificationError(f"the record of {asked} has a line for {shown}")
    return Sums(_only(lines, asked, is_go_mod=False), _only(lines, asked, is_go_mod=True))


def _only(lines: Sequence[RecordLine], asked: str, *, is_go_mod: bool) -> str:
    found = [line.h1 for line in lines if line.is_go_mod == is_go_mod]
    if len(found) != 1:
        what = "go.mod" if is_go_mod else "zip"
        raise VerificationError(f"the record of {asked} has {len(found)} lines for the {what}")
    return found[0]
