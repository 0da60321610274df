"""A document to apply, and what applying it changes."""

from pydantic import StrictBool

from app.services.tenants.plan import Document
from app.services.tenants.snapshot import Change
from app.web.admin.models.base import In, Out


class ApplyIn(In):
    """A document to apply.

    dry_run: change nothing, and tell what would be.
    prune: remove the tenants that the document does not name.
    """

    document: Document
    dry_run: StrictBool = False
    prune: StrictBool = False


class AppliedOut(Out):
    """What was changed, or would be."""

    dry_run: bool
    changes: list[Change]
