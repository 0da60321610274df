"""One document for tenants, rules, routes and owned prefixes, and what applying it changes."""

from typing import Any

from pydantic import StrictBool

from app.services.tenants.plan import Document as DocumentIn
from app.services.tenants.snapshot import Change
from app.web.admin.models.base import In, Out

__all__ = ["AppliedOut", "ApplyIn", "DocumentIn", "change_out"]


class ApplyIn(In):
    """A document to apply.

    dry_run: change nothing, and tell what would be.
    prune: remove the tenants that the document does not name.
    """

    document: DocumentIn
    dry_run: StrictBool = False
    prune: StrictBool = False


class ChangeOut(Out):
    """One object that differs: action is "create", "update" or "remove"."""

    action: str
    object: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


class AppliedOut(Out):
    """What was changed, or would be."""

    dry_run: bool
    changes: list[ChangeOut]


def change_out(change: Change) -> ChangeOut:
    """Return one change for people and programs."""
    return ChangeOut(
        action=change.action,
        object=change.object,
        before=None if change.before is None else dict(change.before),
        after=None if change.after is None else dict(change.after),
    )
