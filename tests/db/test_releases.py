"""Rows of release files: what an index says first, how an ingestion ends, and what is evidence."""

from dataclasses import replace

import pytest
from sqlalchemy.exc import IntegrityError

from app.core.digest import Digest
from app.core.gorelease import ReleaseFile, ReleaseFileKind
from app.core.logstate import LogState
from app.core.releasefile import (
    FileRecord,
    FileState,
    IndexConflict,
    RecordedVerdict,
    ToolchainIdentity,
)
from app.db.blobs import Blobs
from app.db.engine import Session
from app.db.releaseindex import IndexLog
from app.db.releases import IngestionOutcome, ReleaseTable, with_lease
from tests.db.moments import T0, blob, later

pytestmark = pytest.mark.both_shapes

NAME = "go1.99.1.linux-amd64.tar.gz"
CONTENT = b"an archive"
FILE = ReleaseFile(
    NAME, "linux", "amd64", "go1.99.1", Digest.of(CONTENT), len(CONTENT), ReleaseFileKind.ARCHIVE
)
VERDICT = RecordedVerdict(
    True, "good", "good signature", "a" * 40, "b" * 40, T0, Digest.of(b"keys"), "2.2.40", T0
)
TOOLCHAIN = ToolchainIdentity("v0.0.1-go1.99.1.linux-amd64", "h1:a", None)


@pytest.fixture
def index(session: Session) -> Digest:
    document = blob(session, b"an index")
    IndexLog(session).accepted(document, "https://go.dev/dl/", T0)
    return document


@pytest.fixture
def table(session: Session, index: Digest) -> ReleaseTable:
    made = ReleaseTable(session)
    made.add(FILE, stable=True, index=index, at=T0)
    session.flush()
    return made


def record(table: ReleaseTable) -> FileRecord:
    made = table.get(NAME)
    assert made is not None
    assert [made] == [each for each in table.all() if each.file.filename == NAME]
    return made


def test_a_file_that_an_index_names_is_known_and_listed(table: ReleaseTable, index: Digest) -> None:
    made = record(table)
    assert (made.file, made.stable, made.listed, made.index) == (FILE, True, True, index)
    assert (made.state, made.reason, made.has_bytes) == (FileState.KNOWN, "", False)
    assert (made.damaged, made.verdict, made.toolchain) == (False, None, None)
    assert table.get("go9.tar.gz") is None


def test_a_name_is_recorded_once(session: Session, table: ReleaseTable, index: Digest) -> None:
    table.add(replace(FILE, sha256=Digest.of(b"other")), stable=True, index=index, at=T0)
    with pytest.raises(IntegrityError):
        session.flush()


def test_a_file_names_an_index_that_is_recorded(session: Session) -> None:
    ReleaseTable(session).add(FILE, stable=True, index=Digest.of(b"no index"), at=T0)
    with pytest.raises(IntegrityError):
        session.flush()


def test_a_hash_is_filled_in_until_the_bytes_are_here(
    session: Session, table: ReleaseTable
) -> None:
    newer = blob(session, b"a newer index")
    IndexLog(session).accepted(newer, "https://go.dev/dl/", later(hours=1))
    table.complete(replace(FILE, sha256=None, size_bytes=0), newer)
    assert record(table).file == FILE
    other = replace(FILE, sha256=blob(session, b"other"), size_bytes=5)
    table.complete(other, newer)
    assert (record(table).file, record(table).index) == (other, newer)
    table.settle(NAME, IngestionOutcome(FileState.VERIFIED, "", T0, stored=True))
    table.complete(FILE, newer)
    assert record(table).file == other


def test_an_outcome_adds_to_what_is_recorded_and_takes_nothing_away(
    session: Session, table: ReleaseTable
) -> None:
    blob(session, CONTENT)
    pending = IngestionOutcome(
        FileState.PENDING_SIGNATURE, "no signature yet", T0, stored=True, source_url="https://a/"
    )
    table.settle(NAME, pending)
    made = record(table)
    assert (made.state, made.reason, made.has_bytes) == (pending.state, pending.reason, True)
    assert (made.ingested_at, made.source_url, made.signature) == (T0, "https://a/", None)
    table.settle(
        NAME,
        IngestionOutcome(
            FileState.VERIFIED,
            "",
            later(hours=1),
            signature=b"asc",
            verdict=VERDICT,
            toolchain=TOOLCHAIN,
        ),
    )
    made = record(table)
    assert (made.state, made.reason, made.has_bytes) == (FileState.VERIFIED, "", True)
    assert (made.ingested_at, made.source_url, made.signature) == (T0, "https://a/", b"asc")
    assert (made.verdict, made.toolchain) == (VERDICT, TOOLCHAIN)
    healed = IngestionOutcome(FileState.VERIFIED, "", later(hours=2), stored=True)
    table.settle(NAME, healed)
    assert record(table).ingested_at == T0


def test_the_newest_verdict_counts(table: ReleaseTable) -> None:
    refused = replace(VERDICT, accepted=False, reason="expired", judged_at=later(hours=-5))
    for verdict in (VERDICT, refused):
        table.settle(NAME, IngestionOutcome(FileState.QUARANTINED, "", T0, verdict=verdict))
    assert record(table).verdict == refused


def test_no_row_names_bytes_that_are_not_recorded(session: Session, table: ReleaseTable) -> None:
    with pytest.raises(IntegrityError):
        table.settle(NAME, IngestionOutcome(FileState.VERIFIED, "", T0, stored=True))


def test_an_outcome_of_an_unknown_file_is_a_defect(table: ReleaseTable) -> None:
    with pytest.raises(LookupError):
        table.settle("go9.tar.gz", IngestionOutcome(FileState.VERIFIED, "", T0))


def test_damage_and_names_are_those_of_the_blob(session: Session, table: ReleaseTable) -> None:
    digest = blob(session, CONTENT)
    assert table.names_of(digest) == []
    table.settle(NAME, IngestionOutcome(FileState.VERIFIED, "", T0, stored=True))
    assert table.names_of(digest) == [NAME]
    Blobs(session).mark_damaged(digest)
    assert record(table).damaged


def test_what_was_refused_is_quarantined_and_what_vanished_is_still_served(
    session: Session, table: ReleaseTable
) -> None:
    blob(session, CONTENT)
    table.settle(NAME, IngestionOutcome(FileState.VERIFIED, "", T0, stored=True))
    table.set_listed(NAME, listed=False)
    assert (record(table).listed, record(table).served) == (False, True)
    table.refuse(NAME, "another hash")
    assert (record(table).state, record(table).reason) == (FileState.QUARANTINED, "another hash")
    table.refuse("go9.tar.gz", "x")
    table.set_listed("go9.tar.gz", listed=True)
    table.set_toolchain_log("go9.tar.gz", LogState.VERIFIED)


def test_what_the_log_says_of_a_toolchain_is_recorded_with_it(table: ReleaseTable) -> None:
    table.settle(NAME, IngestionOutcome(FileState.KNOWN, "", T0, toolchain=TOOLCHAIN))
    table.set_toolchain_log(NAME, LogState.VERIFIED)
    assert record(table).toolchain == replace(TOOLCHAIN, log=LogState.VERIFIED)


def test_toolchains_that_the_log_was_not_asked_about_come_by_filename(
    session: Session, index: Digest
) -> None:
    table = ReleaseTable(session)
    blob(session, CONTENT)
    served = IngestionOutcome(FileState.VERIFIED, "", T0, stored=True, toolchain=TOOLCHAIN)
    outcomes = {
        "c": replace(served, state=FileState.SHA256_ONLY),
        "a": replace(served, verdict=replace(VERDICT, accepted=False)),
        "b": served,
        "known": None,
        "no toolchain": replace(served, toolchain=None),
        "quarantined": replace(served, state=FileState.QUARANTINED),
        "verified": served,
    }
    for name, outcome in outcomes.items():
        table.add(replace(FILE, filename=name), stable=True, index=index, at=T0)
        session.flush()
        if outcome is not None:
            table.settle(name, outcome)
    table.settle("a", replace(served, verdict=VERDICT))
    table.set_toolchain_log("verified", LogState.VERIFIED)

    due = table.without_log(after="", limit=9)
    assert [each.file.filename for each in due] == ["a", "b", "c"]
    assert due == [table.get("a"), table.get("b"), table.get("c")]
    assert table.without_log(after="a", limit=1) == [table.get("b")]
    assert table.without_log(after="c", limit=9) == []


@pytest.mark.parametrize("state", FileState)
def test_only_a_file_that_is_not_served_is_being_fetched(
    table: ReleaseTable, state: FileState
) -> None:
    table.settle(NAME, IngestionOutcome(state, "", T0))
    made = record(table)
    assert with_lease(made, leased=False) == made
    leased = with_lease(made, leased=True)
    assert leased.state is (state if made.served else FileState.FETCHING)


def test_the_accepted_index_stays_when_a_later_reading_fails(session: Session) -> None:
    log, document = IndexLog(session), blob(session, b"an index")
    assert log.status().document is None
    log.failed("down", T0)
    assert (log.status().error, log.status().read_at, log.status().tried_at) == ("down", None, T0)
    for hours in (1, 2):
        log.accepted(document, "https://go.dev/dl/", later(hours=hours))
    log.failed("down again", later(hours=3))
    status = log.status()
    assert (status.document, status.error) == (document, "down again")
    assert (status.read_at, status.tried_at) == (later(hours=2), later(hours=3))
    assert log.is_document(document)
    assert not log.is_document(Digest.of(b"other"))


def test_an_index_that_contradicts_the_record_is_evidence_once(
    session: Session, index: Digest
) -> None:
    log = IndexLog(session)
    conflict = IndexConflict(NAME, "a" * 64, 10, "b" * 64, 10, index, T0)
    assert log.add_conflict(conflict)
    assert not log.add_conflict(replace(conflict, seen_at=later(hours=1)))
    assert log.add_conflict(replace(conflict, seen_size_bytes=11))
    assert log.add_conflict(replace(conflict, filename="other"))
    assert [each.seen_size_bytes for each in log.conflicts(NAME)] == [10, 11]
    assert len(log.conflicts()) == 3
    assert log.conflicts("unknown") == []
