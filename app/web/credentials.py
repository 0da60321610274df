"""Reading the token out of a request: Bearer, `token` (as setup-go sends it), or Basic's password.

A token in the query is never looked at: URLs end up in logs.
"""

import base64
import binascii

from app.core.errors import BadInputError, UnauthenticatedError

_MAX_BYTES = 4096


def presented_token(headers: list[tuple[bytes, bytes]]) -> str | None:
    """Return the token of a request, or None if none was presented.

    Args:
        headers: as in the ASGI scope, with lower-case names.

    Raises:
        BadInputError: more than one Authorization header.
        UnauthenticatedError: the header can't be read.
    """
    values = [value for name, value in headers if name == b"authorization"]
    if not values:
        return None
    if len(values) > 1:
        raise BadInputError("more than one Authorization header")
    return _token(values[0])


def _token(value: bytes) -> str:
    if len(value) > _MAX_BYTES or not value.isascii():
        raise UnauthenticatedError("the Authorization header can't be read")
    scheme, _, rest = value.decode("ascii").partition(" ")
    if scheme.lower() in {"bearer", "token"}:
        return rest.strip()
    if scheme.lower() == "basic":
        return _password(rest.strip())
    raise UnauthenticatedError("use `Authorization: Bearer <token>`")


def _password(encoded: str) -> str:
    try:
        decoded = base64.b64decode(encoded, validate=True).decode("ascii")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise UnauthenticatedError("the Basic credentials can't be read") from error
    _, colon, password = decoded.partition(":")
    if not colon:
        raise UnauthenticatedError("the Basic credentials can't be read")
    return password
