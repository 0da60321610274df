"""Checksum databases: a tenant's own log, the relayed ones, and evidence."""

import base64
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

from pydantic import Field, StrictBool

from app.core import tlog
from app.core.proof import format_proof
from app.core.record import parse_lookup
from app.db.sumdb import LogEvidence
from app.db.tenantlogs import TenantLog
from app.services.sumdb.fsck import LogReport
from app.services.sumdb.prefetch import MAX_VERSIONS, PrefetchOutcome, PrefetchResult
from app.services.sumdb.status import OwnLogs, RelayedLog, tree_of
from app.services.tenantlog.log import Proof
from app.web.admin.models.base import In, Out

_MAX_GO_SUM_CHARS = 8 * 1024 * 1024  # the body's limit is lower unless it was raised


class RetiredLogOut(Out):
    """A log that answers, and takes no more records."""

    name: str
    vkey: str
    size: int
    created_at: datetime


class TenantLogOut(Out):
    """A tenant's own log.

    vkey: what GOSUMDB takes.
    size: how many records it has.
    root: of the tree of that size, base64.
    head: the signed note, verbatim.
    """

    tenant: str
    name: str
    vkey: str
    size: int
    root: str
    head: str
    created_at: datetime
    retired: list[RetiredLogOut]


class ProofOut(Out):
    """That a version's record is in the tenant's log.

    number: the record's.
    size: of the tree that the proof leads to.
    lookup: what a lookup answers: the record, and the signed head.
    hashes: the proof of RFC 6962 from the leaf up, base64.
    text: all of it as one text, which `moorage sumdb check` takes.
    """

    log: str
    vkey: str
    module: str
    version: str
    number: int
    size: int
    lookup: str
    hashes: list[str]
    text: str


class LogReportOut(Out):
    """What checking a log found: a line for each thing that is wrong."""

    log: str
    records: int
    intact: bool
    findings: list[str]


class RecoverIn(In):
    """How a log goes on after an older database was restored.

    accept: with the database's records under the same name; false starts another log.
    """

    accept: StrictBool


class PrefetchIn(In):
    """What clients shall be able to verify while no log can be reached.

    go_sum: the text of a go.sum; what it says is compared with the records.
    modules: "<module>@<version>" each.
    toolchains: those of all mirrored release archives.
    """

    go_sum: Annotated[str, Field(max_length=_MAX_GO_SUM_CHARS)] = ""
    modules: Annotated[
        tuple[Annotated[str, Field(max_length=2500)], ...], Field(max_length=MAX_VERSIONS)
    ] = ()
    toolchains: StrictBool = False


class PrefetchedOut(Out):
    """How it went with one version; outcome is "ok", "skipped" or "failed"."""

    name: str
    outcome: str
    detail: str


class PrefetchOut(Out):
    """How it went with every version."""

    ok: int
    skipped: int
    failed: int
    items: list[PrefetchedOut]


class RelayedLogOut(Out):
    """A public log that is relayed; size, root and seen_at are null before the first answer.

    seen_at: when a head of that size was first seen.
    evidence: how many of its answers were refused and kept.
    """

    name: str
    url: str
    vkey: str
    size: int | None
    root: str | None
    seen_at: datetime | None
    evidence: int


class EvidenceOut(Out):
    """An answer of a log that was refused.

    known: the newest signed head at that time, "" if none was; of a fork, one of the two.
    refused: what came: a signed head, a whole lookup, or the path of a tile.
    known_base64, refused_base64: the bytes exactly, where the texts have escapes.
    """

    log: str
    seen_at: datetime
    detail: str
    known: str
    refused: str
    known_base64: str
    refused_base64: str


def tenant_log_out(tenant: str, logs: OwnLogs) -> TenantLogOut:
    """Return a tenant's logs for people and programs."""
    log = logs.log
    return TenantLogOut(
        tenant=tenant,
        name=log.name,
        vkey=log.vkey,
        size=log.size,
        root=tlog.hash_text(tree_of(log.head).root),
        head=_text(log.head),
        created_at=log.created_at,
        retired=[_retired(one) for one in logs.retired],
    )


def _retired(log: TenantLog) -> RetiredLogOut:
    return RetiredLogOut(name=log.name, vkey=log.vkey, size=log.size, created_at=log.created_at)


def proof_out(proof: Proof, module: str, version: str) -> ProofOut:
    """Return a proof for people and programs."""
    lookup = parse_lookup(proof.lookup)
    return ProofOut(
        log=proof.log,
        vkey=proof.vkey,
        module=module,
        version=version,
        number=lookup.number,
        size=tree_of(lookup.note).size,
        lookup=_text(proof.lookup),
        hashes=[tlog.hash_text(one) for one in proof.hashes],
        text=_text(format_proof(proof.hashes, proof.lookup)),
    )


def report_out(report: LogReport) -> LogReportOut:
    """Return what checking found, for people and programs."""
    findings = list(report.findings)
    return LogReportOut(
        log=report.log, records=report.records, intact=not findings, findings=findings
    )


def prefetch_out(results: Sequence[PrefetchResult]) -> PrefetchOut:
    """Return how prefetching went, for people and programs."""
    counted = {outcome: sum(r.outcome is outcome for r in results) for outcome in PrefetchOutcome}
    return PrefetchOut(
        ok=counted[PrefetchOutcome.OK],
        skipped=counted[PrefetchOutcome.SKIPPED],
        failed=counted[PrefetchOutcome.FAILED],
        items=[PrefetchedOut(name=r.name, outcome=r.outcome, detail=r.detail) for r in results],
    )


def relayed_out(log: RelayedLog) -> RelayedLogOut:
    """Return a relayed log for people and programs."""
    head = log.head
    return RelayedLogOut(
        name=log.name,
        url=log.url,
        vkey=log.vkey,
        size=None if head is None else head.size,
        root=None if head is None else tlog.hash_text(tree_of(head.note).root),
        seen_at=None if head is None else head.seen_at,
        evidence=log.evidence,
    )


def evidence_out(one: LogEvidence) -> EvidenceOut:
    """Return evidence for people and programs."""
    return EvidenceOut(
        log=one.log,
        seen_at=one.seen_at,
        detail=one.detail,
        known=_text(one.older),
        refused=_text(one.newer),
        known_base64=base64.b64encode(one.older).decode(),
        refused_base64=base64.b64encode(one.newer).decode(),
    )


def _text(raw: bytes) -> str:
    return raw.decode(errors="backslashreplace")
