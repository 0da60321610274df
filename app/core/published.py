"""Modules that a company publishes here: versions with bytes of their own, and no upstream.

A route names them by the upstream `PUBLISHED`. Whose they are is said by the owned prefix that they
are below (`core/acl.py`).
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from json import dumps
from typing import Final

PUBLISHED: Final = "published:"
"""The URL of an upstream that stands for what was published here."""


def is_published(url: str) -> bool:
    """Whether an upstream's URL stands for what was published here."""
    return url == PUBLISHED


class PublishedState(StrEnum):
    """What is answered about a published version."""

    OFFERED = "offered"
    RETIRED = "retired"  # out of lists and @latest; its files are served
    GONE = "gone"  # 410 for everything; its bytes are removed


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedVersion:
    """A version that was published.

    Attributes:
        tenant: whose token published it.
        publisher: the actor, as audit rows name it: "token:1f2e3d4c".
        sha256: of the zip, hex.
        h1: of the zip's files, as in go.sum.
        reason: why it was retired; "" while it is offered.
        changed_at: when its state changed last, UTC.
    """

    module: str
    version: str
    tenant: str
    publisher: str
    published_at: datetime
    sha256: str
    size_bytes: int
    h1: str
    state: PublishedState = PublishedState.OFFERED
    reason: str = ""
    changed_at: datetime

    @property
    def name(self) -> str:
        """The name for messages: "corp.example/x@v1.0.0"."""
        return f"{self.module}@{self.version}"


def info_of(version: str, at: datetime) -> bytes:
    """Return the .info of a version that was published at a moment (UTC; whole seconds count)."""
    time = at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return dumps({"Version": version, "Time": time}, separators=(",", ":")).encode()
