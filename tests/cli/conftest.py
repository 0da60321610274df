"""Commands run as real processes here; see e2e/process.py and e2e/warm.py."""

from collections.abc import Iterator

import pytest

from tests import postgres
from tests.cli.port import Port, Way, served_port
from tests.e2e.conftest import site as bare_site
from tests.e2e.process import Site
from tests.e2e.warm import Warm
from tests.installation import migrated_url
from tests.shapes import Shape

__all__ = ["bare_site", "port", "site", "tenant", "way"]


@pytest.fixture
def site(bare_site: Site) -> Site:
    """An installation whose database is at the schema of this program; nothing has run yet."""
    (bare_site.data_dir / "keys").mkdir(parents=True, mode=0o700)
    migrated_url(bare_site.data_dir / "moorage.db")
    return bare_site


@pytest.fixture(scope="module")
def port(warm: Warm) -> Iterator[Port]:
    """An installation that is served, for the tests of one module."""
    with served_port(warm, public_url="https://moorage.example") as one:
        yield one


@pytest.fixture(params=["here", "there"])
def way(request: pytest.FixtureRequest, port: Port) -> Way:
    """Both ways that a command goes, one after the other."""
    return Way(port, request.param)


@pytest.fixture
def tenant(way: Way) -> Iterator[str]:
    """A tenant of its own for one test."""
    name = f"acme-{way.where}"
    assert way("tenant", "create", name).code == 0
    yield name
    assert way("tenant", "remove", name, "--yes").code == 0


@pytest.fixture
def two_databases(shape: Shape) -> Iterator[tuple[str | None, str | None]]:
    """URLs of two empty databases; None for the SQLite file of a data directory."""
    if shape is Shape.SQLITE:
        yield None, None
        return
    with postgres.cluster().database() as one, postgres.cluster().database() as two:
        yield one, two
