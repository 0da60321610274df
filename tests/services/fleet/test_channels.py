"""Channels: revisions, going back, who may follow, and the manifest that says it all."""

import pytest
from sqlalchemy.exc import IntegrityError

from app.core.channel import (
    MANIFEST_LIFE,
    Channel,
    ChannelSettings,
    Choice,
    Revision,
    RevisionState,
    ZstdForm,
)
from app.core.errors import (
    ConflictError,
    DeniedError,
    StaleRevisionError,
    StorageError,
    UnknownError,
)
from app.core.principal import OPERATOR, Principal, Scope
from app.core.tenant import TenantSettings
from app.db.channels import ChannelTable
from app.db.engine import Session
from app.node.errors import RefusedError
from app.node.manifest import open_manifest
from app.node.note import parse_vkey as node_key
from app.services.changes import locked
from app.services.fleet.channels import channel_named
from tests.nouns import a_tenant
from tests.services.bench import audit_rows, count_of, run_sql
from tests.services.fleet.conftest import UNFETCHED, Fleet
from tests.services.releases.test_zstforms import Here, forms

A, B, C = "go1.99.2", "go1.99.1", "go1.98.5"
ACMES = Principal("token:1", frozenset({Scope.ADMIN}), "acme", "1")


async def set_to(fleet: Fleet, current: str, *also: str, reason: str = "") -> Revision:
    choice = Choice(current=current, also=also, reason=reason)
    return await fleet.services.fleet.channels.set("stable", choice, OPERATOR)


async def history(fleet: Fleet) -> list[tuple[int, str, str]]:
    revisions = await fleet.services.fleet.channels.history("stable", OPERATOR)
    return [(r.revision, r.current, r.state.value) for r in revisions]


async def actions(fleet: Fleet) -> list[tuple[str, str]]:
    rows = await audit_rows(fleet.services)
    return [(r.action, r.detail) for r in rows if r.action.startswith("channel.")]


async def test_a_set_makes_a_revision_at_once(fleet: Fleet) -> None:
    await fleet.channel()
    first = await set_to(fleet, B, C)
    second = await set_to(fleet, A, B, reason="CVE-1")
    assert (first.revision, second.revision, second.state) == (1, 2, RevisionState.CURRENT)
    assert await history(fleet) == [(2, A, "current"), (1, B, "past")]
    channel = await fleet.services.fleet.channels.get("stable", OPERATOR)
    assert (channel.revision, channel.current, channel.also) == (2, A, (B,))
    log = [row for row in await actions(fleet) if row[0] != "channel.key"]
    assert log == [
        ("channel.create", "for everybody"),
        ("channel.set", f"revision 1: {B}, also {C}"),
        ("channel.set", f"revision 2: {A}, also {B} (CVE-1)"),
    ]


async def test_a_set_to_what_is_offered_changes_nothing(fleet: Fleet) -> None:
    await fleet.channel("stable", B)
    log = await actions(fleet)
    assert (await set_to(fleet, B, reason="again")).revision == 1
    assert await actions(fleet) == log


async def test_a_release_that_is_not_verified_refuses_the_revision(fleet: Fleet) -> None:
    await fleet.channel("stable", B)
    with pytest.raises(ConflictError, match=f"moorage releases sync {UNFETCHED}"):
        await set_to(fleet, A, UNFETCHED)
    with pytest.raises(UnknownError, match=r"there is no release go1\.97\.1"):
        await set_to(fleet, "go1.97.1")
    assert await history(fleet) == [(1, B, "current")]
    await fleet.services.releases.sync.sync([UNFETCHED])
    assert (await set_to(fleet, A, UNFETCHED)).revision == 2


async def test_a_quarantined_archive_refuses_with_the_reason(fleet: Fleet) -> None:
    await fleet.channel()
    await run_sql(
        fleet.services,
        "UPDATE release_files SET state = 'quarantined', reason = 'the log says no' "
        f"WHERE version = '{A}'",
    )
    with pytest.raises(ConflictError, match="is quarantined: the log says no"):
        await set_to(fleet, A)


async def test_a_rollback_is_a_new_revision_and_needs_no_upstream(fleet: Fleet) -> None:
    await fleet.channel("stable", C, B, A)
    hits = sum(fleet.fake.hits.values())
    channels = fleet.services.fleet.channels
    back = await channels.rollback("stable", OPERATOR, reason="bad")
    assert (back.revision, back.current, back.restores) == (4, B, 2)
    oldest = await channels.rollback("stable", OPERATOR, to=1)
    assert (oldest.revision, oldest.current, oldest.restores) == (5, C, 1)
    assert sum(fleet.fake.hits.values()) == hits
    assert (await actions(fleet))[-2:] == [
        ("channel.rollback", f"revision 4: {B} (bad), restores revision 2"),
        ("channel.rollback", f"revision 5: {C}, restores revision 1"),
    ]
    with pytest.raises(UnknownError, match="has no revision 9"):
        await channels.rollback("stable", OPERATOR, to=9)


async def test_without_an_older_revision_nothing_is_rolled_back(fleet: Fleet) -> None:
    await fleet.channel("stable", A)
    with pytest.raises(UnknownError, match="no revision before 1"):
        await fleet.services.fleet.channels.rollback("stable", OPERATOR)


async def test_a_channel_that_is_made_again_goes_on_with_its_numbers(fleet: Fleet) -> None:
    await fleet.channel("stable", B, A)
    await fleet.services.fleet.channels.remove("stable", OPERATOR)
    with pytest.raises(UnknownError):
        await fleet.services.fleet.channels.get("stable", OPERATOR)
    await fleet.channel("stable")
    channel = await fleet.services.fleet.channels.get("stable", OPERATOR)
    assert (channel.revision, channel.current) == (None, None)
    assert (await set_to(fleet, C)).revision == 3


@pytest.mark.parametrize(("seen", "number"), [(0, 2), (1, 2), (7, 8), (1001, 1002), (1002, 2)])
async def test_a_revision_is_above_all_that_nodes_have_seen(
    fleet: Fleet, seen: int, number: int
) -> None:
    """An older database was restored; a node that lies can't use the numbers up."""
    await fleet.channel("stable", B)
    columns = (
        'id, sha256, name, channel, "group", enrolled_at, facts, current, installed, '
        "seen_revision, is_drifted, clock_off_s, failures, failure, held, changed"
    )
    values = (
        "'n', 's', 'n', 'stable', 'g', '2026-11-27', '{}', '', '', "
        f"{seen}, false, 0, 0, '', '', 0"
    )
    await run_sql(fleet.services, f"INSERT INTO nodes ({columns}) VALUES ({values})")
    assert (await set_to(fleet, A)).revision == number


async def test_who_looked_at_an_older_state_is_refused(fleet: Fleet) -> None:
    await fleet.channel("stable", B)
    channels = fleet.services.fleet.channels
    seen = (await channels.get("stable", OPERATOR)).edits
    await set_to(fleet, A)
    with pytest.raises(StaleRevisionError):
        await channels.set("stable", Choice(current=C), OPERATOR, edits=seen)
    with pytest.raises(StaleRevisionError):
        await channels.rollback("stable", OPERATOR, edits=seen)
    with pytest.raises(StaleRevisionError):
        await channels.remove("stable", OPERATOR, edits=seen)


async def test_a_difference_is_of_the_revision_before_or_of_any_two(fleet: Fleet) -> None:
    await fleet.channel("stable", C, B, A)
    channels = fleet.services.fleet.channels
    latest = await channels.diff("stable", OPERATOR)
    assert (latest.before, latest.after, latest.added, latest.removed) == (2, 3, (A,), (B,))
    wide = await channels.diff("stable", OPERATOR, before=1, after=2)
    assert (wide.current_before, wide.current_after) == (C, B)


async def test_the_manifest_says_what_the_revision_offers(fleet: Fleet) -> None:
    await fleet.channel()
    await set_to(fleet, B, A)
    manifest = await fleet.manifest()
    assert (manifest.channel, manifest.revision, manifest.current) == ("stable", 1, B)
    assert [r.version for r in manifest.releases] == [A, B]
    [file] = manifest.releases[0].files
    record = await fleet.services.releases.ingestion.ensure(file.filename)
    assert record.toolchain is not None
    assert (file.sha256, file.size) == (record.sha256.hex, record.file.size_bytes)
    assert (file.os, file.arch, file.kind) == ("linux", "amd64", "archive")
    assert file.h1 == record.toolchain.h1
    assert record.derived is not None
    assert file.tree == record.derived.tree.sha256.hex
    assert file.chunks == record.derived.chunks.sha256.hex
    assert file.zst is None
    assert manifest.expires_at - manifest.issued_at == MANIFEST_LIFE
    assert manifest.issued_at == fleet.clock().replace(microsecond=0)
    shown = count_of("moorage_channel_manifests_expiry_timestamp_seconds")
    assert abs(shown - manifest.expires_at.timestamp()) < 1


async def test_the_leader_signs_anew_after_a_day(fleet: Fleet) -> None:
    await fleet.channel("stable", A)
    manifests = fleet.services.fleet.manifests
    log = await actions(fleet)
    fleet.clock.advance(hours=23)
    await manifests.step()
    assert await actions(fleet) == log
    fleet.clock.advance(hours=1)
    await manifests.step()
    manifest = await fleet.manifest()
    assert manifest.issued_at == fleet.clock().replace(microsecond=0)
    assert (await actions(fleet))[-1] == (
        "channel.sign",
        f"revision 1, valid until {manifest.expires_at:%Y-%m-%d}",
    )


async def test_the_leader_signs_anew_when_the_files_change(fleet: Fleet) -> None:
    await fleet.channel("stable", A)
    await run_sql(
        fleet.services, f"UPDATE release_files SET state = 'quarantined' WHERE version = '{A}'"
    )
    await fleet.services.fleet.manifests.step()
    assert (await fleet.manifest()).releases[0].files == ()


async def test_the_leader_signs_anew_when_a_zstd_form_is_made(fleet: Fleet) -> None:
    await fleet.channel("stable", A)
    await forms(fleet.services, Here()).step()
    await fleet.services.fleet.manifests.step()
    [file] = (await fleet.manifest()).releases[0].files
    record = await fleet.services.releases.ingestion.ensure(file.filename)
    assert record.derived is not None
    zst = record.derived.zst
    assert zst is not None
    assert file.zst == ZstdForm(zst.size_bytes, zst.sha256.hex, zst.chunks.sha256.hex)


async def test_an_archive_without_tree_and_chunks_is_left_out(fleet: Fleet) -> None:
    """An earlier version ingested it: nodes get it once the leader has made up for that."""
    await fleet.channel("stable", A)
    complete = await fleet.manifest()
    await run_sql(fleet.services, "DELETE FROM derived_files")
    await fleet.services.fleet.manifests.step()
    assert (await fleet.manifest()).releases[0].files == ()
    await fleet.services.releases.derived.step()
    await fleet.services.fleet.manifests.step()
    assert await fleet.manifest() == complete


async def test_the_node_program_takes_what_either_key_has_signed(fleet: Fleet) -> None:
    await fleet.channel("stable", A)
    manifests = fleet.services.fleet.manifests
    keys = [await manifests.key(), await manifests.new_key(OPERATOR)]
    now = fleet.clock().timestamp()

    async def opened(vkey: str) -> str:
        signed = (await fleet.offered()).current
        assert signed is not None
        key = node_key(vkey)
        return open_manifest(
            signed.manifest, key, channel="stable", seen_revision=1, now=now
        ).current

    assert [await opened(key.vkey) for key in keys] == [A, A]
    await manifests.new_key(OPERATOR)
    assert await opened(keys[1].vkey) == A
    with pytest.raises(RefusedError, match="is not signed by the pinned key"):
        await opened(keys[0].vkey)


async def test_a_new_key_signs_where_the_one_before_cannot_be_opened_any_more(fleet: Fleet) -> None:
    """As after a restore without keys/secrets.key."""
    await fleet.channel("stable", A)
    await run_sql(fleet.services, "UPDATE fleet_keys SET seed = x'01'")
    with pytest.raises(StorageError):
        await fleet.services.fleet.channels.set("stable", Choice(current=B), OPERATOR)
    await fleet.services.fleet.manifests.new_key(OPERATOR)
    assert (await fleet.manifest()).current == A
    rotation = fleet.services.upkeep.rotation
    assert len(await rotation.unopened()) == 1  # it would sign along
    await fleet.services.fleet.manifests.new_key(OPERATOR)
    assert await rotation.unopened() == []


async def test_a_clock_that_was_set_back_gets_a_manifest_of_its_time(fleet: Fleet) -> None:
    await fleet.channel("stable", A)
    fleet.clock.advance(days=-30)
    await fleet.services.fleet.manifests.step()
    assert (await fleet.manifest()).issued_at == fleet.clock().replace(microsecond=0)


async def test_a_new_key_signs_along_with_the_one_before(fleet: Fleet) -> None:
    await fleet.channel("stable", A)
    manifests = fleet.services.fleet.manifests
    old = await manifests.key()
    new = await manifests.new_key(OPERATOR)
    assert (await manifests.key()).vkey == new.vkey != old.vkey
    assert new.name == old.name
    signed = (await fleet.offered()).current
    assert signed is not None
    note = signed.manifest.decode()
    assert note.count("\n\u2014 ") == 2
    await manifests.new_key(OPERATOR)
    signed = (await fleet.offered()).current
    assert signed is not None
    assert signed.manifest.decode().count("\n\u2014 ") == 2
    with pytest.raises(DeniedError):
        await manifests.new_key(ACMES)


async def test_the_first_channel_makes_the_key(fleet: Fleet) -> None:
    with pytest.raises(UnknownError, match="moorage channel create"):
        await fleet.services.fleet.manifests.key()
    await fleet.channel("stable")
    await fleet.channel("next")
    keys = [row for row in await actions(fleet) if row[0] == "channel.key"]
    assert keys == [("channel.key", (await fleet.services.fleet.manifests.key()).vkey)]


async def test_a_seed_is_sealed(fleet: Fleet) -> None:
    await fleet.channel()
    key = await fleet.services.fleet.manifests.key()
    assert b"PRIVATE" not in key.seed
    assert "PRIVATE" not in repr(key)


async def test_a_limited_channel_is_for_its_tenants(fleet: Fleet) -> None:
    tenants = fleet.services.tenants.tenants
    for name in ("acme", "beta"):
        await tenants.create(a_tenant(name), OPERATOR)
    with pytest.raises(UnknownError, match="there is no tenant 'nobody'"):
        await fleet.channel("bad", tenants=["nobody"])
    await fleet.channel("stable", A, tenants=["acme"])
    await fleet.channel("open")
    channels = fleet.services.fleet.channels
    betas = Principal("token:2", frozenset({Scope.ADMIN}), "beta", "2")
    assert [c.name for c in await channels.page(ACMES)] == ["open", "stable"]
    assert [c.name for c in await channels.page(betas)] == ["open"]
    with pytest.raises(UnknownError):
        await channels.get("stable", betas)
    with pytest.raises(DeniedError):
        await channels.set("stable", Choice(current=B), ACMES)
    follow = TenantSettings(toolchains="stable")
    with pytest.raises(ConflictError, match="channel stable is not open to tenant beta"):
        await tenants.change("beta", follow, OPERATOR)
    assert (await tenants.change("acme", follow, ACMES)).toolchains == "stable"
    with pytest.raises(UnknownError, match="there is no channel 'none'"):
        await tenants.change("acme", TenantSettings(toolchains="none"), ACMES)
    with pytest.raises(ConflictError, match="tenant acme follows channel stable"):
        await channels.change("stable", ChannelSettings(tenants=frozenset({"beta"})), OPERATOR)
    with pytest.raises(ConflictError, match="tenant acme takes toolchains from channel stable"):
        await channels.remove("stable", OPERATOR)
    await tenants.remove("acme", OPERATOR)
    assert (await channels.get("stable", OPERATOR)).tenants == frozenset()


async def test_a_candidate_is_offered_to_nobody_until_it_is_promoted(fleet: Fleet) -> None:
    await fleet.channel("stable", B)
    services = fleet.services
    revisions, db = services.fleet.revisions, services.shared.db

    def propose(session: Session) -> Revision:
        channel = channel_named(session, "stable")
        choice = Choice(current=A)
        state = RevisionState.CANDIDATE
        return revisions.add(session, channel, choice, OPERATOR, fleet.clock(), state=state)

    def promote(session: Session) -> Revision:
        channel = channel_named(session, "stable")
        return revisions.promote(session, channel, OPERATOR, fleet.clock())

    def drop(session: Session) -> Revision:
        channel = channel_named(session, "stable")
        return revisions.drop(session, channel, OPERATOR, fleet.clock())

    assert (await db.write(locked(propose))).revision == 2
    offered = await fleet.offered()
    assert offered.current is not None
    assert offered.candidate is not None
    assert (offered.current.revision.current, offered.candidate.revision.current) == (B, A)
    assert b'"revision":2}' in offered.candidate.manifest
    with pytest.raises(ConflictError, match="bringing revision 2"):
        await set_to(fleet, C)
    with pytest.raises(ConflictError, match="bringing revision 2"):
        await db.write(locked(propose))
    assert (await db.write(locked(promote))).state is RevisionState.CURRENT
    assert await history(fleet) == [(2, A, "current"), (1, B, "past")]
    assert (await db.write(locked(propose))).revision == 3
    assert (await db.write(locked(drop))).state is RevisionState.PAST
    with pytest.raises(ConflictError, match="no candidate"):
        await db.write(locked(promote))
    # What was never offered is nothing to go back to.
    assert (await services.fleet.channels.rollback("stable", OPERATOR)).restores == 1


async def test_the_database_has_one_current_revision_of_a_channel(fleet: Fleet) -> None:
    await fleet.channel("stable", B, A)

    def break_it(session: Session) -> None:
        channel = channel_named(session, "stable")
        ChannelTable(session).set_state(
            channel.id, 1, RevisionState.CURRENT, offered_at=fleet.clock()
        )

    with pytest.raises((IntegrityError, ConflictError)):
        await fleet.services.shared.db.write(locked(break_it))


async def test_a_sync_mirrors_what_channels_name(fleet: Fleet) -> None:
    await fleet.channel("stable", C)
    plan, _ = await fleet.services.releases.sync.plan()
    reasons = {p.record.file.version: p.reason for p in plan.files}
    assert reasons[C] == "named by channel stable"
    await fleet.services.fleet.channels.remove("stable", OPERATOR)
    plan, _ = await fleet.services.releases.sync.plan()
    assert C not in {p.record.file.version for p in plan.files}


async def test_a_channel_is_made_once(fleet: Fleet) -> None:
    await fleet.channel()
    with pytest.raises(ConflictError, match="already"):
        await fleet.services.fleet.channels.create(Channel(name="stable"), OPERATOR)
