"""The admin API as commands use it: requests, lists, and refusals as errors.

Each command is a request. `Api` sends it through one of two transports: `remote.py` to a server
over the network, `inprocess.py` to the application in this process. What a command prints and its
exit code depend on the answer alone.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol
from urllib.parse import quote

from app.core.errors import (
    BadInputError,
    ConflictError,
    DeniedError,
    KeyringError,
    MoorageError,
    StaleRevisionError,
    UnauthenticatedError,
    UnknownError,
)

_PREFIX = "/api/v1"
_PIECE_BYTES = 1024 * 1024  # of a file that is sent
_PAGE = 200  # items of a page, as many as the API gives at once
_ERRORS: dict[int, type[MoorageError]] = {
    400: BadInputError,
    401: UnauthenticatedError,
    403: DeniedError,
    404: UnknownError,
    409: ConflictError,
    412: StaleRevisionError,
    422: KeyringError,
}
# What pydantic says that people at a terminal would not.
_PLAIN = {"Extra inputs are not permitted": "there is no such key"}


class WrongFieldsError(BadInputError):
    """The request has fields that can't be; the message is one line that names all of them.

    Attributes:
        fields: place and fault of each: ("document.rules.2.effect", "Input should be …").
    """

    def __init__(self, fields: list[tuple[str, str]]) -> None:
        super().__init__("; ".join(f"{_indexed(at)}: {_PLAIN.get(e, e)}" for at, e in fields))
        self.fields = fields

    def below(self, name: str) -> "WrongFieldsError":
        """Return the same error, with places relative to one part of the body."""
        return WrongFieldsError([(at.removeprefix(f"{name}."), e) for at, e in self.fields])


class Transport(Protocol):
    """Sends one request."""

    @property
    def is_remote(self) -> bool:
        """Whether another process answers."""

    def send(self, method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        """Return status and body of the answer.

        Args:
            method: "GET", "POST", "PUT", "PATCH" or "DELETE".
            path: with its query, percent-encoded.
            body: JSON; None sends no body.
        """

    def upload(self, path: str, upload: "FileUpload") -> tuple[int, bytes]:
        """Send a file by PUT; return status and body of the answer."""


@dataclass(frozen=True, slots=True)
class FileUpload:
    """A file that becomes the body of a request.

    Attributes:
        file: at its beginning.
        size_bytes: how many bytes are sent.
        headers: further headers.
        report: is called with the number of bytes that were sent so far.
    """

    file: BinaryIO
    size_bytes: int
    headers: Mapping[str, str]
    report: Callable[[int], None]

    def pieces(self) -> Iterator[bytes]:
        """Yield the file in pieces, and report each."""
        sent = 0
        while piece := self.file.read(min(_PIECE_BYTES, self.size_bytes - sent)):
            yield piece
            sent += len(piece)
            self.report(sent)


def error_of(status: int, line: str) -> MoorageError:
    """Return the error that a status of a Go-facing route stands for, with its line."""
    return _ERRORS.get(status, MoorageError)(line or f"the server answered {status}")


class Api:
    """The admin API, asked through one transport."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """Return the JSON that a request is answered with; None for 204.

        Args:
            method: as in `Transport.send`.
            path: below /api/v1, made by `path_of`.
            body: becomes JSON; None sends no body.

        Raises:
            MoorageError: the class that the status stands for, with the words of the answer.
        """
        status, answer = self._send(method, path, body)
        if status == 204:
            return None
        value = _parsed(status, answer)
        if status >= 400:
            raise self._error(status, value)
        return value

    def upload(self, path: str, upload: FileUpload) -> Any:
        """Return the JSON that a PUT of a file is answered with.

        Raises:
            MoorageError: as `ask`.
        """
        status, answer = self._transport.upload(_PREFIX + path, upload)
        value = _parsed(status, answer)
        if status >= 400:
            raise self._error(status, value)
        return value

    def text(self, path: str) -> str:
        """Return the text that a GET is answered with.

        Raises:
            MoorageError: as `ask`.
        """
        status, answer = self._send("GET", path, None)
        if status >= 400:
            raise self._error(status, _parsed(status, answer))
        return answer.decode()

    def list(self, path: str, *, cursor: str | None = None, most: int | None = None) -> list[Any]:
        """Return the items of all pages of a list.

        Args:
            path: below /api/v1; it may have a query.
            cursor: where to begin; None for the first page.
            most: how many items at most; None for all.

        Raises:
            MoorageError: as `ask`.
        """
        items: list[Any] = []
        mark = "&" if "?" in path else "?"
        while True:
            more = f"&cursor={quote(cursor, safe='')}" if cursor else ""
            page = self.ask("GET", f"{path}{mark}limit={_PAGE}{more}")
            items += page["items"]
            cursor = page["next_cursor"]
            if cursor is None or (most is not None and len(items) >= most):
                return items[:most]

    def _send(self, method: str, path: str, body: object) -> tuple[int, bytes]:
        raw = None if body is None else json.dumps(body).encode()
        return self._transport.send(method, _PREFIX + path, raw)

    def _error(self, status: int, problem: Any) -> MoorageError:
        """Return the error that a problem (RFC 9457) stands for."""
        fields = problem.get("errors") if isinstance(problem, dict) else None
        if fields:
            return WrongFieldsError([(e["at"].removeprefix("body."), e["error"]) for e in fields])
        detail = str(problem.get("detail", status) if isinstance(problem, dict) else status)
        if status >= 500 and self._transport.is_remote:
            detail = f"the server says: {detail}"
        if status == 401:
            detail += "; set MOORAGE_TOKEN or MOORAGE_TOKEN_FILE (`moorage token create` makes one)"
        return _ERRORS.get(status, MoorageError)(detail)


def path_of(*parts: object) -> str:
    """Return a path whose parts are quoted: ("tenants", "a b") gives "/tenants/a%20b"."""
    return "".join("/" + quote(str(part), safe="") for part in parts)


def _parsed(status: int, answer: bytes) -> Any:
    try:
        return json.loads(answer)
    except ValueError as error:
        if status in (414, 431):  # refused before any routing, in one line of text
            raise BadInputError(answer.decode("utf-8", "replace").strip()) from error
        raise MoorageError(
            f"the server answered {status} and something that is not JSON; "
            "is --server the address of a Moorage?"
        ) from error


def _indexed(at: str) -> str:
    """Return a place as people write it: "rules.2.effect" becomes "rules[2].effect"."""
    return re.sub(r"\.(\d+)(?=\.|$)", r"[\1]", at)
