r"""What goes over the wire between a git client and a git server: pkt-lines, requests, side bands.

Follows gitprotocol-v2(5), gitprotocol-pack(5) and gitprotocol-common(5). Version 2 is asked for;
a server that knows only version 0 (ssh servers that drop GIT_PROTOCOL) is understood, too. Not
here: HTTP and ssh (`upstream/git`), the meaning of refs (`gitrefs`).

A pkt-line is four hexadecimal digits, the length of the whole line, and the line: "0006a\n".
"0000" ends a section (flush), "0001" separates (delimiter), "0002" ends an answer.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum

from app.core.errors import BadInputError
from app.core.gitrefs import HEAD, HEADS, TAGS, GitRefs, gather

MAX_LINE_BYTES = 65_520
MAX_REFS_BYTES = 64 << 20  # some 900,000 refs
MAX_HAVES = 1_000
AGENT = "agent=moorage"


class Mark(Enum):
    """A pkt-line without content."""

    FLUSH = b"0000"
    DELIMITER = b"0001"
    END = b"0002"


Packet = bytes | Mark


class PacketReader:
    """Splits bytes into pkt-lines while they come."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, chunk: bytes) -> Iterator[Packet]:
        """Yield the complete pkt-lines.

        Raises:
            BadInputError: the bytes are no pkt-lines.
        """
        self._rest += chunk
        at = 0
        while len(self._rest) - at >= 4:
            length = _length(bytes(self._rest[at : at + 4]))
            if isinstance(length, Mark):
                at += 4
                yield length
                continue
            if len(self._rest) - at < length:
                break
            yield bytes(self._rest[at + 4 : at + length])
            at += length
        del self._rest[:at]

    def finish(self) -> None:
        """Return if no line is cut short.

        Raises:
            BadInputError: one is.
        """
        if self._rest:
            raise BadInputError("the git server's answer is cut short")


def _length(digits: bytes) -> int | Mark:
    try:
        length = int(digits, 16) if digits.isalnum() else -1
    except ValueError:
        length = -1
    if 0 <= length <= 2:
        return (Mark.FLUSH, Mark.DELIMITER, Mark.END)[length]
    if not 4 <= length <= MAX_LINE_BYTES:
        raise BadInputError("what answers is no git server")
    return length


def packets_of(body: bytes) -> list[Packet]:
    """Return the pkt-lines of a whole body.

    Raises:
        BadInputError: it is not made of whole pkt-lines.
    """
    reader = PacketReader()
    packets = list(reader.feed(body))
    reader.finish()
    return packets


def line(text: str | bytes) -> bytes:
    """Return a pkt-line."""
    content = text.encode() if isinstance(text, str) else text
    return b"%04x%b" % (len(content) + 4, content)


@dataclass(frozen=True, slots=True)
class Advertisement:
    """What a server says first.

    Attributes:
        version: 2 or 0.
        capabilities: as the server writes them: "object-format=sha256".
        refs: of version 0; None of version 2, which lists refs on request.
    """

    version: int
    capabilities: frozenset[str]
    refs: GitRefs | None

    @property
    def object_format(self) -> str:
        """The hash of the repository's objects: "sha1" or "sha256"."""
        return "sha256" if "object-format=sha256" in self.capabilities else "sha1"


def read_advertisement(packets: list[Packet]) -> Advertisement:
    """Return what a server says first, over HTTP with or without its first line "# service=…".

    Raises:
        BadInputError: it is none; a message of the server is not passed on.
    """
    lines = list(packets)
    if lines and isinstance(lines[0], bytes) and lines[0].startswith(b"# service="):
        lines = lines[2:] if lines[1:2] == [Mark.FLUSH] else lines[1:]
    texts = [packet for packet in lines if isinstance(packet, bytes)]
    if texts and texts[0].rstrip(b"\n") == b"version 2":
        words = frozenset(_text(packet) for packet in texts[1:])
        if not any(word.partition("=")[0] == "ls-refs" for word in words):
            raise BadInputError("the git server can't list refs")
        return Advertisement(2, words, None)
    if texts and texts[0].rstrip(b"\n") == b"version 1":
        texts = texts[1:]
    return _read_refs_v0(texts)


def _read_refs_v0(texts: list[bytes]) -> Advertisement:
    capabilities: frozenset[str] = frozenset()
    ids: dict[str, str] = {}
    behind: dict[str, str] = {}
    for number, packet in enumerate(texts):
        content = packet
        if number == 0:
            content, nul, words = packet.partition(b"\0")
            if not nul:
                raise BadInputError("what answers is no git server")
            capabilities = frozenset(_text(words).split())
        oid, _, ref = _text(content).partition(" ")
        if ref == "capabilities^{}":
            continue
        if ref.endswith("^{}"):
            behind[ref.removesuffix("^{}")] = oid
        elif oid != "shallow":
            ids[ref] = oid
    if not texts:
        raise BadInputError("what answers is no git server")
    return Advertisement(
        0, capabilities, gather((oid, ref, behind.get(ref)) for ref, oid in ids.items())
    )


def list_refs_request(object_format: str) -> bytes:
    """Return the request, of version 2, for HEAD, branches and tags."""
    return b"".join(
        (
            line("command=ls-refs\n"),
            line(f"{AGENT}\n"),
            line(f"object-format={object_format}\n") if object_format != "sha1" else b"",
            Mark.DELIMITER.value,
            line("peel\n"),
            line(f"ref-prefix {HEAD}\n"),
            line(f"ref-prefix {HEADS}\n"),
            line(f"ref-prefix {TAGS}\n"),
            Mark.FLUSH.value,
        )
    )


def read_refs(packets: Iterable[Packet]) -> GitRefs:
    """Return the refs of an answer of version 2: "OID REF [peeled:OID]" in each line.

    Raises:
        BadInputError: a line is malformed.
    """
    return gather(_listed(packet) for packet in packets if isinstance(packet, bytes))


def _listed(packet: bytes) -> tuple[str, str, str | None]:
    if packet.startswith(b"ERR "):
        raise BadInputError("the git server refuses to list refs")
    oid, ref, *attributes = [*_text(packet).split(" "), ""]
    peeled = (a.removeprefix("peeled:") for a in attributes if a.startswith("peeled:"))
    return oid, ref, next(peeled, None)


def fetch_request(
    version: int, object_format: str, wants: Iterable[str], haves: Iterable[str]
) -> bytes:
    """Return the request for a pack with everything behind `wants` that is not behind `haves`.

    All `haves` are said at once, and nothing is negotiated: they are tips that this server sent.
    Progress is asked for and dropped: it keeps the connection alive while the server counts.

    Args:
        version: of the protocol, as advertised.
        object_format: as advertised.
        wants: names of objects that the server advertised; at least one.
        haves: names of objects that the client has; the first 1000 count.
    """
    have_lines = [line(f"have {oid}\n") for oid, _ in zip(haves, range(MAX_HAVES), strict=False)]
    if version == 2:
        parts = [line("command=fetch"), line(AGENT)]
        if object_format != "sha1":
            parts.append(line(f"object-format={object_format}"))
        parts.append(Mark.DELIMITER.value)
        parts += [line("thin-pack"), line("ofs-delta")]
        parts += [line(f"want {oid}\n") for oid in wants]
        return b"".join([*parts, *have_lines, line("done\n"), Mark.FLUSH.value])
    words = f"thin-pack ofs-delta side-band-64k {AGENT}"
    first, *others = wants
    parts = [line(f"want {first} {words}\n"), *(line(f"want {oid}\n") for oid in others)]
    return b"".join([*parts, Mark.FLUSH.value, *have_lines, line("done\n")])


class PackReader:
    """Takes the answer to a fetch while it comes, and gives the bytes of the pack."""

    def __init__(self, version: int) -> None:
        self._packets = PacketReader()
        self._in_pack = version != 2
        self._version = version
        self.is_complete = False

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Yield the pieces of the pack.

        Raises:
            BadInputError: the answer is malformed, or the server says that it failed.
        """
        for packet in self._packets.feed(chunk):
            if self.is_complete:
                continue
            if isinstance(packet, Mark):
                self.is_complete = self._in_pack and packet is Mark.FLUSH
            elif not self._in_pack:
                if packet.startswith(b"ERR "):
                    raise BadInputError("the git server refuses the fetch")
                self._in_pack = packet.rstrip(b"\n") == b"packfile"
            else:
                yield from self._band(packet)

    def _band(self, packet: bytes) -> Iterator[bytes]:
        if self._version != 2 and packet.startswith((b"NAK", b"ACK ")):
            return
        if packet[:1] == b"\x01":
            yield packet[1:]
        elif packet[:1] == b"\x03" or packet.startswith(b"ERR "):
            raise BadInputError("the git server gave up in the middle of the fetch")
        elif packet[:1] != b"\x02":  # 2: progress, for people
            raise BadInputError("the git server's pack is in no side band")

    def finish(self) -> None:
        """Return if the pack came to its end.

        Raises:
            BadInputError: it did not.
        """
        if not self.is_complete:
            raise BadInputError("the git server's pack is cut short")


def _text(packet: bytes) -> str:
    try:
        return packet.decode().rstrip("\n")
    except UnicodeDecodeError:
        # A name that is not UTF-8 is no ref that `go` can ask for; it is passed over.
        return packet.decode("utf-8", "backslashreplace").rstrip("\n")
