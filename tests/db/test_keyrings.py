"""Rows of key exports: the newest is active, all stay."""

import pytest

from app.core.digest import Digest
from app.db.engine import Session
from app.db.keyrings import Keyrings
from tests.db.moments import T0, later

pytestmark = pytest.mark.both_shapes


def test_without_an_export_none_is_active(session: Session) -> None:
    assert Keyrings(session).active() is None
    assert Keyrings(session).newest_from(frozenset({"setting"})) is None


def test_the_export_that_was_taken_over_last_is_active_whatever_its_time(session: Session) -> None:
    keyrings = Keyrings(session)
    keyrings.add(Digest.of(b"new"), "refresh", b"new", later(hours=1))
    keyrings.add(Digest.of(b"old"), "setting", b"old", T0)  # a clock that was set back
    active = keyrings.active()
    assert active is not None
    assert (active.digest, active.source, active.armored) == (Digest.of(b"old"), "setting", b"old")
    assert active.taken_at == T0


def test_the_newest_of_some_sources_is_found_behind_newer_ones(session: Session) -> None:
    keyrings = Keyrings(session)
    for source, content in (("built-in", b"1"), ("setting", b"2"), ("refresh", b"3")):
        keyrings.add(Digest.of(content), source, content, T0)
    newest = keyrings.newest_from(frozenset({"built-in", "setting"}))
    assert newest is not None
    assert newest.armored == b"2"
    assert keyrings.newest_from(frozenset()) is None


def test_one_export_may_be_taken_over_again(session: Session) -> None:
    keyrings = Keyrings(session)
    for content in (b"1", b"2", b"1"):
        keyrings.add(Digest.of(content), "setting", content, T0)
    active = keyrings.active()
    assert active is not None
    assert (active.id, active.armored) == (3, b"1")
