"""Rows of stored modules: each belongs to one origin, and the first content stays."""

from dataclasses import replace

import pytest
from sqlalchemy.exc import IntegrityError

from app.core.digest import Digest
from app.core.goproxy import RequestKind
from app.core.logstate import LogState
from app.db.blobs import Blobs
from app.db.engine import Session
from app.db.moduleanswers import ModuleAnswer, ModuleAnswerTable
from app.db.moduleconflicts import ModuleConflict, ModuleConflictTable
from app.db.modules import ModuleFile, ModuleTable
from app.db.origins import OriginTable
from tests.db.moments import T0, blob, later

pytestmark = pytest.mark.both_shapes

NAME, V = "example.com/x", "v1.0.0"


@pytest.fixture
def one(session: Session) -> int:
    return OriginTable(session).origin("https://one.example")


@pytest.fixture
def two(session: Session) -> int:
    return OriginTable(session).origin("https://two.example")


def info(origin: int, version: str = V) -> ModuleFile:
    body = b'{"Version":"%s"}' % version.encode()
    return ModuleFile(origin, NAME, version, RequestKind.INFO, Digest.of(body), len(body), T0, body)


def archive(session: Session, origin: int, content: bytes = b"zip") -> ModuleFile:
    digest = blob(session, content)
    return ModuleFile(
        origin,
        NAME,
        V,
        RequestKind.ZIP,
        digest,
        len(content),
        T0,
        None,
        "h1:a",
        "h1:b",
        LogState.UNVERIFIED,
    )


def test_a_file_comes_back_as_it_was_recorded_body_and_blob_alike(
    session: Session, one: int
) -> None:
    table, files = ModuleTable(session), [info(one), archive(session, one)]
    for file in files:
        table.add(file)
        assert table.file(one, NAME, V, file.kind) == file
    assert sorted(table.files([one], NAME, V), key=lambda f: f.kind) == files
    assert table.files([one], NAME, V, RequestKind.MOD) == []


def test_one_origins_content_is_no_others(session: Session, one: int, two: int) -> None:
    table = ModuleTable(session)
    table.add(info(one))
    assert table.files([two], NAME, V) == []
    assert table.files([], NAME, V) == []
    assert table.versions([two], NAME) == []
    assert not table.is_known([two], [NAME])
    table.add(info(two))
    assert {file.origin_id for file in table.files([one, two], NAME, V)} == {one, two}
    assert {file.origin_id for file in table.of_version(NAME, V)} == {one, two}
    assert table.versions([one, two], NAME) == [V]


def test_a_file_is_recorded_once(session: Session, one: int) -> None:
    ModuleTable(session).add(info(one))
    with pytest.raises(IntegrityError):
        ModuleTable(session).add(info(one))


def test_a_row_names_no_blob_that_is_not_recorded(session: Session, one: int) -> None:
    unknown = Digest.of(b"never stored")
    with pytest.raises(IntegrityError):
        ModuleTable(session).add(replace(archive(session, one), sha256=unknown))


def test_a_module_belongs_to_an_origin_that_is_recorded(session: Session) -> None:
    with pytest.raises(IntegrityError):
        ModuleTable(session).add(info(4711))


def test_damage_of_a_blob_is_that_of_every_file_that_has_it(
    session: Session, one: int, two: int
) -> None:
    table = ModuleTable(session)
    for origin in (one, two):
        table.add(archive(session, origin))
    table.add(info(one))
    Blobs(session).mark_damaged(Digest.of(b"zip"))
    damaged = {(f.origin_id, f.kind): f.damaged for f in table.files([one, two], NAME, V)}
    assert damaged == {
        (one, RequestKind.ZIP): True,
        (two, RequestKind.ZIP): True,
        (one, RequestKind.INFO): False,
    }
    assert [f.origin_id for f in table.of_blob(Digest.of(b"zip"))] == [one, two]
    assert table.of_blob(Digest.of(b"other")) == []


def test_new_bytes_of_the_same_content_keep_its_h1_and_what_the_log_said(
    session: Session, one: int
) -> None:
    table, old = ModuleTable(session), archive(session, one)
    table.add(old)
    table.set_log_state(old, LogState.VERIFIED)
    new = replace(
        old,
        sha256=blob(session, b"repacked"),
        size_bytes=8,
        stored_at=later(hours=1),
        h1="h1:other",
    )
    table.replace_bytes(new)
    [file] = table.files([one], NAME, V)
    assert file == replace(new, h1="h1:a", log_state=LogState.VERIFIED)


@pytest.mark.parametrize(
    ("states", "changes", "last"),
    [
        ([LogState.UNVERIFIED], [False], LogState.UNVERIFIED),
        ([LogState.VERIFIED, LogState.VERIFIED], [True, False], LogState.VERIFIED),
        ([LogState.REFUSED, LogState.VERIFIED], [True, False], LogState.REFUSED),
    ],
)
def test_what_the_log_refused_once_stays_refused(
    session: Session, one: int, states: list[LogState], changes: list[bool], last: LogState
) -> None:
    table, file = ModuleTable(session), archive(session, one)
    table.add(file)
    assert [table.set_log_state(file, state) for state in states] == changes
    assert [f.log_state for f in table.files([one], NAME, V)] == [last]


def test_files_that_wait_for_the_log_are_pages_by_their_number(session: Session, one: int) -> None:
    table = ModuleTable(session)
    table.add(archive(session, one))
    table.add(info(one))
    for number in range(3):
        table.add(replace(archive(session, one), version=f"v1.{number + 1}.0"))
    pages, after = [], 0
    while page := table.unverified(after, 3):
        pages.append([file.version for _, file in page])
        after = page[-1][0]
    assert pages == [["v1.0.0", "v1.1.0", "v1.2.0"], ["v1.3.0"]]


def test_evidence_of_the_same_content_is_kept_once(session: Session, one: int, two: int) -> None:
    table = ModuleConflictTable(session)
    first = ModuleConflict(
        one, NAME, V, RequestKind.ZIP, "zip=h1:a", seen="zip=h1:x", detail="differs", seen_at=T0
    )
    other = replace(first, seen="zip=h1:y", seen_at=later(hours=2))
    assert table.add(first)
    assert not table.add(replace(first, detail="again", seen_at=later(hours=1)))
    assert table.add(other)
    assert table.add(replace(first, origin_id=two, recorded="", detail=""))
    assert table.of_version([one], NAME, V) == [first, other]


def test_a_module_is_known_by_its_files_or_by_a_good_answer_alone(
    session: Session, one: int
) -> None:
    table, answers = ModuleTable(session), ModuleAnswerTable(session)
    answers.save(ModuleAnswer(one, NAME, "list", 404, b"", T0))
    assert not table.is_known([one], [NAME])
    answers.save(ModuleAnswer(one, NAME, "list", 200, b"v1.0.0\n", T0))
    assert table.is_known([one], ["other", NAME])
    assert not table.is_version_known([one], [NAME], V)
    answers.save(ModuleAnswer(one, NAME, f"={V}", 200, V.encode(), T0))
    assert table.is_version_known([one], [NAME], V)
    table.add(info(one, "v2.0.0"))
    assert table.is_version_known([one], [NAME], "v2.0.0")
    assert not table.is_version_known([one], [f"{NAME}/sub"], "v2.0.0")
