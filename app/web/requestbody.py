"""Reading the body of a request within its limit (`core/bodylimit`).

An announced size is refused before anything is read: a client that sent `Expect: 100-continue`
(curl, for 1 MiB and more) sends nothing then. Who refuses ends the connection; how the refusal
reaches a client that still sends is in `protocol.py`.
"""

from collections.abc import AsyncIterator

from app.core.bodylimit import BodyLimit
from app.core.errors import BadInputError
from app.web.responses import Header
from app.web.streaming import Receive


def declared_bytes(headers: list[Header]) -> int | None:
    """Return the size that a request announces for its body; None where it announces none."""
    for name, value in headers:
        if name == b"content-length" and value.isdigit():
            return int(value[:18])
    return None


async def pieces_of(receive: Receive, limit: BodyLimit) -> AsyncIterator[bytes]:
    """Yield the pieces of a body as they come.

    Raises:
        TooLargeError: the body is longer than its limit.
        BadInputError: the client went away before the end.
    """
    size_bytes = 0
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise BadInputError(f"{limit.what} broke off")
        piece = message.get("body", b"")
        size_bytes += len(piece)
        limit.check(size_bytes)
        yield piece
        more = message.get("more_body", False)
