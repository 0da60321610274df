"""A start proves that the key is that of the database's secrets, and makes one only before any."""

import asyncio
import base64
from pathlib import Path

import pytest

from app.cli.serve import _first_start
from app.core.errors import SettingsError, UnfitDatabaseError
from app.core.principal import OPERATOR
from app.db.audit import AuditLog
from app.db.engine import Database
from app.db.sealed import SealedTable
from app.services.assembly import Services
from app.services.clock import utc_now
from app.services.doctor import Doctor, Level
from app.services.keyproof import accept_key, require_key
from app.services.secrets import GivenKeys
from app.settings import Settings
from app.wiring import build, migrate
from tests.conftest import MakeSettings
from tests.installation import running
from tests.nouns import a_credential
from tests.web.harbour import add_tenant, proxy_settings

KEY, OTHER = (base64.b64encode(byte * 32) + b"\n" for byte in (b"k", b"K"))
ONE_SECRET = "1 secret"


def key_file(settings: Settings) -> Path:
    return settings.data_dir / "keys" / "secrets.key"


async def set_secret(services: Services, name: str = "up") -> None:
    await services.tenants.credentials.put("acme", name, a_credential("bearer", "s3"), OPERATOR)


async def with_a_secret(tmp_path: Path) -> Settings:
    """Return the settings of an installation, which has ended, with one sealed secret."""
    settings = proxy_settings(tmp_path)
    async with running(settings) as services:
        await add_tenant(services, "acme")
        await set_secret(services)
    return settings


async def restart(settings: Settings) -> list[str]:
    """Start and end an installation; return the places of the secrets that it can't open."""
    async with running(settings) as services:
        return await services.upkeep.rotation.unopened()


@pytest.mark.only_sqlite  # the key is given on PostgreSQL
async def test_the_first_start_makes_a_key_and_a_lost_one_is_made_anew_before_any_secret(
    tmp_path: Path,
) -> None:
    settings = proxy_settings(tmp_path)
    assert await restart(settings) == []
    first = key_file(settings).read_bytes()
    key_file(settings).unlink()
    assert await restart(settings) == []
    assert key_file(settings).read_bytes() != first


@pytest.mark.only_sqlite
async def test_a_lost_key_file_is_refused_and_not_made_anew(tmp_path: Path) -> None:
    settings = await with_a_secret(tmp_path)
    key = key_file(settings).read_bytes()
    key_file(settings).unlink()
    with pytest.raises(UnfitDatabaseError, match="moorage migrate --new-secrets-key") as refused:
        await restart(settings)
    assert "keys/secrets.key is missing" in str(refused.value)
    assert ONE_SECRET in str(refused.value)
    services = build(settings)
    try:
        findings = await Doctor(services, None, lambda: None).look()
    finally:
        await services.close()
    assert (findings[-1].level, findings[-1].text) == (Level.TROUBLE, str(refused.value))
    assert not key_file(settings).exists()
    key_file(settings).write_bytes(key)
    assert await restart(settings) == []


@pytest.mark.only_sqlite
async def test_another_key_file_is_refused(tmp_path: Path) -> None:
    settings = await with_a_secret(tmp_path)
    key = key_file(settings).read_bytes()
    key_file(settings).write_bytes(OTHER)
    with pytest.raises(UnfitDatabaseError, match="opens none of the 1 secret in the database"):
        await restart(settings)
    key_file(settings).write_bytes(key)
    assert await restart(settings) == []


@pytest.mark.only_sqlite
@pytest.mark.parametrize("is_lost", [True, False])
async def test_an_operator_goes_on_with_another_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], is_lost: bool
) -> None:
    settings = await with_a_secret(tmp_path)
    old = key_file(settings).read_bytes()
    key_file(settings).unlink()
    if not is_lost:
        key_file(settings).write_bytes(OTHER)
    await asyncio.to_thread(migrate, settings, new_secrets_key=True)
    assert (key_file(settings).read_bytes() == OTHER) is not is_lost
    capsys.readouterr()
    async with running(settings) as services:
        await _first_start(services)
        said = "the key of secrets does not open 1 of the database's secrets, credential:acme/up"
        assert said in capsys.readouterr().err
        rows = await services.shared.db.read(lambda s: AuditLog(s).rows(action="secrets.accept"))
        assert len(rows) == 1
        await set_secret(services)
    assert await restart(settings) == []
    key_file(settings).write_bytes(old)
    with pytest.raises(UnfitDatabaseError, match="opens none"):
        await restart(settings)


@pytest.mark.only_sqlite
async def test_one_secret_of_another_key_stops_no_start(tmp_path: Path) -> None:
    settings = await with_a_secret(tmp_path)
    async with running(settings) as services:
        await set_secret(services, "second")

        def damage(session: object) -> None:
            table = SealedTable(session)  # type: ignore[arg-type]
            table.replace(table.all()[0], b"damaged")

        await services.shared.db.write(damage)
    assert await restart(settings) == ["credential:acme/up"]


@pytest.mark.both_shapes
async def test_every_replica_has_the_key_of_the_first(database: Database) -> None:
    key, another = GivenKeys(b"k" * 32), GivenKeys(b"K" * 32)
    await require_key(database, key, is_shared=True)
    await require_key(database, key, is_shared=True)
    with pytest.raises(UnfitDatabaseError, match="not the key of this database"):
        await require_key(database, another, is_shared=True)
    await accept_key(database, another, utc_now())
    await require_key(database, another, is_shared=True)
    with pytest.raises(UnfitDatabaseError, match="moorage migrate --new-secrets-key"):
        await require_key(database, key, is_shared=True)


def test_a_database_of_several_hosts_needs_a_key_from_outside(make_settings: MakeSettings) -> None:
    settings = make_settings(database_url="postgresql+psycopg://h/x", secrets_key=None)
    with pytest.raises(SettingsError, match="openssl rand"):
        build(settings)
    assert not key_file(settings).exists()
