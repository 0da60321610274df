"""Windows: the hours of the week in which a rollout may change nodes.

A window is written "Mon-Thu 09:00-16:00 Europe/Berlin": days, times, time zone (of the IANA
database). Not here: what happens outside a window (`rollout`).
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from app.core.errors import BadInputError

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_WRITTEN = re.compile(
    r"(?P<days>[A-Za-z,-]{3,40}) (?P<start>[0-2][0-9]:[0-5][0-9])-(?P<end>[0-2][0-9]:[0-5][0-9])"
    r"(?: (?P<zone>[A-Za-z][A-Za-z0-9_+/-]{0,60}))?"
)
MAX_WINDOW_CHARS = 120
_EXAMPLE = '"Mon-Thu 09:00-16:00 Europe/Berlin"'


@dataclass(frozen=True, slots=True)
class Window:
    """Hours on days of the week, in local time.

    Attributes:
        days: 0 is Monday. A window that ends after midnight belongs to the day on which it starts.
        start_min: minutes after midnight, 0 to 1439.
        end_min: minutes after midnight, 1 to 1440, itself not in the window; an end before the
            start is on the next day: "Fri 22:00-04:00".
        zone: name of the time zone, "UTC" where none is written.
    """

    days: frozenset[int]
    start_min: int
    end_min: int
    zone: str

    @classmethod
    def parse(cls, text: str) -> "Window":
        """Return the window that a text writes: "Mon-Thu 09:00-16:00 Europe/Berlin".

        Days are one day, a range ("Fri-Mon" goes over the weekend) or a list ("Mon,Wed-Thu").
        Without a time zone the times are UTC. "24:00" is the end of the day.

        Raises:
            BadInputError: text is no window, or this machine does not know the time zone.
        """
        match = _WRITTEN.fullmatch(text)
        if match is None:
            raise BadInputError(f"{text[:80]!a} is not a window such as {_EXAMPLE}")
        start, end = _minutes(match["start"]), _minutes(match["end"])
        if start in (1440, end):
            raise BadInputError(f"{text[:80]!a}: a window starts before 24:00 and is not empty")
        zone = match["zone"] or "UTC"
        _zone(zone)
        return cls(_days(match["days"]), start, end, zone)

    def is_open(self, at: datetime) -> bool:
        """Whether a moment (aware) is in the window."""
        local = at.astimezone(_zone(self.zone))
        minute = local.hour * 60 + local.minute
        if self.start_min < self.end_min:
            return local.weekday() in self.days and self.start_min <= minute < self.end_min
        if minute >= self.start_min:
            return local.weekday() in self.days
        yesterday = (local.date() - timedelta(days=1)).weekday()
        return minute < self.end_min and yesterday in self.days


def _minutes(text: str) -> int:
    hours, minutes = map(int, text.split(":"))
    if hours * 60 + minutes > 1440:
        raise BadInputError(f"{text} is not a time of the day")
    return hours * 60 + minutes


def _days(text: str) -> frozenset[int]:
    days: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        ends = [first, last] if dash else [first, first]
        for day in ends:
            if day not in _DAYS:
                raise BadInputError(f"{day[:20]!a} is not a day: {' '.join(_DAYS)}")
        start, end = map(_DAYS.index, ends)
        days.update((start + n) % 7 for n in range((end - start) % 7 + 1))
    return frozenset(days)


def _zone(name: str) -> tzinfo:
    """Return a time zone; ZoneInfo itself keeps those that it has read.

    Raises:
        BadInputError: this machine does not know the time zone.
    """
    if name == "UTC":  # needs no database
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise BadInputError(
            f"this machine knows no time zone {name[:60]!a}; without one a window is in UTC"
        ) from error
