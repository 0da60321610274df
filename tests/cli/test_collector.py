"""The garbage collector pauses while a command starts, and works where a command goes on."""

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.cli.session import admin_api, local
from app.services.assembly import Services
from tests.installation import migrated_url


@pytest.fixture(autouse=True)
def paused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Begin as `program.main` does."""
    monkeypatch.setenv("MOORAGE_DATA_DIR", str(tmp_path / "data"))
    (tmp_path / "data").mkdir()
    migrated_url(tmp_path / "data" / "moorage.db")
    gc.disable()
    yield
    gc.unfreeze()
    gc.enable()


def test_it_works_while_a_command_works_on_the_services() -> None:
    async def work(_: Services) -> bool:
        return gc.isenabled()

    assert local(work)


def test_it_works_while_a_command_asks_the_application() -> None:
    with admin_api(None) as api:
        assert gc.isenabled()
        assert api.list("/tenants") == []
