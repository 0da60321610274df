"""ETag and If-Match of the admin API: who changes what somebody else has changed hears of it.

RFC 9110, sections 8.8.3 and 13.1.1. An object's ETag is its revision in quotes: `"3"`.
"""

import re
from typing import Annotated

from fastapi import Depends, Header, Response

from app.core.errors import BadInputError

_TAG = re.compile(r'"([0-9]{1,18})"', re.ASCII)


def put_etag(response: Response, revision: int) -> None:
    """Have a response carry the ETag of a revision."""
    response.headers["ETag"] = f'"{revision}"'


def parse_if_match(value: str | None) -> int | None:
    """Return the revision that an If-Match asks for; None for none and for "*".

    Raises:
        BadInputError: it is not one ETag as this API gives them.
    """
    if value is None or value.strip() == "*":
        return None
    match = _TAG.fullmatch(value.strip())
    if match is None:
        raise BadInputError('If-Match takes one ETag as it was given, such as "3" with its quotes')
    return int(match[1])


async def _revision(if_match: Annotated[list[str] | None, Header()] = None) -> int | None:
    if if_match is not None and len(if_match) > 1:
        raise BadInputError("If-Match comes more than once")
    return parse_if_match(if_match[0] if if_match else None)


IfMatch = Annotated[int | None, Depends(_revision)]
"""The revision that a change is meant for; None changes whatever is there."""
