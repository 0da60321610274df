"""A start with a key that does not fit the secrets in the database."""

from pathlib import Path

import pytest

from app.cli.serve import _first_start
from app.core.principal import OPERATOR
from tests.installation import running
from tests.nouns import a_credential
from tests.web.harbour import add_tenant, proxy_settings


@pytest.mark.parametrize("is_lost", [False, True])
async def test_a_lost_key_is_told_at_the_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], is_lost: bool
) -> None:
    settings = proxy_settings(tmp_path)
    credential = a_credential("bearer", "s3cret")
    async with running(settings) as services:
        await add_tenant(services, "acme")
        await services.tenants.credentials.put("acme", "up", credential, OPERATOR)
    if is_lost:
        (settings.data_dir / "keys" / "secrets.key").unlink()
    capsys.readouterr()
    async with running(settings) as services:
        await _first_start(services)
    said = "warning: keys/secrets.key does not open 1 of the database's secrets, credential:acme/up"
    assert (said in capsys.readouterr().err) is is_lost
