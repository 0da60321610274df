"""A server's admin API as commands use it: requests, answers, and refusals as errors."""

import asyncio
import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from app.core.errors import (
    BadInputError,
    ConflictError,
    DeniedError,
    KeyringError,
    MoorageError,
    SettingsError,
    StaleRevisionError,
    UnauthenticatedError,
    UnknownError,
)

_ANSWER_MAX_BYTES = 64 * 1024 * 1024
# What pydantic says that people at a terminal would not.
_PLAIN = {"Extra inputs are not permitted": "there is no such key"}
_DEADLINE_S = 1200.0  # an ingestion may take a quarter of an hour


@dataclass(frozen=True, slots=True)
class Server:
    """A server's admin API."""

    url: str
    token: str | None

    def call(self, method: str, path: str, body: object = None) -> Any:
        """Return the JSON that the server answers.

        Raises:
            MoorageError: the class that the status stands for, with the server's words.
        """
        status, answer = asyncio.run(self._call(method, path, body))
        return _result(status, answer)

    def text(self, path: str) -> str:
        """Return the text that the server answers.

        Raises:
            MoorageError: the class that the status stands for, with the server's words.
        """
        status, answer = asyncio.run(self._call("GET", path, None))
        return answer.decode() if status < 400 else str(_result(status, answer))

    async def _call(self, method: str, path: str, body: object) -> tuple[int, bytes]:
        from app import __version__
        from app.upstream.address import AddressGuard, AllowedNetwork, Credential, Url
        from app.upstream.http import HttpClient
        from app.upstream.limits import UpstreamLimits

        # The address was given by the person at the keyboard: nothing needs to be guarded.
        anywhere = [AllowedNetwork.parse("0.0.0.0/0"), AllowedNetwork.parse("::/0")]
        client = HttpClient(
            guard=AddressGuard(anywhere),
            user_agent=f"moorage/{__version__}",
            random=Random(),  # noqa: S311 (jitter)
            limits=UpstreamLimits(read_s=_DEADLINE_S),
        )
        credential = None
        if self.token:
            credential = Credential.bearer("cli", Url.parse(self.url).origin, self.token)
        try:
            fetched, answer = await client.send(
                method,
                self.url.rstrip("/") + path,
                json_body=body,
                max_bytes=_ANSWER_MAX_BYTES,
                deadline_s=_DEADLINE_S,
                credential=credential,
            )
        finally:
            await client.aclose()
        return fetched.status, answer


def _result(status: int, answer: bytes) -> Any:
    if status == 204:
        return None
    try:
        data = json.loads(answer)
    except ValueError as error:
        raise MoorageError(
            f"the server answered {status} and something that is not JSON; "
            "is --server the address of a Moorage?"
        ) from error
    if status < 400:
        return data
    told = data.get("detail", status) if isinstance(data, dict) else status
    if isinstance(data, dict) and data.get("errors"):
        wrong = ((e["at"].removeprefix("body."), e["error"]) for e in data["errors"])
        raise BadInputError(wrong_fields(wrong))
    detail = f"the server says: {told}" if status >= 500 else str(told)
    if status == 401:
        detail += "; set MOORAGE_TOKEN or MOORAGE_TOKEN_FILE (`moorage token create` makes one)"
    raise _error_of(status)(detail)


def _error_of(status: int) -> type[MoorageError]:
    classes: dict[int, type[MoorageError]] = {
        400: BadInputError,
        401: UnauthenticatedError,
        403: DeniedError,
        404: UnknownError,
        409: ConflictError,
        412: StaleRevisionError,
        422: KeyringError,
    }
    return classes.get(status, MoorageError)


def server(url: str) -> Server:
    """Return the server at url, with the token of the environment.

    Raises:
        SettingsError: the token file can't be read, or the URL is none.
    """
    if not url.startswith(("http://", "https://")):
        raise SettingsError(f"--server {url}: must begin with http:// or https://")
    token = os.environ.get("MOORAGE_TOKEN") or None
    path = os.environ.get("MOORAGE_TOKEN_FILE")
    if token is None and path is not None:
        try:
            token = Path(path).read_text().strip()
        except OSError as error:
            raise SettingsError(f"MOORAGE_TOKEN_FILE: {path}: {error.strerror}") from error
    return Server(url, token)


def wrong_fields(errors: Iterable[tuple[str, str]]) -> str:
    """Return one line of (where, what is wrong): "rules[2].effect: Input should be …; title: …"."""
    return "; ".join(f"{_placed(at)}: {_PLAIN.get(told, told)}" for at, told in errors)


def _placed(at: str) -> str:
    return re.sub(r"\.(\d+)(?=\.|$)", r"[\1]", at)
