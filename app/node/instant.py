"""Times as the formats have them: RFC 3339 in UTC, whole seconds."""

from __future__ import annotations

import calendar
import time

from .errors import RefusedError

_FORM = "%Y-%m-%dT%H:%M:%SZ"


def parse_instant(text: object) -> int:
    """Return seconds since 1970 of "2026-12-11T00:00:00Z".

    Raises:
        RefusedError: text has another form.
    """
    try:
        return calendar.timegm(time.strptime(str(text), _FORM))
    except (ValueError, OverflowError) as error:
        raise RefusedError(f"{str(text)[:40]!a} is no time of the form 2026-12-11T00:00:00Z") from (
            error
        )


def show_instant(seconds: float) -> str:
    """Return the text of seconds since 1970: "2026-12-11T00:00:00Z"."""
    return time.strftime(_FORM, time.gmtime(int(seconds)))


def show_span(seconds: float) -> str:
    """Return a length of time for people: "41 s", "3 h", "12 days"."""
    seconds = abs(seconds)
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{int(seconds // size)} {unit}"
    return f"{int(seconds)} s"
