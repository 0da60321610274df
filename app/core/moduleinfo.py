"""The .info of a module version, and what @latest answers. Accepts what `go` does, and no more.

Follows Go's encoding/json, time.Time.UnmarshalJSON, and cmd/go/internal/modfetch: RevInfo and
codehost.Origin. Not here: what a request may ask for (`goproxy`).
"""

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NoReturn

from app.core import module as modules
from app.core.errors import BadInputError

MAX_INFO_BYTES = 64 * 1024

_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)T(\d{1,2}):(\d\d):(\d\d)(?:[.,](\d+))?(?:Z|([+-])(\d\d):(\d\d))",
    re.ASCII,
)
_ORIGIN_TEXTS = ("vcs", "url", "subdir", "hash", "tagprefix", "tagsum", "ref", "reposum")


@dataclass(frozen=True, slots=True)
class Info:
    """The content of an .info or @latest.

    Attributes:
        time: of the commit, UTC; None if upstream sent none, or one that `datetime` can't hold.
    """

    version: str
    time: datetime | None


def parse_info(body: bytes, module: str, *, asked: str | None) -> Info:
    """Return the content of an .info or @latest.

    Our clock says nothing of it: a commit may be dated in the future.

    Args:
        body: as upstream sent it.
        module: plain path.
        asked: the canonical version in the request; None for a query or @latest.

    Raises:
        BadInputError: `go` could not read body, or it is of another version.
    """
    fields = _object(body)
    version = fields.get("version")
    if not isinstance(version, str):
        raise BadInputError("it has no Version")
    if asked is not None and version != asked:
        raise BadInputError(f"it is about version {version[:80]!a}, not {asked}")
    if not modules.is_canonical_for(module, version):
        raise BadInputError(f"its Version {version[:80]!a} is not canonical for {module}")
    _check_origin(fields.get("origin"))
    time = fields.get("time")
    if time is None:
        return Info(version, None)
    if not isinstance(time, str) or not is_time(time):
        raise BadInputError("its Time is not one that `go` reads (RFC 3339)")
    return Info(version, parse_time(time))


def _object(body: bytes) -> dict[str, object]:
    """Return the members of a JSON object with lower-case names: Go ignores their case."""
    try:
        # As Go does, take bytes that are not UTF-8 for U+FFFD. A byte order mark is no JSON.
        data = json.loads(body.decode("utf-8", "replace"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise BadInputError("it is not JSON") from error
    if not isinstance(data, dict):
        raise BadInputError("it is not a JSON object")
    return {str(name).lower(): value for name, value in data.items()}


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _check_origin(origin: object) -> None:
    if origin is None:
        return
    if not isinstance(origin, dict):
        raise BadInputError("its Origin is not a JSON object")
    for name, value in origin.items():
        is_text = value is None or isinstance(value, str)
        if str(name).lower() in _ORIGIN_TEXTS and not is_text:
            raise BadInputError(f"its Origin has a {name[:20]!a} that is no text")


def is_time(text: str) -> bool:
    """Whether Go's time.Parse reads it as RFC 3339; so does "2024-01-02T3:04:05,5+24:00"."""
    return _clock_and_offset(text) is not None


def parse_time(text: str) -> datetime | None:
    """Return such a time in UTC, cut to microseconds; None for what is no time, or out of range."""
    parts = _clock_and_offset(text)
    if parts is None:
        return None
    year, clock, offset = parts
    try:
        return clock.replace(year=year) - offset
    except (ValueError, OverflowError):
        return None


def _clock_and_offset(text: str) -> tuple[int, datetime, timedelta] | None:
    """Return the year, the local time with it, and the offset from UTC; None if it is no time.

    `datetime` has no year 0, in whose place the time has 400: the calendar repeats after that.
    """
    match = _TIME.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second = (int(match[n]) for n in range(1, 7))
    micros = int((match[7] or "0")[:6].ljust(6, "0"))
    hours, minutes = int(match[9] or 0), int(match[10] or 0)
    if hours > 24 or minutes > 60:
        return None
    try:
        clock = datetime(year or 400, month, day, hour, minute, second, micros, tzinfo=UTC)
    except ValueError:
        return None
    offset = timedelta(hours=hours, minutes=minutes)
    return year, clock, -offset if match[8] == "-" else offset
