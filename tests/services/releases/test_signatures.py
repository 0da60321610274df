"""What detached signatures do to a file whose bytes are right: F63 to F66, end to end."""

import shutil
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from app.core import errors
from app.core.releasefile import FileState
from app.services.assembly import Services
from app.services.clock import utc_now
from app.web.responses import status_of
from tests.conftest import MakeServices, MakeSettings, PutRelease
from tests.fakes.archives import archive_name
from tests.fakes.faults import Fault
from tests.fakes.godev import FakeGodev
from tests.fakes.signer import Signer
from tests.installation import running
from tests.services.bench import (
    NAME,
    PATH,
    WallClock,
    assert_sound,
    audited,
    body_of,
    record_of,
    records,
    stored,
)
from tests.services.conftest import Rewire
from tests.upstream.gpgkeys import SIGNED, ThrowawayKeys, throwaway_keys

ASC = f"{PATH}.asc"


# Faults of the signature alone.
UNSIGNED = {
    "404": Fault.status(404),
    "410": Fault.status(410),
    "html": Fault.html_200(),
    "empty": Fault.empty_200(),
    "only-space": Fault.wrong_content(b"\n \n"),
    "too-long": Fault.oversized(70_000),
    "403": Fault.status(403),
    "500": Fault.status(500),
    "reset": Fault.reset(after="half"),
    "cut-off": Fault.truncate(after="half"),
    "half-of-it": Fault.wrong_content(b"-----BEGIN PGP SIGNATURE-----\n\niQ"),
    "redirect-loop": Fault.redirect_loop(),
}


@pytest.mark.parametrize("name", UNSIGNED)
async def test_F63_without_a_signature_a_file_is_pending_and_heals_without_another_download(
    name: str, quick: Services, fake: FakeGodev, put_release: PutRelease
) -> None:
    data = put_release()
    await quick.releases.reader.refresh()
    fake.fault(ASC, UNSIGNED[name], times=None)
    with pytest.raises(errors.NotYetError) as raised:
        await quick.releases.ingestion.ensure(NAME)
    assert status_of(raised.value) == 503
    record = await record_of(quick)
    assert (record.state, record.has_bytes) == (FileState.PENDING_SIGNATURE, True)
    assert record.reason
    assert not record.served
    assert record.toolchain is not None
    await assert_sound(quick)

    fake.clear_faults()
    record = await quick.releases.ingestion.ensure(NAME)
    assert (record.state, record.reason) == (FileState.VERIFIED, "")
    assert await body_of(quick, record) == data
    assert fake.hits[PATH] == 1
    await assert_sound(quick)


async def test_F63_staying_pending_writes_no_second_audit_row(
    quick: Services, put_release: PutRelease
) -> None:
    put_release(signed=False)
    await quick.releases.reader.refresh()
    for _ in range(3):
        with pytest.raises(errors.NotYetError):
            await quick.releases.ingestion.ensure(NAME)
    assert await quick.releases.ingestion.judge_again() == []
    assert len(await audited(quick, "release.pending-signature")) == 1


async def test_F63_a_signature_of_another_file_quarantines_until_the_right_one_is_there(
    quick: Services, fake: FakeGodev, put_release: PutRelease, signer: Signer
) -> None:
    data = put_release()
    await quick.releases.reader.refresh()
    fake.set_signature(NAME, signer.sign(b"another file"))
    with pytest.raises(errors.VerificationError) as raised:
        await quick.releases.ingestion.ensure(NAME)
    assert status_of(raised.value) == 502
    record = await record_of(quick)
    assert (record.state, record.has_bytes) == (FileState.QUARANTINED, True)
    assert record.verdict is not None
    assert (record.verdict.accepted, record.verdict.reason) == (False, "bad-signature")

    fake.set_signature(NAME, signer.sign(data))
    [released] = await quick.releases.ingestion.judge_again()
    assert released.state == FileState.VERIFIED
    assert fake.hits[PATH] == 1


async def test_F63_a_signature_is_looked_for_at_every_source(
    start_services: MakeServices, rewire: Rewire, fake: FakeGodev, put_release: PutRelease
) -> None:
    data = put_release()
    with FakeGodev(files={NAME: data}) as second:
        urls = [second.files_url, fake.files_url]
        quick = rewire(await start_services(releases={"files_urls": urls}))
        await quick.releases.reader.refresh()
        assert (await quick.releases.ingestion.ensure(NAME)).state == FileState.VERIFIED
        assert (second.hits[ASC], fake.hits[ASC]) == (1, 1)
        assert (second.hits[PATH], fake.hits[PATH]) == (1, 0)


# The table of signatures that gpg itself is too kind to, each over the same two lines.
TABLE = {
    "good": ("verified", "good"),
    "before-expiry": ("verified", "good-by-expired-subkey"),
    "notation": ("verified", "good"),
    "other-key": ("quarantined", "unknown-signing-subkey"),
    "after-expiry": ("quarantined", "signed-after-key-expiry"),
    "revoked-key": ("quarantined", "revoked-key"),
    "expired-signature": ("quarantined", "expired-signature"),
    "sha1": ("quarantined", "weak-digest"),
    "future": ("pending-signature", "dated-in-the-future"),
    "text-mode": ("quarantined", "wrong-signature-class"),
    "two-good": ("quarantined", "several-signatures"),
    "other-file": ("quarantined", "bad-signature"),
    "empty": ("pending-signature", None),
    "html": ("pending-signature", None),
    "truncated": ("pending-signature", "no-signature"),
    "clearsigned": ("pending-signature", None),
    # Not armored: taken for something that is no signature, and asked for again.
    "unknown-then-good": ("pending-signature", None),
    "bad-then-good": ("pending-signature", None),
}


@pytest.fixture(scope="session")
def keys(signer: Signer) -> Iterator[ThrowawayKeys]:
    with throwaway_keys() as made:
        yield made


async def test_F64_every_row_of_the_table_of_signatures_ends_in_its_state(
    keys: ThrowawayKeys,
    make_settings: MakeSettings,
    start_services: MakeServices,
    rewire: Rewire,
    fake: FakeGodev,
    tmp_path: Path,
) -> None:
    names = {row: f"go1.{number}.src.tar.gz" for number, row in enumerate(TABLE, start=50)}
    for row, name in names.items():
        fake.put_file(name, SIGNED, signature=keys.signatures[row])
    keyring = tmp_path / "keys.asc"
    keyring.write_bytes(keys.export)
    more = {"keyring": keyring, "pinned_fingerprints": [keys.primary]}
    quick = rewire(await start_services(make_settings(releases=more)))
    await quick.releases.reader.refresh()
    seen = {}
    for row, name in names.items():
        with suppress(errors.VerificationError, errors.NotYetError):
            assert (await quick.releases.ingestion.ensure(name)).served
        record = await record_of(quick, name)
        assert record.has_bytes
        seen[row] = (record.state.value, record.verdict.reason if record.verdict else None)
    assert seen == TABLE
    offered = (await quick.releases.catalog.current(fresh=True)).offered
    assert {record.file.filename for record in offered} == {
        names[row] for row, (state, _) in TABLE.items() if state == "verified"
    }
    await assert_sound(quick)


async def test_F65_an_unknown_subkey_is_accepted_after_a_refresh_without_another_download(
    signer: Signer,
    make_settings: MakeSettings,
    start_services: MakeServices,
    fake: FakeGodev,
    put_release: PutRelease,
    tmp_path: Path,
) -> None:
    data = put_release()
    fake.set_signature(NAME, signer.sign(data, by=signer.newer))
    (tmp_path / "older.asc").write_bytes(signer.older_export)
    settings = make_settings(releases={"keyring": tmp_path / "older.asc"})
    services = await start_services(settings)
    await services.releases.reader.refresh()
    with pytest.raises(errors.VerificationError, match=r"unknown signing subkey .*keys refresh"):
        await services.releases.ingestion.ensure(NAME)
    record = await record_of(services)
    assert record.state == FileState.QUARANTINED
    assert record.verdict is not None
    assert record.verdict.reason == "unknown-signing-subkey"
    old_ring = record.verdict.keyring

    change = await services.releases.keyring.take_over(signer.export, "cli", replace=False)
    assert change.added == (signer.newer,)
    [released] = await services.releases.ingestion.judge_again("cli")
    assert (released.state, released.reason) == (FileState.VERIFIED, "")
    assert released.verdict is not None
    assert released.verdict.subkey == signer.newer
    assert released.verdict.keyring != old_ring
    assert await body_of(services, released) == data
    assert fake.hits[PATH] == 1  # the archive was downloaded once
    actions = [
        r.action for r in await services.shared.audit.list(after=0, limit=99) if r.object == NAME
    ]
    assert actions == ["release.quarantined", "release.verified"]


async def test_F65_another_process_judges_by_the_refreshed_key_without_a_restart(
    signer: Signer,
    make_settings: MakeSettings,
    start_services: MakeServices,
    fake: FakeGodev,
    put_release: PutRelease,
    tmp_path: Path,
) -> None:
    data = put_release()
    fake.set_signature(NAME, signer.sign(data, by=signer.newer))
    (tmp_path / "older.asc").write_bytes(signer.older_export)
    settings = make_settings(releases={"keyring": tmp_path / "older.asc"})
    first, second = await start_services(settings), await start_services(settings)
    await first.releases.reader.refresh()
    with pytest.raises(errors.VerificationError):
        await second.releases.ingestion.ensure(NAME)
    await first.releases.keyring.take_over(signer.export, "cli", replace=False)
    assert (await second.releases.ingestion.ensure(NAME)).state == FileState.VERIFIED
    assert fake.hits[PATH] == 1


# F66: gpg missing, hanging, crashing.


class Program:
    """A gpg in a folder of its own that can be taken away or replaced."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "gpg"
        self.real = shutil.which("gpg")

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)

    def restore(self) -> None:
        self.remove()
        assert self.real is not None
        self.path.symlink_to(self.real)

    def become(self, script: str) -> None:
        self.remove()
        self.path.write_text(f"#!/bin/sh\n{script}\n")
        self.path.chmod(0o755)


@pytest.fixture
def program(signer: Signer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    """The only gpg that the services find."""
    folder = tmp_path / "bin"
    folder.mkdir()
    made = Program(folder)
    made.restore()
    monkeypatch.setenv("PATH", str(folder))
    return made


async def test_F66_without_gpg_the_first_start_fails_and_says_so(
    program: Program, start_services: MakeServices
) -> None:
    program.remove()
    with pytest.raises(errors.NotYetError, match="gpg can't be run"):
        await start_services()


async def test_F66_without_gpg_a_later_start_serves_what_was_verified(
    program: Program,
    start_services: MakeServices,
    make_settings: MakeSettings,
    put_release: PutRelease,
) -> None:
    settings = make_settings()
    put_release()
    first = await start_services(settings)
    await first.releases.reader.refresh()
    await first.releases.ingestion.ensure(NAME)
    program.remove()
    later = await start_services(settings)
    assert (await later.releases.ingestion.ensure(NAME)).state is FileState.VERIFIED
    with pytest.raises(errors.NotYetError):
        await later.releases.keyring.active()


BROKEN = {
    "missing": None,
    "crashes": "kill -SEGV $$",
    "exit-139": "exit 139",
    "hangs": "exec /bin/sleep 60",
    "silent": "exit 2",
}


@pytest.fixture
def published(signer: Signer, put_release: PutRelease) -> dict[str, bytes]:
    """Three signed releases; made before gpg is taken away."""
    return {archive_name(v): put_release(v) for v in ("go1.97.1", "go1.98.1", "go1.99.1")}


@pytest.mark.parametrize("name", BROKEN)
async def test_F66_a_broken_gpg_holds_new_files_back_and_serves_the_old_ones(
    name: str,
    published: dict[str, bytes],
    program: Program,
    start_services: MakeServices,
    rewire: Rewire,
    fake: FakeGodev,
) -> None:
    old, new, never = published
    quick = rewire(await start_services())
    await quick.releases.reader.refresh()
    await quick.releases.ingestion.ensure(old)
    if BROKEN[name] is None:
        program.remove()
    else:
        program.become(str(BROKEN[name]))
    quick.releases.gpg.timeout_s = 0.2
    with pytest.raises(errors.NotYetError) as raised:
        await quick.releases.ingestion.ensure(new)
    assert status_of(raised.value) == 503
    record = await record_of(quick, new)
    assert (record.state, record.has_bytes) == (FileState.PENDING_SIGNATURE, True)
    assert await body_of(quick, await quick.releases.ingestion.ensure(old)) == published[old]
    await assert_sound(quick)

    program.restore()
    quick.releases.gpg.timeout_s = 60
    assert [r.file.filename for r in await quick.releases.ingestion.judge_again()] == [new]
    assert fake.hits[f"/go/{new}"] == 1
    assert (await records(quick))[never].state == FileState.KNOWN


async def test_F66_a_gpg_that_goes_before_its_first_verdict_is_503_and_keeps_the_bytes(
    published: dict[str, bytes],
    program: Program,
    start_services: MakeServices,
    rewire: Rewire,
    fake: FakeGodev,
) -> None:
    quick = rewire(await start_services())
    await quick.releases.reader.refresh()
    program.remove()
    with pytest.raises(errors.NotYetError) as raised:
        await quick.releases.ingestion.ensure(NAME)
    assert status_of(raised.value) == 503
    assert (await record_of(quick)).state == FileState.PENDING_SIGNATURE
    program.restore()
    assert (await quick.releases.ingestion.ensure(NAME)).state == FileState.VERIFIED
    assert fake.hits[PATH] == 1
    assert len(stored(quick)) == 4


async def test_F96_an_archive_that_was_met_with_a_clock_of_2020_is_offered_once_the_clock_is_right(
    make_settings: MakeSettings, fake: FakeGodev, put_release: PutRelease
) -> None:
    """Our clock is no verdict on bytes: the signature is dated in the future of 2020 alone."""
    put_release()
    clock = WallClock(datetime(2020, 1, 1, tzinfo=UTC))
    async with running(make_settings(), clock) as services:
        await services.releases.reader.refresh()
        with pytest.raises(errors.NotYetError, match="in the future of this server's clock"):
            await services.releases.ingestion.ensure(NAME)
        record = await record_of(services)
        assert (record.state, record.has_bytes) == (FileState.PENDING_SIGNATURE, True)
        clock.at = utc_now()
        [released] = await services.releases.ingestion.judge_again()
        assert released.state is FileState.VERIFIED
        assert fake.hits[PATH] == 1
