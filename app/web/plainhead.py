"""What the headers of a plain GET say, worked out once: a client repeats them with each request."""

from dataclasses import dataclass

from app.web.answerkey import KeyTail, key_tail
from app.web.guard import Guard
from app.web.responses import Header, is_conditional
from app.web.tenancy import Gateways


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainHead:
    """The headers of a plain GET, and what follows from them for answers from memory.

    Attributes:
        headers: with lower-case names.
        client: the address that asks, behind the gateways.
        key_tail: for the key of a tenant's answer; None where a header changes the answer.
        is_conditional: a header makes the answer a 304 or a part.
    """

    headers: list[Header]
    client: str
    key_tail: KeyTail | None
    is_conditional: bool


def plain_head(
    headers: list[Header], peer: str, guard: Guard, gateways: Gateways
) -> PlainHead | None:
    """Return what the headers of a plain GET say, or None where the guard refuses them.

    Args:
        headers: of the request, with lower-case names.
        peer: the address that the connection came from, "" if unknown.
        guard: knows how large they may be.
        gateways: whose headers are believed.
    """
    if guard.refuses_headers(headers) is not None:
        return None
    return PlainHead(
        headers=headers,
        client=gateways.client_behind(peer, headers),
        key_tail=key_tail(headers, is_plain_only=True),
        is_conditional=is_conditional(headers),
    )
