"""What was changed by whom, and who downloaded what."""

from datetime import date, datetime

from app.core.audit import AuditRecord
from app.db.usage import Download
from app.web.admin.models.base import Out


class AuditOut(Out):
    """One change of state."""

    seq: int
    at: datetime
    actor: str
    action: str
    object: str
    detail: str


class VerifiedOut(Out):
    """Whether the hash chain holds, and whether it is as long as it once was.

    first_break is the seq of the first row that breaks the chain. problem says that the database
    lacks a row that was written before; "" if it does not.
    """

    rows: int
    intact: bool
    first_break: int | None
    problem: str


class DownloadOut(Out):
    """How often one module version's zip was downloaded on a day (UTC); token "" for nobody's."""

    day: date
    tenant: str
    token: str
    module: str
    version: str
    count: int


def audit_out(record: AuditRecord) -> AuditOut:
    """Return one change for people and programs."""
    return AuditOut(
        seq=record.seq,
        at=record.at,
        actor=record.actor,
        action=record.action,
        object=record.object,
        detail=record.detail,
    )


def download_out(what: Download, count: int) -> DownloadOut:
    """Return one day's count for people and programs."""
    return DownloadOut(
        day=what.day,
        tenant=what.tenant,
        token=what.token,
        module=what.module,
        version=what.version,
        count=count,
    )
