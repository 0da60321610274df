"""The active key export over restarts, changed settings and refreshes."""

from pathlib import Path

import pytest

from app.core import errors
from app.core.digest import Digest
from app.services.assembly import Services
from app.services.releases.keyring import signing_subkeys
from app.upstream.gpg import builtin_key
from tests.conftest import MakeServices, MakeSettings
from tests.fakes.signer import Signer
from tests.services.bench import audited

DIFFERENT = b"\n"  # an export's bytes may differ although its keys are the same


@pytest.fixture
def export_file(tmp_path: Path) -> Path:
    return tmp_path / "configured.asc"


async def active(services: Services) -> tuple[Digest, str]:
    recorded = await services.releases.keyring.recorded()
    return recorded.digest, recorded.source


async def test_the_configured_export_becomes_active_at_the_first_start(
    services: Services, signer: Signer
) -> None:
    assert await active(services) == (Digest.of(signer.export), "setting")
    keyring = await services.releases.keyring.active()
    assert {key.primary for key in keyring.subkeys} == {signer.primary}
    subkeys = [key.fingerprint for key in signing_subkeys(keyring)]
    assert set(subkeys) == {signer.current, signer.newer}
    [row] = await audited(services, "keyring.activate")
    assert (row.actor, row.object) == ("system", f"sha256:{Digest.of(signer.export)}")


async def test_the_configured_export_is_not_loaded_once_more(
    services: Services, signer: Signer
) -> None:
    services.releases.keyring.gpg.close()  # from now on a load would fail
    assert (await services.releases.keyring.active()).digest == Digest.of(signer.export)


async def test_without_a_setting_the_built_in_key_is_active(
    make_settings: MakeSettings, start_services: MakeServices
) -> None:
    google = ["EB4C1BFD4F042F6DDDCCEC917721F63BD38B4796"]
    settings = make_settings(releases={"keyring": None, "pinned_fingerprints": google})
    services = await start_services(settings)
    assert await active(services) == (Digest.of(builtin_key()), "built-in")


async def test_a_restart_with_the_same_setting_records_nothing(
    make_settings: MakeSettings, start_services: MakeServices
) -> None:
    settings = make_settings()
    first = await start_services(settings)
    second = await start_services(settings)
    assert await second.releases.keyring.recorded() == await first.releases.keyring.recorded()
    assert len(await audited(second, "keyring.activate")) == 1


async def test_a_restart_keeps_a_refresh_in_force(
    make_settings: MakeSettings, start_services: MakeServices, signer: Signer, export_file: Path
) -> None:
    export_file.write_bytes(signer.older_export)
    settings = make_settings(releases={"keyring": export_file})
    first = await start_services(settings)
    change = await first.releases.keyring.take_over(signer.export, "cli", replace=False)
    assert (change.added, change.removed, change.changed) == ((signer.newer,), (), True)
    second = await start_services(settings)
    assert await active(second) == (Digest.of(signer.export), "refresh")
    assert signer.newer in {k.fingerprint for k in (await second.releases.keyring.active()).subkeys}


async def test_a_changed_setting_becomes_active_over_a_refresh(
    make_settings: MakeSettings, start_services: MakeServices, signer: Signer, export_file: Path
) -> None:
    export_file.write_bytes(signer.older_export)
    settings = make_settings(releases={"keyring": export_file})
    first = await start_services(settings)
    await first.releases.keyring.take_over(signer.export, "cli", replace=False)
    export_file.write_bytes(signer.older_export + DIFFERENT)
    second = await start_services(settings)
    assert await active(second) == (Digest.of(signer.older_export + DIFFERENT), "setting")


async def test_a_running_process_uses_what_another_took_over(
    make_settings: MakeSettings, start_services: MakeServices, signer: Signer, export_file: Path
) -> None:
    export_file.write_bytes(signer.older_export)
    settings = make_settings(releases={"keyring": export_file})
    first, second = await start_services(settings), await start_services(settings)
    assert (await second.releases.keyring.active()).digest == Digest.of(signer.older_export)
    await first.releases.keyring.take_over(signer.export, "cli", replace=False)
    assert (await second.releases.keyring.active()).digest == Digest.of(signer.export)


async def test_an_older_export_is_refused_unless_told_to_replace(
    services: Services, signer: Signer
) -> None:
    before = await services.releases.keyring.recorded()
    with pytest.raises(errors.ConflictError, match=rf"lacks 1 subkey.*{signer.newer}.*--replace"):
        await services.releases.keyring.take_over(signer.older_export, "cli", replace=False)
    assert await services.releases.keyring.recorded() == before
    change = await services.releases.keyring.take_over(signer.older_export, "cli", replace=True)
    assert (change.added, change.removed) == ((), (signer.newer,))
    assert await active(services) == (Digest.of(signer.older_export), "refresh")
    assert [row.actor for row in await audited(services, "keyring.activate")] == ["system", "cli"]


async def test_taking_the_same_export_over_again_changes_nothing(
    services: Services, signer: Signer
) -> None:
    before = await services.shared.watch.poll()
    change = await services.releases.keyring.take_over(signer.export, "cli", replace=False)
    assert not change.changed
    assert await active(services) == (Digest.of(signer.export), "setting")
    assert len(await audited(services, "keyring.activate")) == 1
    assert await services.shared.watch.poll() == before


@pytest.mark.parametrize(
    "armored",
    [b"", b"not a key", b"<!DOCTYPE html><html></html>\n", b"\0" * 100, None, "google", "secret"],
    ids=["empty", "text", "html", "nul", "truncated", "other-key", "secret-key"],
)
async def test_what_is_no_export_of_the_pinned_key_is_refused(
    armored: bytes | str | None, services: Services, signer: Signer
) -> None:
    if armored is None:
        armored = signer.export[: len(signer.export) // 3]
    elif armored == "google":
        armored = builtin_key()
    elif armored == "secret":
        armored = signer.room.gpg("--batch", "--armor", "--export-secret-keys", signer.primary)
    assert isinstance(armored, bytes)
    before = await services.releases.keyring.recorded()
    for replace in (False, True):
        with pytest.raises(errors.KeyringError):
            await services.releases.keyring.take_over(armored, "cli", replace=replace)
    assert await services.releases.keyring.recorded() == before
    assert len(await audited(services, "keyring.activate")) == 1


async def test_a_start_with_an_unusable_export_fails_and_keeps_what_was_active(
    make_settings: MakeSettings, start_services: MakeServices, signer: Signer, export_file: Path
) -> None:
    export_file.write_bytes(signer.export)
    settings = make_settings(releases={"keyring": export_file})
    first = await start_services(settings)
    export_file.write_bytes(builtin_key())
    with pytest.raises(errors.KeyringError, match="lacks the pinned primary key"):
        await start_services(settings)
    assert await active(first) == (Digest.of(signer.export), "setting")


async def test_a_start_without_the_configured_file_names_the_setting(
    make_settings: MakeSettings, start_services: MakeServices, signer: Signer, export_file: Path
) -> None:
    export_file.write_bytes(signer.export)
    settings = make_settings(releases={"keyring": export_file})
    export_file.unlink()
    with pytest.raises(errors.SettingsError, match=r"MOORAGE_RELEASES__KEYRING: .*No such file"):
        await start_services(settings)


async def test_an_export_over_the_limit_is_refused_at_the_start(
    make_settings: MakeSettings, start_services: MakeServices, signer: Signer, export_file: Path
) -> None:
    export_file.write_bytes(signer.export)
    settings = make_settings(releases={"keyring": export_file})
    export_file.write_bytes(signer.export + b"\n" * (1 << 20))
    with pytest.raises(errors.KeyringError, match="1048576 bytes at most"):
        await start_services(settings)
