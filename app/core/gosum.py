"""A go.sum file: lines "<module> <version>[/go.mod] h1:<base64>", as cmd/go reads them.

Blank lines and carriage returns are skipped, as `go` skips them. Not here: the form of a line. The
records of a checksum database have the same lines (`record`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from app.core.errors import BadInputError
from app.core.record import RecordLine, Sums, parse_record


@dataclass(frozen=True, slots=True)
class GoSumEntry:
    """The h1 values of one module version in a go.sum; "" where the file has no line."""

    module: str
    version: str
    zip_h1: str
    go_mod_h1: str

    def contradicts(self, sums: Sums) -> bool:
        """Whether an h1 of the file differs from the h1 of a log's record."""
        pairs = ((self.zip_h1, sums.zip_h1), (self.go_mod_h1, sums.go_mod_h1))
        return any(own and own != vouched for own, vouched in pairs)


def parse_go_sum(text: str) -> tuple[GoSumEntry, ...]:
    """Return the module versions of a go.sum, each once, in the order of their first lines.

    Raises:
        BadInputError: a line is malformed or contradicts an earlier line; the message has the
            line's number.
    """
    entries: dict[tuple[str, str], dict[bool, str]] = {}
    for number, raw in enumerate(text.split("\n"), 1):
        text_line = " ".join(raw.split())
        if not text_line:
            continue
        line = _parse_line(text_line, number)
        sums = entries.setdefault((line.module, line.version), {})
        if sums.setdefault(line.is_go_mod, line.h1) != line.h1:
            raise BadInputError(
                f"go.sum, line {number}: an earlier line has another h1 of {line.module}@"
                f"{line.version}"
            )
    return tuple(
        GoSumEntry(module, version, sums.get(False, ""), sums.get(True, ""))
        for (module, version), sums in entries.items()
    )


def _parse_line(line: str, number: int) -> RecordLine:
    try:
        return parse_record(f"{line}\n")[0]
    except BadInputError as error:
        raise BadInputError(f"go.sum, line {number}: {error}") from error


def format_go_sum(entries: Sequence[GoSumEntry]) -> str:
    """Return the text from which `parse_go_sum` reads these entries."""
    lines = [
        RecordLine(entry.module, entry.version, is_go_mod, h1)
        for entry in entries
        for is_go_mod, h1 in ((False, entry.zip_h1), (True, entry.go_mod_h1))
        if h1
    ]
    return "".join(map(str, lines))
