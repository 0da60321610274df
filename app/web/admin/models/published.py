"""Published versions."""

from datetime import datetime
from typing import Annotated

from pydantic import Field

from app.core.published import PublishedVersion
from app.web.admin.models.base import In, Out


class RetireIn(In):
    """Which version is retired, and why; gone: for good, with its bytes."""

    module: Annotated[str, Field(max_length=2000)]
    version: Annotated[str, Field(max_length=500)]
    reason: Annotated[str, Field(max_length=300)] = ""
    gone: bool = False


class PublishedOut(Out):
    """A published version; state is "offered", "retired" or "gone"."""

    module: str
    version: str
    publisher: str
    published_at: datetime
    size_bytes: int
    sha256: str
    h1: str
    state: str
    reason: str
    changed_at: datetime


def published_out(published: PublishedVersion) -> PublishedOut:
    """Return one published version for people and programs."""
    values = {name: getattr(published, name) for name in PublishedOut.model_fields}
    return PublishedOut.model_validate(values)
