"""Windows: how they are written, and which moments are inside."""

from datetime import UTC, datetime

import pytest

from app.core.errors import BadInputError
from app.core.window import Window


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


# 2026-11-23 is a Monday. Berlin is UTC+1 in winter, UTC+2 in summer.
@pytest.mark.parametrize(
    ("window", "moment", "is_open"),
    [
        ("Mon-Thu 09:00-16:00 Europe/Berlin", "2026-11-23T07:59:59", False),
        ("Mon-Thu 09:00-16:00 Europe/Berlin", "2026-11-23T08:00:00", True),
        ("Mon-Thu 09:00-16:00 Europe/Berlin", "2026-11-26T14:59:59", True),
        ("Mon-Thu 09:00-16:00 Europe/Berlin", "2026-11-26T15:00:00", False),
        ("Mon-Thu 09:00-16:00 Europe/Berlin", "2026-11-27T10:00:00", False),
        ("Mon-Thu 09:00-16:00 Europe/Berlin", "2026-07-20T07:00:00", True),  # summer time
        ("Mon-Thu 09:00-16:00 Europe/Berlin", "2026-07-20T14:00:00", False),
        ("Fri-Mon 00:00-24:00", "2026-11-22T23:59:59", True),
        ("Fri-Mon 00:00-24:00", "2026-11-24T00:00:00", False),
        ("Fri 22:00-04:00", "2026-11-27T21:59:00", False),
        ("Fri 22:00-04:00", "2026-11-27T22:00:00", True),
        ("Fri 22:00-04:00", "2026-11-28T03:59:00", True),  # Saturday, of Friday's window
        ("Fri 22:00-04:00", "2026-11-27T03:59:00", False),  # Friday, would be Thursday's
        ("Fri 22:00-04:00", "2026-11-28T04:00:00", False),
        ("Mon,Wed-Thu 10:00-11:00 UTC", "2026-11-24T10:30:00", False),
        ("Mon,Wed-Thu 10:00-11:00 UTC", "2026-11-25T10:30:00", True),
    ],
)
def test_a_moment_is_inside_or_not(window: str, moment: str, *, is_open: bool) -> None:
    assert Window.parse(window).is_open(at(moment)) is is_open


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Mon",
        "Mon 9:00-16:00",
        "Mon 09:00-16:00 ",
        "mon 09:00-16:00",
        "Mon-Thu-Fri 09:00-16:00",
        "Mon 09:00-09:00",
        "Mon 24:00-09:00",
        "Mon 09:60-16:00",
        "Mon 09:00-24:01",
        "Mon 09:00-16:00 Europe/Nowhere",
        "Mon 09:00-16:00 Europe",
        "Mon 09:00-16:00 ../../etc/passwd",
        "Mon 09:00-16:00 /etc/passwd",
        "Mon, 09:00-16:00",
        "Mon 09:00-16:00\nEurope/Berlin",
    ],
)
def test_what_is_no_window_is_refused(text: str) -> None:
    with pytest.raises(BadInputError):
        Window.parse(text)
