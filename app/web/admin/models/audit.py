"""What was changed by whom, who downloaded what, and what was denied."""

from datetime import date, datetime

from app.db.denials import Denial, DenialCount
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


class DenialOut(Out):
    """How often requests of a tenant were refused on a day (UTC).

    token: "" for nobody's, or for one that is not valid for the tenant.
    module: "" where the caller may not use the tenant at all; "(others)" for what came after the
        thousand rows of a tenant and day.
    rule: what decided: "rule 7", "default", "token", "route", "private name", …
    last_request: the id of the last such request, as log lines have it.
    """

    day: date
    tenant: str
    token: str
    module: str
    rule: str
    count: int
    last_at: datetime
    last_request: str


def download_out(what: Download, count: int) -> DownloadOut:
    """Return one day's count for people and programs."""
    return DownloadOut.of(what, count=count)


def denial_out(day: date, denial: Denial, count: DenialCount) -> DenialOut:
    """Return one day's count of refusals for people and programs."""
    return DenialOut.of(
        denial,
        day=day,
        count=count.count,
        last_at=count.last_at,
        last_request=count.last_request,
    )
