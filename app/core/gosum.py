"""A go.sum file: lines "<module> <version>[/go.mod] h1:<base64>", as cmd/go reads them.

Blank lines and carriage returns are skipped as `go` skips them. Not here: the line itself, which is
that of a checksum database's record (`record`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from app.core.errors import BadInputError
from app.core.record import RecordLine, Sums, parse_record


@dataclass(frozen=True, slots=True)
class GoSumEntry:
    """One module version of a go.sum, with what the file has of it; "" for what it has not."""

    module: str
    version: str
    zip_h1: str
    go_mod_h1: str

    def contradicts(self, sums: Sums) -> bool:
        """Whether the file has another h1 than a log's record."""
        pairs = ((self.zip_h1, sums.zip_h1), (self.go_mod_h1, sums.go_mod_h1))
        return any(own and own != vouched for own, vouched in pairs)


def parse_go_sum(text: str) -> tuple[GoSumEntry, ...]:
    """Return the module versions of a go.sum, each once, in the order of their first lines.

    Raises:
        BadInputError: a line is none, or says otherwise than an earlier one; it names the line.
    """
    found: dict[tuple[str, str], dict[bool, str]] = {}
    for number, raw in enumerate(text.split("\n"), 1):
        line = " ".join(raw.split())
        if not line:
            continue
        one = _parsed(line, number)
        known = found.setdefault((one.module, one.version), {})
        if known.setdefault(one.is_go_mod, one.h1) != one.h1:
            raise BadInputError(
                f"go.sum, line {number}: an earlier line has another h1 of {one.module}@"
                f"{one.version}"
            )
    return tuple(
        GoSumEntry(module, version, sums.get(False, ""), sums.get(True, ""))
        for (module, version), sums in found.items()
    )


def _parsed(line: str, number: int) -> RecordLine:
    try:
        return parse_record(f"{line}\n")[0]
    except BadInputError as error:
        raise BadInputError(f"go.sum, line {number}: {error}") from error


def format_go_sum(summed: Sequence[GoSumEntry]) -> str:
    """Return lines that `parse_go_sum` reads as these."""
    lines = [
        RecordLine(one.module, one.version, is_go_mod, h1)
        for one in summed
        for is_go_mod, h1 in ((False, one.zip_h1), (True, one.go_mod_h1))
        if h1
    ]
    return "".join(map(str, lines))
