"""Prefixes of module paths that belong to one tenant."""

from datetime import datetime
from typing import Annotated

from pydantic import Field

from app.db.rules import RecordedOwnership
from app.web.admin.models.base import In, Out

_Name = Annotated[str, Field(max_length=63)]


class OwnershipIn(In):
    """Whose a prefix is, and who else may use it."""

    tenant: _Name
    granted: Annotated[tuple[_Name, ...], Field(max_length=1000)] = ()


class OwnershipOut(Out):
    """One owned prefix; revision is what its ETag says."""

    prefix: str
    tenant: str
    granted: list[str]
    revision: int
    created_at: datetime


def ownership_out(recorded: RecordedOwnership) -> OwnershipOut:
    """Return one owned prefix for people and programs."""
    ownership = recorded.ownership
    return OwnershipOut(
        prefix=ownership.prefix,
        tenant=ownership.tenant,
        granted=sorted(ownership.granted),
        revision=recorded.revision,
        created_at=recorded.created_at,
    )
