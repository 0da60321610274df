"""Rules that span several services: adoption, identity, keys of commands, known hashes."""

import os
from pathlib import Path

import pytest

from app.core import errors
from app.core.releasefile import FileState
from app.services.assembly import Services
from app.services.releases.keyring import SETTING
from app.wiring import build
from tests.conftest import MakeServices, MakeSettings, PutRelease
from tests.fakes.archives import archive_name, go_archive
from tests.fakes.faults import Fault
from tests.fakes.godev import FakeGodev
from tests.fakes.signer import Signer
from tests.services.bench import NAME, PATH, record_of


@pytest.mark.parametrize(
    ("named", "holds"),
    [
        (("go1.98.1", "linux", "amd64"), ("go1.98.1", "linux", "arm64")),
        (("go1.98.1", "linux", "amd64"), ("go1.98.1", "darwin", "amd64")),
        (("go1.98", "linux", "amd64"), ("go1.98.1", "linux", "amd64")),
    ],
)
async def test_F67_an_archive_for_another_platform_or_patch_is_quarantined(
    named: tuple[str, str, str],
    holds: tuple[str, str, str],
    services: Services,
    fake: FakeGodev,
    signer: Signer,
) -> None:
    name, data = archive_name(*named), go_archive(*holds)
    fake.put_file(name, data, signature=signer.sign(data))
    await services.releases.reader.refresh()
    with pytest.raises(errors.VerificationError, match="holds the toolchain"):
        await services.releases.ingestion.ensure(name)


async def test_an_adopted_orphan_is_synced_before_a_row_names_it(
    services: Services, put_release: PutRelease, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its writer may have been killed between link and fsync."""
    data = put_release()
    await services.releases.reader.refresh()
    await services.shared.store.put(data)
    synced: list[int] = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(fd), real(fd))[1])
    assert (await services.releases.ingestion.ensure(NAME)).served
    assert len(synced) >= 3  # the file, its shard, the shard's name


async def test_a_command_does_not_replace_the_key_of_the_service(
    start_services: MakeServices, make_settings: MakeSettings, signer: Signer, tmp_path: Path
) -> None:
    served = await start_services()
    before = await served.releases.keyring.recorded()
    older = tmp_path / "older.asc"
    older.write_bytes(signer.older_export)
    command = build(make_settings(releases={"keyring": older}))
    try:
        await command.start(owns_key=False)
    finally:
        await command.close()
    assert (await served.releases.keyring.recorded()).id == before.id
    assert before.source == SETTING


async def test_F62_a_hash_that_was_known_without_a_size_does_not_change(
    services: Services, fake: FakeGodev, put_release: PutRelease
) -> None:
    data = put_release()
    fake.put_file(NAME, data, sha256="ab" * 32, size=0)
    await services.releases.reader.refresh()
    fake.put_file(NAME, data)
    change = await services.releases.reader.refresh()
    assert [c.filename for c in change.conflicts] == [NAME]
    assert (await record_of(services)).sha256.hex == "ab" * 32


async def test_F65_a_held_back_file_is_judged_with_the_stored_signature_while_upstream_is_down(
    start_services: MakeServices,
    make_settings: MakeSettings,
    fake: FakeGodev,
    signer: Signer,
    tmp_path: Path,
) -> None:
    older = tmp_path / "older.asc"
    older.write_bytes(signer.older_export)
    data = go_archive("go1.99.1", "linux", "amd64")
    fake.put_file(NAME, data, signature=signer.sign(data, by=signer.newer))
    services = await start_services(make_settings(releases={"keyring": older}))
    await services.releases.reader.refresh()
    with pytest.raises(errors.VerificationError):
        await services.releases.ingestion.ensure(NAME)
    fake.fault(f"{PATH}.asc", Fault.status(403), times=None)
    assert await services.releases.ingestion.judge_again() == []
    assert (await record_of(services)).state is FileState.QUARANTINED
    await services.releases.keyring.take_over(signer.export, "test", replace=False)
    [released] = await services.releases.ingestion.judge_again()
    assert released.state is FileState.VERIFIED


async def test_a_file_whose_wrong_bytes_were_thrown_away_is_tried_again_by_itself(
    services: Services, fake: FakeGodev, put_release: PutRelease
) -> None:
    """Clients that read listings would never ask for it."""
    put_release()
    await services.releases.reader.refresh()
    fake.fault(PATH, Fault.flip_byte(at=0), times=2)
    with pytest.raises(errors.VerificationError):
        await services.releases.ingestion.ensure(NAME)
    [released] = await services.releases.ingestion.judge_again()
    assert released.state is FileState.VERIFIED
