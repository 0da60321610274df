"""Retry-After: the wait that an upstream asks for (RFC 9110, sections 10.2.3 and 5.6.7)."""

import math
import re
from datetime import UTC
from email.utils import parsedate_to_datetime

# Nine digits are 31 years. int() of thousands of digits would be work for nothing.
_SECONDS = re.compile(r"[0-9]{1,9}", re.ASCII)


def retry_after_s(value: str | None, now: float) -> float | None:
    """Return the seconds to wait, 0 or more, or None if value is absent or malformed.

    "120" gives 120.0. At 1994-11-06 08:49:30 GMT (now is 784111770), the date
    "Sun, 06 Nov 1994 08:49:37 GMT" gives 7.0. A date in the past gives 0.0. RFC 9110 knows no
    sign, fraction or unit: "-1", "1.5" and "2 s" give None.

    Args:
        value: whole seconds or an HTTP date, as the header has it.
        now: Unix time in seconds.
    """
    if value is None:
        return None
    text = value.strip()
    if _SECONDS.fullmatch(text):
        return float(text)
    try:
        date = parsedate_to_datetime(text)
        # A date without a zone is GMT by RFC 9110; Python would take it as local time.
        moment = date if date.tzinfo else date.replace(tzinfo=UTC)
        return max(0.0, moment.timestamp() - now)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def whole_seconds(seconds: float | None, default: int) -> int:
    """Return seconds rounded up, at least 1, or the default for None: 1.2 gives 2, 0.0 gives 1."""
    return default if seconds is None else max(1, math.ceil(seconds))
