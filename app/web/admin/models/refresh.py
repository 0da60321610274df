"""Asking upstream anew."""

from typing import Annotated

from pydantic import Field

from app.services.modules.refresh import Comparison
from app.web.admin.models.base import In, Out


class RefreshIn(In):
    """What is to be asked anew.

    version: compare its stored files with what upstream sends today; null forgets the module's
        list, @latest and queries.
    """

    module: Annotated[str, Field(max_length=2000)]
    version: Annotated[str, Field(max_length=500)] | None = None


class ComparisonOut(Out):
    """A stored file; outcome is "same", "changed" (a .info), or "gone"."""

    kind: str
    outcome: str
    sha256: str
    h1: str


class RefreshOut(Out):
    """What was done; files is empty where answers were forgotten."""

    module: str
    version: str | None
    files: list[ComparisonOut]


def compared_out(compared: Comparison) -> ComparisonOut:
    """Return one compared file for people and programs."""
    file = compared.file
    return ComparisonOut(
        kind=file.kind, outcome=compared.outcome, sha256=file.sha256.hex, h1=file.h1
    )
